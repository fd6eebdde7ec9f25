"""``trust``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from said import Cli

from mx_autopatch.engine.config import load


def write(text: str = '[plugins]\nfiles = ["plugin.py"]\nmodules = ["my.patches"]\n') -> Path:
    Path("plugin.py").write_text("PATCHES = ()\n")
    path = Path("autopatch.toml")
    path.write_text(text)
    return path.absolute()


def is_trusted() -> bool:
    return load(script="").trusted


def test_the_configuration_found(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write()
    assert not is_trusted()
    Path("sub").mkdir()
    monkeypatch.chdir("sub")
    said = cli("trust")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"trusted {path} (sha256 ")
    assert f"  with plugin file {path.parent / 'plugin.py'}\n" in said.out
    assert "  it may import my.patches (" in said.out
    assert is_trusted()


def test_a_named_file(cli: Cli) -> None:
    path = write("strict = true\n")
    said = cli("trust", path)
    assert said.code == 0
    assert said.out.endswith("  it names no code\n")


def test_forget(cli: Cli) -> None:
    path = write()
    cli("trust")
    assert cli("trust", "--forget").out == f"{path}: no longer trusted\n"
    assert not is_trusted()
    assert cli("trust", "--forget").out == f"{path}: was not trusted\n"


def test_a_file_that_is_gone_can_be_forgotten(cli: Cli) -> None:
    path = write()
    cli("trust")
    path.unlink()
    assert "no longer trusted" in cli("trust", "--forget", path).out


def test_other_faults_of_the_file_are_told(cli: Cli) -> None:
    write("stric = true\n")
    said = cli("trust")
    assert said.code == 0
    assert "did you mean 'strict'?" in said.err


@pytest.mark.parametrize(
    ("prepare", "args", "message"),
    [
        (lambda: None, (), "no autopatch.toml here or above; name the file"),
        (lambda: None, ("x.toml",), "x.toml: there is no such file"),
        (lambda: write("=\n"), (), "invalid TOML"),
        (lambda: write("[plugins]\nfiles = ['gone.py']\n"), (), "gone.py' cannot be read"),
        (lambda: os.mkdir("d.toml"), ("d.toml",), "cannot be read"),
    ],
)
def test_what_cannot_be_trusted(cli: Cli, prepare, args, message: str) -> None:  # type: ignore[no-untyped-def]
    prepare()
    said = cli("trust", *args)
    assert said.code == 2
    assert message in said.err
    assert said.err.startswith("mx-autopatch: ")
    assert "Traceback" not in said.err

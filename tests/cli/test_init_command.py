"""``init``."""

from __future__ import annotations

from pathlib import Path

from said import Cli

from mx_autopatch.engine.config import load, template


def test_it_writes_the_template(cli: Cli) -> None:
    said = cli("init")
    assert (said.code, said.err) == (0, "")
    assert Path("autopatch.toml").read_text() == template()
    config = load(script="")
    assert config.problems == ()
    assert config.path == str(Path("autopatch.toml").absolute())


def test_into_a_folder(cli: Cli) -> None:
    Path("sub").mkdir()
    assert cli("init", "sub").code == 0
    assert Path("sub/autopatch.toml").exists()


def test_it_overwrites_only_when_forced(cli: Cli) -> None:
    Path("autopatch.toml").write_text("strict = true\n")
    said = cli("init")
    assert said.code == 2
    assert "it is there already; --force overwrites it" in said.err
    assert Path("autopatch.toml").read_text() == "strict = true\n"
    assert cli("init", "--force").code == 0
    assert Path("autopatch.toml").read_text() == template()


def test_a_folder_that_is_not_there(cli: Cli) -> None:
    said = cli("init", "nowhere")
    assert said == (2, "", "mx-autopatch: nowhere: there is no such folder; make it first\n")


def test_a_file_where_a_folder_is_needed(cli: Cli) -> None:
    Path("file").write_text("")
    said = cli("init", "file")
    assert said.code == 2
    assert "file/autopatch.toml: cannot be written: Not a directory" in said.err

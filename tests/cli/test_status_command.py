"""``status``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
from said import Cli, words

import mx_autopatch
from mx_autopatch.cli import starters

Write = Callable[..., Path]

PLUGIN = """
from mx_autopatch import Patch, Provide, Redirect, Replace

def decides():
    raise RuntimeError("must not be called")

PATCHES = (
    Patch("mine.there", (Replace("there.deep:f", 1), Replace("nowhere:f", 1))),
    Patch("mine.absent", (Replace("nowhere:f", 1), Replace("there.nowhere:f", 1))),
    Patch("mine.unmet", (Replace("there:f", 1),), requires=("there-dist>=3",)),
    Patch("mine.asked", (Replace("there:f", 1),), requires=(decides,)),
    Patch("mine.off", (Replace("there:f", 1),), default=False),
    Patch("mine.provided", (Provide("there.native", source="json"),)),
    Patch("mine.provided_there", (Provide("there.deep", source="json"),)),
    Patch("mine.provided_nowhere", (Provide("nowhere.native", source="json"),)),
    Patch("mine.provided_anywhere", (Provide("*.native", source="json"),)),
    Patch("mine.redirected", (Redirect("there.deep", to="json"),)),
    Patch("mine.redirected_if_missing", (Redirect("there.deep", to="json", if_missing=True),)),
)
"""


@pytest.fixture
def project(cli: Cli, write: Write) -> None:
    write({"there/__init__.py": "raise RuntimeError('imported')\n", "there/deep.py": ""})
    Path("plugin.py").write_text(PLUGIN)
    Path("autopatch.toml").write_text('[plugins]\nfiles = ["plugin.py"]\n')


def status(cli: Cli, *args: str) -> Any:
    said = cli(*args, "status", "--json")
    assert said.code == 0
    return json.loads(said.out)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("name", "fires", "why"),
    [
        ("there", True, "at the import of there.deep"),
        ("absent", False, "nothing to patch here: nowhere, there.nowhere"),
        ("unmet", False, "requires there-dist>=3: not installed"),
        ("asked", True, "at the import of there, if decides()"),
        ("off", False, "off by default"),
        ("provided", True, "at the import of there.native"),
        ("provided_there", False, "nothing to patch here: there.deep"),
        ("provided_nowhere", False, "nothing to patch here: nowhere.native"),
        ("provided_anywhere", True, "at the import of *.native"),
        ("redirected", True, "at the import of there.deep"),
        ("redirected_if_missing", False, "nothing to patch here: there.deep"),
    ],
)
def test_what_would_fire(cli: Cli, name: str, fires: bool, why: str) -> None:
    rows = {row["name"]: row for row in status(cli, "--config", "autopatch.toml")["patches"]}
    assert rows[f"mine.{name}"]["would fire"] is fires
    text = words(cli("--config", "autopatch.toml", "status").out)
    assert f"mine.{name} {'yes' if fires else 'no'} {why}" in text
    assert "there" not in sys.modules


def test_versions(cli: Cli) -> None:
    versions = status(cli)["versions"]
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["mx_autopatch"] == mx_autopatch.__version__
    assert versions["click"]
    assert "mmcv-full" in versions
    text = words(cli("status").out)
    assert f"python {versions['python']} {sys.executable}" in text
    assert "not installed: " in text


def test_nothing_is_imported_for_it(cli: Cli) -> None:
    before = set(sys.modules)
    cli("status")
    tops = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not tops & {"torch", "torch_npu", "numpy", "mmcv", "mmengine", "mmdet"}


def test_each_value_with_its_source(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("pyproject.toml").write_text(
        "[tool.mx_autopatch]\nstrict = true\ndevice = 'cpu'\n"
        "[tool.mx_autopatch.patches]\ndisable = ['mmcv.ext', 'numpy.aliases']\n"
        "[tool.mx_autopatch.patches.options.'numpy.aliases']\nday = 2024-01-01\n"
        "[tool.mx_autopatch.modules]\nstub = ['open3d', {name = 'x.y', probes = 'absent'}]\n"
    )
    monkeypatch.setenv("MX_AUTOPATCH_DEVICE", "npu")
    found = status(cli, "--only", "mmcv.*,yapf.*")["config"]
    assert found["path"] == os.path.abspath("pyproject.toml")
    values = {name: (row["value"], row["source"]) for name, row in found["values"].items()}
    assert values["strict"] == (True, found["path"])
    assert values["device"] == ("npu", "environment MX_AUTOPATCH_DEVICE")
    assert values["patches.only"] == (["mmcv.*", "yapf.*"], "command line --only")
    assert values["patches.options"][0] == {"numpy.aliases": {"day": "2024-01-01"}}
    assert values["report.level"] == ("summary", "default")
    text = words(cli("status").out)
    assert "strict true" in text
    assert "patches.disable mmcv.ext, numpy.aliases" in text
    assert "modules.stub open3d present, x.y absent" in text
    assert "device npu environment MX_AUTOPATCH_DEVICE" in text


def test_a_module_of_plugins_in_this_folder(cli: Cli) -> None:
    Path("mine.py").write_text(PLUGIN)
    Path("autopatch.toml").write_text("[plugins]\nmodules = ['mine']\n")
    found = status(cli, "--config", "autopatch.toml")
    assert found["problems"] == []
    assert "mine.there" in [row["name"] for row in found["patches"]]
    sys.modules.pop("mine", None)


def test_problems_are_shown(cli: Cli) -> None:
    Path("autopatch.toml").write_text("stric = true\n")
    said = cli("status")
    assert said.code == 0
    assert "unknown key; did you mean 'strict'?" in words(said.out)
    assert status(cli)["problems"]


@pytest.mark.parametrize(
    ("pth", "variable", "sentence"),
    [
        (True, "1", "so `python SCRIPT` is patched"),
        (True, None, "is not patched; it is with MX_AUTOPATCH=1"),
        (True, "off", "is not patched; it is with MX_AUTOPATCH=1"),
        (False, "1", "only `python -m mx_autopatch SCRIPT` is; `mx-autopatch install`"),
    ],
)
def test_activation(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pth: bool,
    variable: str | None,
    sentence: str,
) -> None:
    monkeypatch.setattr(starters, "site_folders", lambda: [str(tmp_path)])
    if pth:
        (tmp_path / "mx_autopatch.pth").write_text("")
    if variable is not None:
        monkeypatch.setenv("MX_AUTOPATCH", variable)
    text = words(cli("status").out)
    assert sentence in text
    assert f"MX_AUTOPATCH: {variable or 'not set'}" in text


def test_our_sitecustomize_counts(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starters, "site_folders", lambda: [str(tmp_path)])
    monkeypatch.syspath_prepend(starters.sitecustomize_folder())
    found = status(cli)["activation"]
    assert found["sitecustomize is ours"] is True
    assert found["starts with python"] is True
    assert "(ours)" in cli("status").out

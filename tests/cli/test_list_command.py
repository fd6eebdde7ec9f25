"""``list``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from said import Cli, words

from mx_autopatch.patches.index import INDEX

PLUGIN = """
from mx_autopatch import Patch, Replace, Wrap
PATCHES = (
    Patch("mine.odd", (Replace("victim:REG._module_dict[X]", 1),), doc="First.\\nMore."),
    Patch("mine.off", tuple(Replace(f"victim:{c}", 1) for c in "abcd"), default=False),
)
"""


def test_every_patch_is_there(cli: Cli) -> None:
    said = cli("list")
    assert said.code == 0
    assert said.err == ""
    for name in INDEX:
        assert name in said.out
    assert "during mmcv:__version__ in mmdet" in said.out
    assert "and 18 more" in said.out


def test_nothing_is_imported_for_it(cli: Cli) -> None:
    before = set(sys.modules)
    cli("list")
    tops = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not tops & {"torch", "numpy", "mmcv", "mmengine", "mmdet"}


def test_why_a_patch_is_not_as_by_default(cli: Cli) -> None:
    said = cli("--disable", "numpy.aliases", "list")
    assert "numpy.aliases numpy on off define numpy:bool" in words(said.out)
    sentence = "numpy.aliases is off because patches.disable names 'numpy.aliases' (command line"
    assert said.out.endswith(f"\n\n{sentence} --disable)\n")


def test_json(cli: Cli) -> None:
    rows = {row["name"]: row for row in json.loads(cli("--only", "yapf.*", "list", "--json").out)}
    row = rows["yapf.format_code"]
    assert (row["scope"], row["default"], row["on"]) == ("yapf", True, True)
    assert "patches.only names 'yapf.*'" in row["why"]
    assert row["edits"][0] == {
        "kind": "wrap",
        "target": "yapf.yapflib.yapf_api:FormatCode",
        "trigger": "yapf.yapflib.yapf_api",
    }
    assert row["requires"]
    assert row["summary"]
    assert rows["numpy.aliases"]["on"] is False


def test_patches_of_a_plugin(cli: Cli) -> None:
    Path("plugin.py").write_text(PLUGIN)
    Path("autopatch.toml").write_text('[plugins]\nfiles = ["plugin.py"]\n')
    said = cli("list")
    assert "mine.odd" not in said.out  # found, not named: nothing of it runs
    assert "mx-autopatch trust" in said.err
    said = cli("--config", "autopatch.toml", "list")
    assert said.err == ""
    assert "replace victim:REG._module_dict[X]" in said.out  # no markup of rich
    assert "mine.off mine off off replace victim:a replace victim:b and 2 more" in words(said.out)


def test_a_fault_of_the_configuration_is_told_and_the_rest_shown(cli: Cli) -> None:
    Path("autopatch.toml").write_text('[patches]\ndisable = ["numpy.alias"]\n')
    said = cli("list")
    assert said.code == 0
    assert "did you mean 'numpy.aliases'?" in said.err
    assert "numpy.aliases" in said.out


def test_a_narrow_terminal_cuts_nothing_off(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out = cli("list").out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 60
    assert "yapf.yapflib.yapf_api:FormatCode" in "".join(out.split())

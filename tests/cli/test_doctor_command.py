"""``doctor``: the table, the exit status, and a patch that is off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest
from said import Cli, words

pytest.importorskip("torch")


@pytest.fixture
def modules(write: Callable[..., Path]) -> Path:
    return write({"collected.py": "from collections import Mapping\n", "healthy.py": ""})


def test_what_a_patch_fixes_is_no_failure(cli: Cli, modules: Path) -> None:
    said = cli("doctor", "collected", "healthy")
    assert said.code == 0
    text = words(said.out)
    assert "fixed collected import collected: Python 3.10 and later" in text
    assert "by python.collections_aliases" in text
    assert "ok healthy imports: healthy" in text
    assert "fixed: with MX_AUTOPATCH=1" in text


def test_a_patch_that_is_off_fixes_nothing(cli: Cli, modules: Path) -> None:
    Path("autopatch.toml").write_text('[patches]\ndisable = ["python.collections_aliases"]\n')
    said = cli("doctor", "collected", "--json")
    assert said.code == 1
    (row,) = [row for row in json.loads(said.out) if row["subject"] == "collected"]
    assert row["verdict"] == "fails"


def test_a_script_that_wants_what_is_not_there(cli: Cli) -> None:
    Path("train.py").write_text("import package_of_nowhere\n")
    said = cli("doctor", "train.py")
    assert said.code == 1
    assert "train.py imports it; package_of_nowhere is not installed" in words(said.out)


def test_a_script_that_is_not_there(cli: Cli) -> None:
    said = cli("doctor", "nowhere.py")
    assert said.code == 2
    assert "nowhere.py: " in said.err

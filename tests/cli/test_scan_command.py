"""``scan``: the table, --all, --json, --write, and a patch that is off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from said import Cli, words

SOURCE = """\
import torch
import numpy as np

def step(x):
    torch.cuda.nvtx.range_pop()
    return x.cuda(), np.float
"""


@pytest.fixture
def source(cli: Cli) -> Path:
    path = Path.cwd() / "train.py"
    path.write_text(SOURCE)
    return path


def test_what_is_open_is_told_and_the_rest_counted(cli: Cli, source: Path) -> None:
    said = cli("scan")
    assert said.code == 0
    text = words(said.out)
    assert "train.py:5 cuda-only torch.cuda.nvtx.range_pop()" in text
    assert "train.py:6" not in text
    assert "1 cuda-method, handled by torch.transfer_to_npu" in text
    assert "1 gone-name, handled by numpy.aliases" in text
    assert "1 files, 3 findings, 1 of them open" in text
    assert "train.py:6 cuda-method" in words(cli("scan", "--all").out)


def test_json_is_complete(cli: Cli, source: Path) -> None:
    data = json.loads(cli("scan", source, "--json").out)
    assert data["files"] == 1
    rows = [(row["line"], row["rule"], row["patch"]) for row in data["findings"]]
    assert rows == [
        (5, "cuda-only", ""),
        (6, "cuda-method", "torch.transfer_to_npu"),
        (6, "gone-name", "numpy.aliases"),
    ]
    assert all(row["qualname"] == "step" and row["advice"] for row in data["findings"])


def test_a_patch_that_is_off_is_named(cli: Cli, source: Path) -> None:
    Path("autopatch.toml").write_text('[patches]\ndisable = ["numpy.aliases"]\n')
    said = cli("scan")
    assert "numpy.aliases is off here: " in said.out


def test_write_begins_a_file_once(cli: Cli, source: Path) -> None:
    assert cli("scan", "--write", "patches.py").code == 0
    assert '"train:step"' in Path("patches.py").read_text()
    said = cli("scan", "--write", "patches.py")
    assert said.code == 2
    assert "patches.py is there already" in said.err


def test_a_path_that_is_not_there(cli: Cli) -> None:
    said = cli("scan", "nowhere")
    assert (said.code, said.err) == (2, "mx-autopatch: nowhere: no such file or folder\n")

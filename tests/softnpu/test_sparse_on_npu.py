"""mmcv.sparse_conv3d and mmcv.voxelization on the soft NPU: numbers and gradients of the CPU.

mmcv-lite and mmdet3d, unmodified, in processes of their own; see sparse_on_npu.py.
"""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import APART, HERE, environment, python

if importlib.util.find_spec("mmcv") is None:
    pytest.skip("mmcv is not installed", allow_module_level=True)

SCRIPT = HERE / "softnpu" / "sparse_on_npu.py"
# With what mmdet3d's models import.
HAS_MMDET3D = importlib.util.find_spec("mmdet3d") is not None and APART.is_dir()


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    env = environment([HERE / "softnpu", APART], active=True)
    # mmcv and what it imports warn of deprecations of their own.
    done = python(SCRIPT, *arguments, cwd=folder, env=env, warnings=False, timeout=300)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Without mx_driving and with a fake of it, at the same time."""
    with ThreadPoolExecutor() as pool:
        both = (
            pool.submit(run, tmp_path_factory.mktemp("alone")),
            pool.submit(run, tmp_path_factory.mktemp("with"), "mx_driving"),
        )
        return [future.result() for future in both]


@pytest.mark.parametrize("with_mx_driving", [False, True])
def test_everything_is_as_on_the_cpu(runs: list[dict[str, Any]], with_mx_driving: bool) -> None:
    results = runs[with_mx_driving]["wrong"]
    assert {name: text for name, text in results.items() if text} == {}
    assert len(results) >= 22
    assert ("SparseUNet" in results) is HAS_MMDET3D


def test_what_mx_driving_computes(runs: list[dict[str, Any]]) -> None:
    assert runs[0]["calls"] == {}
    calls = runs[1]["calls"]
    # Layers of one key share their pairs: found once, used again.
    assert calls["pairs"] < calls["SubMConv3d"] + calls["SparseConv3d"]
    assert {"SubMConv3d", "SparseConv3d", "hard", "dynamic"} < set(calls)
    if HAS_MMDET3D:
        assert {"SubMConv3d", "SparseConv3d"} < set(runs[1]["of the encoders"])


def test_the_outcomes(runs: list[dict[str, Any]]) -> None:
    for outcomes in (run["outcomes"] for run in runs):
        assert {status for _, _, status, _ in outcomes} == {"APPLIED"}
        assert {patch for patch, *_ in outcomes} == {"mmcv.sparse_conv3d", "mmcv.voxelization"}

"""The public operators of mmcv on the soft NPU: numbers and gradients of the CPU, or golden ones.

mmcv-lite, unmodified, in one process of its own; see mmcv_on_npu.py.
"""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import HERE, environment, python

if importlib.util.find_spec("mmcv") is None:
    pytest.skip("mmcv is not installed", allow_module_level=True)

GOLDEN = HERE.parents[1] / "shared" / "golden" / "mmcv_ops"
SCRIPT = HERE / "softnpu" / "mmcv_on_npu.py"
PATCHES = (
    *("mmcv.deform_conv2d", "mmcv.modulated_deform_conv2d", "mmcv.msda", "mmcv.nms"),
    *("mmcv.roi_align", "mmcv.sigmoid_focal_loss"),
)


def run(cwd: Path, *arguments: str | Path, **more: str) -> dict[str, Any]:
    env = environment(active=True, **more)
    # mmcv and what it imports warn of deprecations of their own.
    done = python(SCRIPT, *arguments, cwd=cwd, env=env, warnings=False, timeout=300)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """With the patches and without, at the same time."""
    golden = [GOLDEN] if GOLDEN.is_dir() else []
    with ThreadPoolExecutor() as pool:
        both = (
            pool.submit(run, tmp_path_factory.mktemp("patched"), *golden),
            pool.submit(
                run, tmp_path_factory.mktemp("alone"), MX_AUTOPATCH_DISABLE=",".join(PATCHES)
            ),
        )
        return [future.result() for future in both]


@pytest.fixture
def patched(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return runs[0]


def test_every_call_is_right(patched: dict[str, Any]) -> None:
    assert {name: wrong for name, wrong in patched["wrong"].items() if wrong} == {}
    assert len(patched["wrong"]) >= 23


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden data at {GOLDEN}")
def test_the_golden_cases_are_among_them(patched: dict[str, Any]) -> None:
    assert {path.stem for path in GOLDEN.glob("*.npz")} <= set(patched["wrong"])


def test_the_fused_kernels_are_called(patched: dict[str, Any]) -> None:
    called = patched["called"]
    backward = called["npu::npu_deformable_conv2dbk"]
    assert backward >= 4
    # A compiled backward pass has kept nothing of the forward one, and calculates it again.
    assert called["npu::npu_deformable_conv2d"] == backward + 1
    assert called["npu::npu_roi_align"] == called["npu::npu_roi_alignbk"] >= 2


def test_what_mmcv_gets_wrong_by_itself(runs: list[dict[str, Any]]) -> None:
    """Kernels that are not square, and the caller's own angles: else the patches may go."""
    wrong = {name: text for name, text in runs[1]["wrong"].items() if text}
    assert set(wrong) == {
        *("DeformConv2dPack", "ModulatedDeformConv2dPack", "DeformConv2dFunction"),
        *("nms_rotated_labels", "compiled"),
    }
    assert "kernel_size [2, 3] is not the weight's, [3, 2]" in wrong["DeformConv2dPack"][0]

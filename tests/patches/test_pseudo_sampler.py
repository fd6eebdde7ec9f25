"""mmdet.pseudo_sampler on the installed mmdet: samples, losses and gradients stay the same."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers import APART, HAS_TORCH_NPU, HERE, environment, python

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "mmcv", "mmdet", "mmdet3d")),
    reason="needs torch, mmcv, mmdet and mmdet3d",
)

DEVICES = ("cpu", "npu") if HAS_TORCH_NPU else ("cpu",)


def trial(folder: Path) -> dict[str, Any]:
    script = HERE / "patches" / "samplers_trial.py"
    # mmdet and its libraries warn of deprecations of their own.
    env = environment([APART], active=True)  # mmdet3d wants numba
    done = python(script, *DEVICES, cwd=folder, env=env, warnings=False, timeout=240)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def assert_same_with_half_the_waiting(seen: dict[str, Any], samples: int) -> None:
    """``samples`` were drawn on each device, and a head was trained."""
    assert seen["equal"] == dict.fromkeys(seen["equal"], True)
    dtype, (count,), indices = seen["positive"]
    assert dtype == "torch.int64"
    assert indices == sorted(set(indices))
    assert 0 < count < 40
    twice = 2 * samples * len(DEVICES)
    assert seen["calls"] == [{"nonzero": twice, "_unique2": twice}, {"nonzero": twice}]
    assert seen["reverted"]


def test_the_same_samples_losses_and_gradients(tmp_path: Path) -> None:
    seen = trial(tmp_path)
    assert_same_with_half_the_waiting(seen, 7)
    assert {name: said for name, said in seen["outcomes"].items() if said[0] != "PENDING"} == {
        name: ["LATE", ""]
        for name in (
            "mmdet.models.task_modules.samplers.pseudo_sampler",
            "mmdet.models.task_modules.samplers.mask_pseudo_sampler",
            "mmdet3d.models.task_modules.samplers.pseudosample",
            "mmdet.models.dense_heads.detr_head",
            "mmdet.models.dense_heads.grounding_dino_head",
        )
    }

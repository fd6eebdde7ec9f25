"""The patches of ResNets on those of mmdet, mmseg, mmpretrain, mmcv, mmdet3d and a project.

On the CPU nothing but the source changes; on the soft NPU a fake of mx_driving computes.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers import APART, HAS_TORCH_NPU, HERE, environment, python

NEEDED = ("torch", "mmcv", "mmdet", "mmseg", "mmdet3d")
pytestmark = [
    pytest.mark.skipif(
        any(find_spec(name) is None for name in NEEDED), reason=f"needs {', '.join(NEEDED)}"
    ),
    pytest.mark.skipif(not APART.is_dir(), reason=f"needs mmpretrain in {APART}"),
]

# mmpretrain imports them, and a ResNet does not use them.
SETTINGS = '[modules]\nstub = ["torchvision", "modelindex"]\n'
DEVICES = ("cpu", "npu") if HAS_TORCH_NPU else ("cpu",)

FLAT, RETURNED, CHECKPOINTED = range(3)
MATCHES = {
    FLAT: {
        *("mmcv.cnn.resnet:BasicBlock", "mmdet3d.models.backbones.dla:BasicBlock"),
        "own_resnets:Flat",
    },
    RETURNED: {"own_resnets:defined_later.<locals>.Later"},
    CHECKPOINTED: {
        "mmcv.cnn.resnet:Bottleneck",
        *("mmdet.models.backbones.resnet:BasicBlock", "mmdet.models.backbones.resnet:Bottleneck"),
        *("mmseg.models.backbones.resnet:BasicBlock", "mmseg.models.backbones.resnet:Bottleneck"),
        "mmpretrain.models.backbones.resnet:BasicBlock",
        "mmpretrain.models.backbones.resnet:Bottleneck",
        "mmpretrain.models.backbones.seresnet:SEBottleneck",
        "mmpretrain.models.backbones.res2net:Bottle2neck",
        "mmdet.models.backbones.res2net:Bottle2neck",
        *(f"{name}.models.backbones.resnest:Bottleneck" for name in NEEDED[2:4]),
        "mmpretrain.models.backbones.resnest:Bottleneck",
    },
}
RESNETS = {
    f"{name}:ResNet"
    for name in (
        "mmcv.cnn.resnet",
        *(f"{package}.models.backbones.resnet" for package in ("mmdet", "mmseg", "mmpretrain")),
    )
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return trial(tmp_path_factory.mktemp("resnets"))


def trial(folder: Path) -> dict[str, Any]:
    (folder / "autopatch.toml").write_text(SETTINGS)
    env = environment([APART, HERE / "softnpu"], active=True)
    arguments = [HERE / "patches" / "resnets_trial.py", *DEVICES[1:]]
    # The libraries warn of deprecations of their own.
    done = python(*arguments, cwd=folder, env=env, warnings=False, timeout=240)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def matched(outcome: list[str]) -> set[str]:
    status, reason = outcome
    assert status == "LATE", reason
    assert "not in" not in reason
    return set(reason.removeprefix("in ").split(", ")) - {"no class has matched"}


def test_blocks_of_every_library_match(seen: dict[str, Any]) -> None:
    found = [matched(outcome) for outcome in seen["later"]["mmdet.resnet_add_relu"]]
    assert dict(enumerate(found)) == MATCHES
    # One was defined after the patch was applied.
    before = [matched(outcome) for outcome in seen["outcomes"]["mmdet.resnet_add_relu"]]
    assert before == [MATCHES[FLAT], set(), MATCHES[CHECKPOINTED]]


def test_poolings_match(seen: dict[str, Any]) -> None:
    (outcome,) = seen["outcomes"]["mmdet.resnet_maxpool"]
    assert matched(outcome) >= RESNETS


def assert_same_and_taken_back(seen: dict[str, Any], models: int) -> None:
    """To the last bit, checkpointed, with plugins, frozen, of a deep stem and otherwise."""
    assert {name: off for name, (off, _, _) in seen["sums"].items() if off} == {}
    assert len(seen["sums"]) == models * len(DEVICES)
    for name, (_, calls, expected) in seen["sums"].items():
        assert calls == (expected if name.endswith(", npu") else 0), name
    assert seen["pools"] == {
        f"{device}, {which}": [True, int((device, which) == ("npu", "frozen"))]
        for device in DEVICES
        for which in ("frozen", "trained")
    }
    assert seen["reverted"]
    assert seen["compiled"]


def test_the_same_numbers_gradients_and_statistics(seen: dict[str, Any]) -> None:
    assert_same_and_taken_back(seen, models=15)


@pytest.mark.skipif(not HAS_TORCH_NPU, reason="needs an NPU, be it soft")
def test_where_the_kernel_begins_and_what_it_overwrites(seen: dict[str, Any]) -> None:
    assert seen["limit"] == [0, 1, 0]
    assert "modified by an inplace operation" in seen["saved output"]


@pytest.mark.parametrize(("dtype", "near"), [("float16", 0.02), ("bfloat16", 0.1)])
def test_half_precision(seen: dict[str, Any], dtype: str, near: float) -> None:
    half = seen["half"][dtype]
    assert half["within"] == [f"torch.{dtype}"]
    assert half["outputs"] == half["gradients"] == ["torch.float32"]
    assert 0 < half["distance"] < near
    chosen, resnets = half["outcomes"]
    assert chosen == ["LATE", f"in {dtype}"]
    assert matched(resnets) == RESNETS


def test_another_dtype_is_refused(seen: dict[str, Any]) -> None:
    said = "patches.options.'mmdet.resnet_fp16'.dtype: 'int8' is not one of float16, bfloat16"
    assert ["FAILED", said] in seen["no dtype"]

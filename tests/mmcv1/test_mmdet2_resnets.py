"""The patches of ResNets on mmdet 2.x, mmseg 0.x and mmcv 1.x."""

from __future__ import annotations

import sys
from pathlib import Path

from helpers import HERE

sys.path.append(str(HERE / "patches"))
from test_resnets import CHECKPOINTED, FLAT, assert_same_and_taken_back, matched, trial


def test_the_same_numbers_and_the_kernels_called(tmp_path: Path) -> None:
    seen = trial(tmp_path)
    assert_same_and_taken_back(seen, models=12)
    found = [matched(outcome) for outcome in seen["outcomes"]["mmdet.resnet_add_relu"]]
    assert found[FLAT] == {"mmcv.cnn.resnet:BasicBlock", "own_resnets:Flat"}
    blocks = {
        f"{package}.models.backbones.resnet:{block}"
        for package in ("mmdet", "mmseg")
        for block in ("BasicBlock", "Bottleneck")
    }
    assert found[CHECKPOINTED] > {"mmcv.cnn.resnet:Bottleneck", *blocks}

"""mmdet.pseudo_sampler on mmdet 2.x."""

from __future__ import annotations

import sys
from pathlib import Path

from helpers import HERE

sys.path.append(str(HERE / "patches"))
from test_pseudo_sampler import assert_same_with_half_the_waiting, trial


def test_the_same_samples_losses_and_gradients(tmp_path: Path) -> None:
    seen = trial(tmp_path)
    assert seen["version"] == "2.28.2"
    assert_same_with_half_the_waiting(seen, 5)
    assert {name: said for name, said in seen["outcomes"].items() if said[0] != "PENDING"} == {
        "mmdet.core.bbox.samplers.pseudo_sampler": ["LATE", ""],
        "mmdet.core.bbox.samplers.mask_pseudo_sampler": ["LATE", ""],
        "mmdet.models.dense_heads.detr_head": [
            *("UNMET", "in this release it samples by a sampler")
        ],
    }

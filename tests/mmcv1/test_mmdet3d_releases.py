"""mmdet3d.nuscenes_dataset on mmdet3d 0.17 and 1.0rc, unmodified, on today's torch and numpy."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers import HERE

sys.path.append(str(HERE / "patches"))
from test_nuscenes import DATASET, assert_same_and_taken_back, trial

#: Laid down by the Makefile, as published.
SOURCES = Path(sys.prefix) / "mmdet3d"

# 0.17 has compiled operators of its own, and looks for a module of numba's of that time.
SETTINGS = """
[modules]
stub = ["mmdet3d.ops", "trimesh", "skimage", "networkx"]
redirect = { "numba.errors" = "numba.core.errors" }
"""
OF_LATER = "it has no parameter with_velocity"
OF_EARLIER = "it has parameter with_velocity"


@pytest.mark.parametrize(
    ("version", "other"), [("0.17.1", OF_LATER), ("1.0.0rc6", OF_EARLIER)], ids=["0.17", "1.0rc"]
)
def test_the_dataset_writes_and_scores_the_same(tmp_path: Path, version: str, other: str) -> None:
    source = SOURCES / f"mmdet3d-{version}"
    assert source.is_dir(), f"{source} is missing: make .venv-mmcv1/ready lays it down"
    settings = SETTINGS if version < "1" else SETTINGS.replace('"mmdet3d.ops", ', "")
    (tmp_path / "autopatch.toml").write_text(settings)
    seen = trial(tmp_path, source)
    assert seen["version"] == version
    assert_same_and_taken_back(seen)
    dataset = [
        (status, reason) for patch, _, status, reason in seen["outcomes"] if patch == DATASET
    ]
    assert sorted(dataset) == [*[("LATE", "")] * 6, ("UNMET", other)]

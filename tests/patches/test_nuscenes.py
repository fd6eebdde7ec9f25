"""mmdet3d.nuscenes_metric on the installed mmdet3d, with the real devkit and made-up tables."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers import APART, HERE, environment, python

pytestmark = [
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("torch", "mmcv", "mmdet3d")),
        reason="needs torch, mmcv and mmdet3d",
    ),
    pytest.mark.skipif(not APART.is_dir(), reason=f"needs nuscenes-devkit in {APART}"),
]

SCRIPT = HERE / "patches" / "nuscenes_trial.py"
DATASET, METRIC = "mmdet3d.nuscenes_dataset", "mmdet3d.nuscenes_metric"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("nuscenes")
    return trial(folder)


def trial(folder: Path, *path: Path) -> dict[str, Any]:
    """Run the script with these folders of modules before all others."""
    env = environment([*path, APART], active=True)
    # mmdet3d and its libraries warn of themselves.
    done = python(SCRIPT, cwd=folder, env=env, warnings=False, timeout=240)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def assert_same_and_taken_back(seen: dict[str, Any]) -> None:
    """Every bit of every box, and the results the devkit scores; then the very functions."""
    assert seen["equal"] == dict.fromkeys(seen["equal"], True)
    assert set(seen["equal"]) == {"lidar", "camera", "unusual", "written", "metrics"}
    assert 0 < seen["kept"] < seen["boxes"]  # some are out of range
    assert float(seen["car"]) > 0.95  # the trial's boxes are near the truth
    assert all(seen["replaced"])
    assert seen["reverted"]
    assert seen["distance"] < 1e-5
    slow, fast = seen["microseconds"]
    assert fast < slow / 2, seen["microseconds"]  # 4 to 8 times where nothing else runs


def test_the_metric_writes_and_scores_the_same(seen: dict[str, Any]) -> None:
    assert_same_and_taken_back(seen)
    metric = [(status, reason) for patch, _, status, reason in seen["outcomes"] if patch == METRIC]
    assert metric == [("LATE", "")] * 9


def test_the_dataset_has_nothing_to_convert(seen: dict[str, Any]) -> None:
    """In this release; tests/mmcv1/test_mmdet3d_releases.py has those in which it has."""
    dataset = [row[2:] for row in seen["outcomes"] if row[0] == DATASET]
    assert ["UNMET", "in this release the metric converts: see mmdet3d.nuscenes_metric"] in dataset
    assert {status for status, _ in dataset} == {"UNMET", "PENDING"}

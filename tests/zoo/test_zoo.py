"""A part of the zoo, and the judgement of its harness; ``make zoo`` runs all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import known
import pytest
import zoo
from trial import Result

#: Modulated deformable convolution; deformable attention; masked convolution and deformable
#: convolution; PSAMask; voxels, sparse convolution and rotated NMS.
PART = (
    "mmdet/centernet/centernet_r18-dcnv2",
    "mmdet/deformable_detr/deformable-detr_r50",
    "mmdet/guided_anchoring/ga-retinanet",
    "mmseg/psanet/psanet_r50",
    "mmdet3d/second/",
)


def _installed(*packages: str) -> None:
    """Skip without them; importing them asks for the engine, which is not active here."""
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"not installed: {package}")


@pytest.mark.parametrize("package", ["mmdet", "mmseg", "mmdet3d"])
def test_every_folder_of_configs_is_in_the_zoo_or_said_to_be_missing(package: str) -> None:
    _installed(package)
    if package != "mmdet3d":  # of which six models were chosen
        assert zoo.missing_folders(package) == []
    here = zoo.folder_of_configs(package)
    assert [name for name in zoo.CASES[package] if not (here / name).is_file()] == []


def test_models_build_predict_and_train_on_mmcv_lite() -> None:
    _installed("mmdet", "mmseg", "mmdet3d")
    script = Path(zoo.__file__)
    command = [sys.executable, "-m", "mx_autopatch", str(script), "--jobs", "2", "--only", *PART]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=script.parents[2],
    )
    assert done.returncode == 0, done.stdout
    assert "5 configs: 5 ok" in done.stdout


def test_what_is_known_not_to_pass_is_checked_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = known.Known("build", "No module named 'x'", "x is not installed", "x_of_zoo")
    monkeypatch.setitem(known.KNOWN, "mmdet/some", entry)
    monkeypatch.setitem(known.KNOWN, "mmdet/more", entry._replace(without="pytest"))

    def judged(stage: str, cause: str = "", config: str = "some/a.py") -> str:
        return zoo.judge(Result("mmdet", config, stage, cause))

    assert judged("build", "ModuleNotFoundError: No module named 'x'") == "known"
    assert judged("build", "KeyError: 'x'") == "FAILED"
    assert judged("loss", "No module named 'x'") == "FAILED"
    assert judged("all") == "PASSES, but is listed as known not to"
    assert judged("all", config="other/a.py") == "ok"
    # Where the package is there, the entry counts for nothing.
    assert judged("all", config="more/a.py") == "ok"
    assert judged("build", "No module named 'x'", config="more/a.py") == "FAILED"
    assert judged("loss", "KeyError: 'x'", config="other/a.py") == "FAILED"


def test_a_config_that_takes_too_long_or_dies_is_a_failure() -> None:
    blank = Result("mmdet", "some/a.py")
    assert zoo._result(b"", blank, 9, False, 5).cause == "more than 5 s"
    assert zoo._result(b"", blank, 11, True, 5).cause == "ended with status 11"
    assert zoo.judge(blank) == "FAILED"

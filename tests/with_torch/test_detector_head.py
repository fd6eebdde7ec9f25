"""A head with convolution, attention, suppression and pooling of mmcv-lite compiles whole."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import environment

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "mmcv", "mmdet")),
    reason="needs torch, mmcv and mmdet",
)


def test_it_gives_results_and_gradients_of_eager(tmp_path: Path) -> None:
    script = Path(__file__).with_name("detector_head.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), "cpu", "eager", "aot_eager"],
        env=environment(active=True, OMP_NUM_THREADS="1"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"cpu {backend}: [38, 34] boxes and 37 tensors as eager"
        for backend in ("eager", "aot_eager")
    ]

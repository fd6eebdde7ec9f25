"""tests/with_torch/detector_head.py on the soft NPU: its kernels, in one compiled graph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from helpers import ROOT, environment


def test_it_gives_results_and_gradients_of_eager(tmp_path: Path) -> None:
    script = ROOT / "tests" / "with_torch" / "detector_head.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), "npu", "aot_eager"],
        env=environment(active=True, OMP_NUM_THREADS="1"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["npu aot_eager: [38, 34] boxes and 37 tensors as eager"]

"""What `make demo-npu` shows, with fewer iterations."""

from __future__ import annotations

import re
from pathlib import Path

from helpers import ROOT, environment, python


def test_the_examples_train_on_the_soft_npu_as_on_the_cpu(tmp_path: Path) -> None:
    # Fails by itself if the losses differ by more than 1e-4 or do not fall.
    env = environment(active=True, MX_AUTOPATCH_DEVICE="cpu")
    script = ROOT / "examples" / "demo_npu.py"
    run = python(script, "--short", cwd=tmp_path, env=env, warnings=False, timeout=280)
    rows = re.findall(r"^ +(\d+) +([\d.]+) +([\d.]+) +[\d.]+e[+-]\d+$", run.stdout, re.MULTILINE)
    assert [int(step) for step, _, _ in rows] == list(range(1, 11))
    assert all(0.5 < float(loss) < 3 for _, *losses in rows for loss in losses)
    assert "first 10 within 0.0001: yes" in run.stdout
    epochs = re.findall(r"^epoch (\d).* (\d) processes on Ascend", run.stdout, re.MULTILINE)
    assert epochs == [("1", "2"), ("2", "2")]
    assert run.stdout.rstrip().endswith("the loss falls")

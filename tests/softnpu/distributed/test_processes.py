"""Ranks that a script has started itself, and what is left when one has died."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from launching import HERE, ranks_environment


def test_spawned_ranks_and_one_that_dies(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "spawned.py"), str(tmp_path / "store")],
        env=ranks_environment(2),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "done"
    calls = ("all_reduce", "all_reduce", "receive", "barrier")
    assert lines[:-1] == [f"raised hccl: {call}" for call in calls]

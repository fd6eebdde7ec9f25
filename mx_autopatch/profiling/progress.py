"""Lines on stderr that say where a run is."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

__all__ = ["Progress", "complain", "rank"]

#: Seconds between two lines on the same matter.
INTERVAL = 10.0


def rank() -> int:
    """This process's rank in its job; 0 if it is in none."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    text = os.environ.get("RANK", "")
    return int(text) if text.isdecimal() else 0


def _write(text: str) -> None:
    # stderr is None under pythonw, and may be closed by the time of exit.
    if sys.stderr is not None:
        try:
            sys.stderr.write(f"mx_autopatch: {text}\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return


def complain(text: str) -> None:
    """Say what went wrong, on whichever rank it did."""
    number = rank()
    _write(f"rank {number}: {text}" if number else text)


class Progress:
    """Where the run is, told by rank 0: at events, and once in a while in between."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._due = 0.0  # the first step is told of

    def say(self, text: str) -> None:
        """An event."""
        if rank() == 0:
            _write(text)

    def step(self, count: int, target: str) -> None:
        """A step is done, on the way to ``target``; told if the last line is long ago."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self._interval
            self.say(f"step {count}{target}")

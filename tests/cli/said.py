"""What the tests of the command line share."""

from __future__ import annotations

from typing import Callable, NamedTuple

__all__ = ["Cli", "Said", "words"]


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Said]


def words(text: str) -> str:
    """The text without the line breaks and columns of a table."""
    return " ".join(text.split())

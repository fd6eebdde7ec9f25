"""A change that was made to a target, and how it is taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from mx_autopatch.engine.late import Move
from mx_autopatch.errors import PatchError
from mx_autopatch.model import Status


class Conflict(PatchError):
    """Another patch holds the target."""


@dataclass
class Done:
    """A change that was made.

    ``undo`` takes it back and returns the moves of that.
    """

    undo: Callable[[], list[Move]]
    moves: list[Move] = field(default_factory=list)
    #: Namespaces in which copies are left alone.
    keep: list[Mapping[str, Any]] = field(default_factory=list)
    note: str = ""
    #: What was changed: a module, a class, a mapping.
    owner: Any = None
    #: Where the change goes on: what has become of it by now. The status is a fault's, if any.
    state: Callable[[], tuple[Status | None, str]] | None = None


Plan = Callable[[], Done]


def status_of(error: Exception) -> Status:
    """What an edit is that could not be applied for this reason."""
    if isinstance(error, Conflict):
        return Status.CONFLICT
    return Status.MISSING if isinstance(error, LookupError) else Status.FAILED

"""What every edit is, and what its functions are given."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from mx_autopatch.errors import PatchError
from mx_autopatch.model.targets import parse_target


class _Missing(enum.Enum):
    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "<missing>"


#: "Nothing given", where None is a value like any other.
MISSING = _Missing.MISSING


class NotNeeded(Exception):
    """Raised by a factory or a :class:`Call` to say that there is nothing to do here.

    The outcome is UNMET with the exception's text as its reason.
    """


@dataclass(frozen=True)
class Context:
    """What a factory or a :class:`Call` function is given."""

    #: The trigger's module object (for :class:`During`: about to be executed).
    module: Any
    #: The patch's options: its defaults, overlaid with ``patches.options.<name>``.
    options: Mapping[str, Any]
    #: The frozen configuration (see ``mx_autopatch.engine.config.Config``).
    config: Any


Factory = Callable[[Context], Any]


@dataclass(frozen=True)
class Edit:
    """One change. ``target`` is ``module:qualname``, or a module name where an edit says so."""

    target: str

    def __post_init__(self) -> None:
        parse_target(self.target)

    @property
    def kind(self) -> str:
        return type(self).__name__.lower()

    @property
    def trigger(self) -> str:
        """The module whose execution fires this edit."""
        return self.target.partition(":")[0]


def exactly_one(edit: Edit, **given: Any) -> None:
    # None is a value to bind, but no function.
    functions = ("factory", "wrapper", "function")
    names = [
        name
        for name, value in given.items()
        if value is not MISSING and not (value is None and name in functions)
    ]
    if len(names) != 1:
        raise PatchError(
            f"{type(edit).__name__}({edit.target!r}): give exactly one of {', '.join(given)}; "
            f"given: {', '.join(names) or 'none'}"
        )


def check_callable(edit: Edit, name: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise PatchError(f"{type(edit).__name__}({edit.target!r}): {name} must be callable")

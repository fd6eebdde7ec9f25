"""Patches of a patcher in the processes that this one starts.

What is in force is written into the environment, by name: which function or class of which
module, and with which options. A child that is active (``MX_AUTOPATCH=1``) finds it there
before its first import, and imports the user's module when what that patches has been
imported, not earlier. So spawned workers and subprocesses have the same patches without
applying them again; what they apply themselves they apply once.

What cannot be named is left out, and said so once: a lambda, a function in a function, or one
that the script itself defines, which a child does not import.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from mx_autopatch.engine.entries import PatchEntry
from mx_autopatch.engine.substitutes import SUBSTITUTING
from mx_autopatch.model import Call, Context, Edit, Patch
from mx_autopatch.patcher._units import Unit

VARIABLE = "MX_AUTOPATCH_PATCHER"


class NotNameable(ValueError):
    """A value that another process could not find."""


def encode(value: Any) -> Any:
    """``value`` as JSON types, with functions and classes by name.

    Raises:
        NotNameable: it holds something that has no name.
    """
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (list, tuple)):
        kind = {"$": type(value).__name__, "of": [encode(item) for item in value]}
        return kind if isinstance(value, tuple) else kind["of"]
    if isinstance(value, dict) and all(isinstance(key, str) and key != "$" for key in value):
        return {key: encode(item) for key, item in value.items()}
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "<")
    if not isinstance(module, str) or module == "__main__" or "<" in name:
        raise NotNameable(f"{value!r} cannot be found by name in another process")
    return {"$": "name", "of": f"{module}:{name}"}


def decode(value: Any) -> Any:
    """What :func:`encode` was given; imports the modules that it names."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$" not in value:
        return {key: decode(item) for key, item in value.items()}
    if value["$"] == "tuple":
        return tuple(decode(item) for item in value["of"])
    module, _, path = value["of"].partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def export(units: Iterable[Unit], switched: dict[str, bool]) -> list[str]:
    """Write units into the environment of later children; labels of those left out."""
    left_out, written = [], []
    for unit in units:
        try:
            if unit.reference is None:
                raise NotNameable(unit.label)
            make, arguments = unit.reference
            reference = [encode(make), encode(arguments)]
        except NotNameable:
            left_out.append(unit.label)
            continue
        triggers = list(dict.fromkeys(edit.trigger for edit in unit.edits))
        at_once = any(isinstance(edit, SUBSTITUTING) for edit in unit.edits)
        written.append(
            {
                "label": unit.label,
                "priority": unit.priority,
                "triggers": triggers,
                "at_once": at_once,
                "make": reference,
            }
        )
    if written or switched:
        content = {"pid": os.getpid(), "units": written, "switched": switched}
        os.environ[VARIABLE] = json.dumps(content, separators=(",", ":"))
    else:
        os.environ.pop(VARIABLE, None)
    return left_out


def entries(text: str) -> tuple[list[PatchEntry], dict[str, bool]]:
    """The patches that a parent has exported, and what it has turned on and off.

    None in the process that exported them.
    """
    content = json.loads(text)
    if content["pid"] == os.getpid():
        return [], {}
    found = []
    for number, unit in enumerate(content["units"], start=1):
        label = re.sub(r"\W", "_", unit["label"])
        name = f"patcher.from_parent.{number}_{label}"
        edits: tuple[Edit, ...]
        if unit["at_once"]:
            edits = tuple(edit for made in _make(unit) for edit in made.edits)
        else:
            edits = tuple(Call(trigger, _Carry(unit, trigger)) for trigger in unit["triggers"])
        patch = Patch(name, edits, priority=unit["priority"], doc=unit["label"])
        found.append(PatchEntry.of(patch))
    return found, content["switched"]


class _Carry:
    """Makes a parent's unit anew once a trigger of its has executed, and applies it there."""

    def __init__(self, unit: dict[str, Any], trigger: str) -> None:
        self._unit, self._trigger = unit, trigger

    def __call__(self, context: Context) -> str:
        from mx_autopatch.patcher._ledger import ledger

        label = self._unit["label"]
        try:
            units = _make(self._unit)
        except (ImportError, AttributeError) as error:
            raise LookupError(
                f"{label} is in force in the process that started this one, but cannot be found "
                f"here: {error}"
            ) from error
        for unit in units:
            ledger().hold_at(unit, self._trigger, context.module)
        return f"{label}, as in the process that started this one"


def _make(unit: dict[str, Any]) -> list[Unit]:
    make, arguments = (decode(part) for part in unit["make"])
    made: list[Unit] = make(**arguments)
    return made

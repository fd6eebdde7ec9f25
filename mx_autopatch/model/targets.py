"""Where an edit acts: ``module:qualname``, taken apart."""

from __future__ import annotations

import re
from typing import Any

from mx_autopatch.errors import TargetError


def is_pattern(name: str) -> bool:
    """Whether a trigger is ``*.name``: the module ``name`` of any package."""
    return isinstance(name, str) and name[:2] == "*."


def pattern_of(module: str) -> str:
    """The pattern that ``module`` is one of; empty for a module of no package."""
    package, _, name = module.rpartition(".")
    return f"*.{name}" if package else ""


#: The module half of a target that is relative to a class (see :class:`Subclasses`).
RELATIVE = "*"

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")
_STEP = re.compile(
    r"""\.?(?P<attr>[^\W\d]\w*)      # attribute
      | \[(?P<quote>['"])(?P<quoted>.*?)(?P=quote)\]
      | \[(?P<key>[^\[\]'"]+)\]""",
    re.VERBOSE,
)


def check_module(name: Any, what: str = "module") -> str:
    """Return ``name`` if it is a dotted module name, else raise TargetError."""
    if not isinstance(name, str) or not _MODULE.match(name):
        raise TargetError(f"{what} {name!r}: not a dotted module name such as 'mmcv.ops.nms'")
    return name


def parse_target(target: Any) -> tuple[str, tuple[tuple[bool, str | int], ...]]:
    """Split ``module:qualname`` into the module and its steps.

    Each step is ``(True, attribute)`` or ``(False, key)``. A key in quotes is a
    string, digits are an integer, anything else in brackets is a string.

    >>> parse_target("mmdet.registry:MODELS._module_dict[ResNet]")
    ('mmdet.registry', ((True, 'MODELS'), (True, '_module_dict'), (False, 'ResNet')))

    In place of the module ``*`` stands for a class that is still to be found: see
    :class:`Subclasses`.

    Raises:
        TargetError: the text does not follow the grammar; the message says where.
    """
    if not isinstance(target, str):
        raise TargetError(f"target {target!r}: expected a string 'module:qualname'")
    module, colon, qualname = target.partition(":")
    if not colon or not qualname:
        raise TargetError(f"target {target!r}: expected 'module:qualname', as in 'mmcv.ops:nms'")
    if module != RELATIVE:
        check_module(module, f"target {target!r}: module")
    steps: list[tuple[bool, str | int]] = []
    position = 0
    while position < len(qualname):
        match = _STEP.match(qualname, position)
        # The first step is a bare attribute; every later attribute follows a dot.
        dotted = qualname[position] == "."
        if match is None or (match["attr"] and dotted is not bool(steps)):
            raise TargetError(
                f"target {target!r}: cannot read {qualname[position:]!r}; "
                "write attributes as 'a.b' and entries as 'a[key]'"
            )
        if match["attr"]:
            steps.append((True, match["attr"]))
        elif match["quote"]:
            steps.append((False, match["quoted"]))
        else:
            key = match["key"]
            steps.append((False, int(key) if key.isdecimal() and key.isascii() else key))
        position = match.end()
    if not steps[0][0]:
        raise TargetError(f"target {target!r}: the qualname must begin with an attribute")
    return module, tuple(steps)

"""Patches, and what becomes of their edits."""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Union

from mx_autopatch.errors import PatchError
from mx_autopatch.model.base import Edit
from mx_autopatch.model.targets import RELATIVE


class Status(str, enum.Enum):
    """What became of one edit. Nothing is reported that has not happened."""

    PENDING = "PENDING"  # the trigger was never imported
    APPLIED = "APPLIED"
    LATE = "LATE"  # applied to a module that was loaded before; its copies were rebound
    DISABLED = "DISABLED"  # switched off by the configuration, or by default
    UNMET = "UNMET"  # a requirement does not hold, or there is nothing to do
    MISSING = "MISSING"  # the target has no such attribute
    CONFLICT = "CONFLICT"  # another patch holds the target
    FAILED = "FAILED"
    REVERTED = "REVERTED"

    def __str__(self) -> str:
        return self.value

    @property
    def in_force(self) -> bool:
        """Whether the edit has changed something that is still changed."""
        return self in (Status.APPLIED, Status.LATE)

    @property
    def is_fault(self) -> bool:
        """Whether somebody should look at it: strict mode raises on these."""
        return self in (Status.MISSING, Status.CONFLICT, Status.FAILED)


#: A version condition ("mmcv>=1.3", "python>=3.10"), a capability ("device:npu",
#: "module:mx_driving"), or a function returning True or why not.
Requirement = Union[str, Callable[[], Union[bool, str]]]

_PATCH_NAME = re.compile(r"[^\W\d]\w*(\.\w+)*\Z")


@dataclass(frozen=True)
class Patch:
    """A named, documented unit of change, on or off as a whole.

    Args:
        name: ``scope.key`` (``mmcv.deform_conv2d``).
        edits: The changes. Those that share a trigger apply whole or not at all.
        requires: Conditions, decided once, when an edit would fire.
        default: Whether the patch is on without being asked for.
        priority: Smaller is earlier; of two patches that replace one target, the
            earlier has it and the later is a CONFLICT.
        options: Names and defaults of what ``patches.options.<name>`` may set.
        doc: Why and how; the patch file's docstring if empty.
    """

    name: str
    edits: tuple[Edit, ...]
    requires: tuple[Requirement, ...] = ()
    default: bool = True
    priority: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    doc: str = ""
    #: The module that made the patch. What it wrote itself is the patch's own.
    origin: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin", sys._getframe(2).f_globals.get("__name__", ""))
        if not isinstance(self.name, str) or not _PATCH_NAME.match(self.name):
            raise PatchError(f"Patch name {self.name!r}: expected 'scope.key', as in 'mmcv.nms'")
        for name in ("edits", "requires"):
            value = getattr(self, name)
            if not isinstance(value, (tuple, list)):
                raise PatchError(f"Patch {self.name!r}: {name} must be a tuple, not {value!r}")
            object.__setattr__(self, name, tuple(value))
        if not self.edits or not all(isinstance(edit, Edit) for edit in self.edits):
            raise PatchError(f"Patch {self.name!r}: edits must hold at least one edit, and no else")
        for edit in self.edits:
            if edit.trigger == RELATIVE:
                raise PatchError(
                    f"Patch {self.name!r}: target {edit.target!r}: '*' stands for a class only "
                    "in the edits of a Subclasses"
                )

    @property
    def triggers(self) -> tuple[str, ...]:
        """The modules that fire this patch, each once, in the order of the edits."""
        return tuple(dict.fromkeys(edit.trigger for edit in self.edits))


@dataclass(frozen=True)
class Outcome:
    """What became of one edit in this process."""

    patch: str
    kind: str
    target: str
    trigger: str
    status: Status
    reason: str = ""
    #: Copies elsewhere that were rebound, as ``module:name``.
    rebound: tuple[str, ...] = ()
    #: Copies that could not be reached, in words (closures, default arguments).
    unreachable: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The outcome as JSON types."""
        return {
            "patch": self.patch,
            "kind": self.kind,
            "target": self.target,
            "trigger": self.trigger,
            "status": self.status.value,
            "reason": self.reason,
            "rebound": list(self.rebound),
            "unreachable": list(self.unreachable),
        }

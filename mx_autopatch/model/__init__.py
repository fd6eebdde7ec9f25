"""Patches and the edits they are made of: data, no behaviour.

A patch file imports this module alone and offers ``PATCHES``, a tuple of
:class:`Patch`. What an edit *does* is the engine's business.

A target is written ``module:qualname``; the module half is the trigger, whose
execution fires the edit. Steps of the qualname are attributes (``Class.method``)
or entries of a mapping (``REGISTRY._module_dict[ResNet]``).
"""

from __future__ import annotations

from mx_autopatch.model.base import MISSING, Context, Edit, NotNeeded
from mx_autopatch.model.edits import Define, Register, Replace, Rewrite, Subclasses, Wrap
from mx_autopatch.model.module_edits import (
    Before,
    Call,
    During,
    Parent,
    Provide,
    Redirect,
    Stub,
    When,
)
from mx_autopatch.model.patch import Outcome, Patch, Requirement, Status
from mx_autopatch.model.targets import (
    RELATIVE,
    check_module,
    is_pattern,
    parse_target,
    pattern_of,
)

__all__ = [
    "MISSING",
    "RELATIVE",
    "Before",
    "Call",
    "Context",
    "Define",
    "During",
    "Edit",
    "NotNeeded",
    "Outcome",
    "Parent",
    "Patch",
    "Provide",
    "Redirect",
    "Register",
    "Replace",
    "Requirement",
    "Rewrite",
    "Status",
    "Stub",
    "Subclasses",
    "When",
    "Wrap",
    "check_module",
    "is_pattern",
    "parse_target",
    "pattern_of",
]

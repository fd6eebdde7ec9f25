"""What the Patcher API says of a patch, in its own words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mx_autopatch.model import Status

__all__ = ["PatchResult", "PatchStatus"]


class PatchStatus(Enum):
    """The state of one patch.

    ``PENDING`` is ours: what is to be patched has not been imported yet, and is patched
    the moment it is. A target that is not there is ``FAILED``; ``SKIPPED`` is left for
    what was switched off or is not needed here.
    """

    APPLIED = "applied"
    SKIPPED = "skipped"
    FAILED = "failed"
    PENDING = "pending"


@dataclass
class PatchResult:
    """What became of one patch.

    Attributes:
        name: The patch's name; for an AtomicPatch its target.
        module: The package that it patches.
        reason: Why it is not in force, if it is not.
    """

    status: PatchStatus
    name: str
    module: str
    reason: str | None = None


#: The engine's words in those of the Patcher API.
OF_STATUS = {
    Status.APPLIED: PatchStatus.APPLIED,
    Status.LATE: PatchStatus.APPLIED,
    Status.PENDING: PatchStatus.PENDING,
    Status.DISABLED: PatchStatus.SKIPPED,
    Status.UNMET: PatchStatus.SKIPPED,
    Status.REVERTED: PatchStatus.SKIPPED,
    Status.MISSING: PatchStatus.FAILED,
    Status.CONFLICT: PatchStatus.FAILED,
    Status.FAILED: PatchStatus.FAILED,
}

#: Of several edits of one patch the first of these that one of them is counts for all.
ORDER = (PatchStatus.FAILED, PatchStatus.APPLIED, PatchStatus.PENDING, PatchStatus.SKIPPED)

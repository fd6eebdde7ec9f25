"""What the doctor says."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAILS", "FIXED", "NOTE", "OK", "Diagnosis"]

OK = "ok"  # it works as it is
FIXED = "fixed"  # it would fail, but for a patch
NOTE = "note"  # it may fail, or work worse than it could
FAILS = "fails"  # a run that needs it would fail


@dataclass(frozen=True)
class Diagnosis:
    """One finding about the environment.

    Attributes:
        subject: The package or thing that it is about.
        verdict: OK, FIXED, NOTE or FAILS.
        what: What was found.
        remedy: The patch that fixes it, what to install or pin, or why nothing helps.
    """

    subject: str
    verdict: str
    what: str
    remedy: str = ""

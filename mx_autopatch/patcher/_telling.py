"""What the Patcher API says of the outcomes of a unit."""

from __future__ import annotations

from mx_autopatch.model import Outcome, Status
from mx_autopatch.patcher._units import NO_MODULE, Unit
from mx_autopatch.patcher.patcher_logger import patcher_logger

_FAULTS = {
    Status.MISSING: "target not found",
    Status.CONFLICT: "target taken",
    Status.FAILED: "it failed",
}


def tell(unit: Unit, outcomes: list[Outcome]) -> None:
    """One line for each module in which the unit is in force, and one for each fault."""
    by_trigger: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_trigger.setdefault(outcome.trigger, []).append(outcome)
    for trigger, met in by_trigger.items():
        done = [outcome for outcome in met if outcome.status.in_force]
        if done and not unit.quiet:
            patcher_logger.applied(f"patch {unit.label} to module {trigger}{_what(done)}")
        for outcome in met:
            if outcome.status.is_fault:
                tell_failed(unit, _fault(outcome), trigger)
        off = [o for o in met if o.status in (Status.UNMET, Status.DISABLED)]
        news = [o.reason for o in off if o.target not in unit.aliases]
        if news and len(off) == len(met) and not unit.quiet:
            patcher_logger.skipped(f"patch {unit.label} to module {trigger}", news[0])


def tell_failed(unit: Unit, reason: str, trigger: str = "") -> None:
    """A failure, unless the patch wants none to be told."""
    text = f"patch {unit.label}" + (f" to module {trigger}" if trigger else "")
    if unit.warns:
        patcher_logger.failed(text, reason)
    else:
        patcher_logger.debug(f"{text}: {reason}")


def _fault(outcome: Outcome) -> str:
    """What is wrong, and whether with a module or with something in one."""
    if outcome.reason.startswith(NO_MODULE):
        return outcome.reason
    where = "" if outcome.kind == "call" else f"{outcome.target}: "
    return f"{_FAULTS[outcome.status]}: {where}{outcome.reason}"


def _what(outcomes: list[Outcome]) -> str:
    """What a patch has changed, in brackets."""
    parts = [
        outcome.reason.partition("\n")[0] if outcome.kind == "call" else outcome.target
        for outcome in outcomes
    ]
    parts = list(dict.fromkeys(part for part in parts if part))
    shown = ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")
    return f" ({shown})" if shown else ""

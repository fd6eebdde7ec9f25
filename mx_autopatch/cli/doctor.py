"""``doctor``: why a run would fail here, and what fixes it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mx_autopatch.cli import known
from mx_autopatch.cli.plan import Given
from mx_autopatch.cli.terminal import Fault, console, print_json, table
from mx_autopatch.device import has_cann
from mx_autopatch.doctor.diagnosis import FAILS, FIXED, NOTE, OK, Diagnosis
from mx_autopatch.doctor.examine import package_health, packages_here, script_health
from mx_autopatch.doctor.versions import pairs, runtime
from mx_autopatch.engine.requires import installed
from mx_autopatch.engine.session import Session

__all__ = ["command"]

_ORDER = {FAILS: 0, NOTE: 1, FIXED: 2, OK: 3}
_STYLES = {FAILS: "bold red", NOTE: "yellow", FIXED: "green", OK: "dim"}


@click.command(
    "doctor",
    short_help="Why a run would fail here, and what fixes it.",
    help="Try the imports of SCRIPT, of PACKAGE, or of all OpenMMLab packages that are "
    "installed, with mx_autopatch and without, and look at versions. Ends with status 1 if a "
    "run would fail.",
)
@click.argument("subjects", nargs=-1, metavar="[SCRIPT|PACKAGE]...")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def command(given: Given, subjects: tuple[str, ...], as_json: bool) -> None:
    session = known.session_of(given)
    settings = {"MX_AUTOPATCH_CONFIG": given.config} if given.config else {}
    if session.config.device != "auto":
        settings["MX_AUTOPATCH_DEVICE"] = session.config.device
    found = [*pairs(installed, has_cann), *runtime(installed)]
    packages = [subject for subject in subjects if not subject.endswith(".py")]
    with console(sys.stderr).status("importing, with mx_autopatch and without"):
        for subject in subjects:
            if subject.endswith(".py"):
                found += _script(Path(subject), settings)
        if packages or not subjects:
            found += package_health(packages or packages_here(), settings)
    found = [_checked(session, diagnosis) for diagnosis in dict.fromkeys(found)]
    found.sort(key=lambda diagnosis: _ORDER[diagnosis.verdict])
    if as_json:
        print_json([asdict(diagnosis) for diagnosis in found])
    else:
        _print(found)
    if any(diagnosis.verdict == FAILS for diagnosis in found):
        click.get_current_context().exit(1)


def _script(path: Path, settings: dict[str, str]) -> list[Diagnosis]:
    try:
        return list(script_health(path, settings))
    except (OSError, SyntaxError, ValueError) as error:
        raise Fault(f"{path}: {error}") from None


def _checked(session: Session, diagnosis: Diagnosis) -> Diagnosis:
    """A patch that is off fixes nothing."""
    if diagnosis.verdict != FIXED:
        return diagnosis
    for name in diagnosis.remedy.split(", "):
        entry = session.entries.get(name)
        if entry is not None and not session.config.selects(name, entry.default):
            reason = session.config.reason(name, entry.default)
            off = f"{name} would fix it, and is off: {reason}"
            return Diagnosis(diagnosis.subject, FAILS, diagnosis.what, off)
    return diagnosis


def _print(found: list[Diagnosis]) -> None:
    shown = table("", "", "what was found, and what fixes it")
    for diagnosis in found:
        remedy = f"\n  {diagnosis.remedy}" if diagnosis.remedy else ""
        if remedy and diagnosis.verdict == FIXED:
            remedy = f"\n  by {diagnosis.remedy}"
        row: list[Any] = [diagnosis.verdict, diagnosis.subject, f"{diagnosis.what}{remedy}"]
        shown.add_row(*row, style=_STYLES[diagnosis.verdict])
    console().print(shown)
    if os.environ.get("MX_AUTOPATCH") != "1" and any(d.verdict == FIXED for d in found):
        click.echo("fixed: with MX_AUTOPATCH=1, or under python -m mx_autopatch")

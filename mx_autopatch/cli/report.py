"""``report``: the outcomes of one or many processes as one table."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import click
from rich.text import Text

from mx_autopatch.cli.terminal import Fault, console, name_of, table
from mx_autopatch.engine.config_file import reason_of
from mx_autopatch.engine.report import FORMAT
from mx_autopatch.model import Status

__all__ = ["command"]

#: patch, kind, target, trigger, and which of several alike.
Edit = tuple[str, str, str, str, int]

_STYLES = {
    Status.APPLIED: "green",
    Status.LATE: "green",
    Status.MISSING: "bold red",
    Status.CONFLICT: "bold red",
    Status.FAILED: "bold red",
}


class Verdict(NamedTuple):
    """What became of one edit in one process."""

    status: Status
    reason: str = ""


class Process(NamedTuple):
    """One file."""

    rank: int
    pid: int
    problems: Sequence[str]
    edits: dict[Edit, Verdict]


@click.command(
    "report",
    short_help="The outcomes of one or many processes as a table.",
    help="The outcomes of one or many processes, from the files that report.path made. FILE may"
    " be a pattern or a folder. Exit status 1 if any is FAILED, MISSING or CONFLICT.",
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def command(files: tuple[str, ...]) -> int:
    processes = sorted(map(_read, _paths(files)), key=lambda one: (one.rank, one.pid))
    shown = table("patch", "edit", "target", "outcome", "reason")
    before = ""
    faults = 0
    for edit, verdicts in _merged(processes).items():
        patch, kind, target, trigger, _ = edit
        faults += any(verdict.status.is_fault for verdict, _ in verdicts)
        target = f"{target} in {trigger}" if kind == "during" else target
        for verdict, members in verdicts:
            whose = _whose(members, processes, len(verdicts) == 1)
            outcome = Text(verdict.status.value + whose, _STYLES.get(verdict.status, "dim"))
            name = name_of(patch if patch != before else "")
            shown.add_row(name, kind, target, outcome, verdict.reason)
            before, kind, target = patch, "", ""
    out = console()
    out.print(shown)
    out.print()
    for problem in dict.fromkeys(p for process in processes for p in process.problems):
        out.print(f"problem: {problem}", style="yellow", soft_wrap=True)
    count = "1 process" if len(processes) == 1 else f"{len(processes)} processes"
    out.print(f"{count}, {f'{faults} to look at' if faults else 'nothing to look at'}")
    return 1 if faults else 0


def _paths(files: Iterable[str]) -> list[str]:
    paths: dict[str, None] = {}
    for name in files:
        if os.path.isdir(name):
            found = sorted(glob.glob(os.path.join(glob.escape(name), "*.json")))
            if not found:
                raise Fault(f"{name}: there is no .json file in this folder")
        elif os.path.exists(name) or not glob.has_magic(name):
            found = [name]
        else:
            found = sorted(glob.glob(name, recursive=True))
            if not found:
                raise Fault(f"{name}: no file fits this pattern")
        paths.update(dict.fromkeys(found))
    return list(paths)


def _read(path: str) -> Process:
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except OSError as error:
        raise Fault(f"{path}: cannot be read: {reason_of(error)}") from None
    except (ValueError, RecursionError):
        raise Fault(f"{path}: this is not a report: not JSON") from None
    if not isinstance(data, dict) or "outcomes" not in data:
        raise Fault(f"{path}: this is not a report of mx_autopatch")
    if data.get("format") != FORMAT:
        raise Fault(
            f"{path}: format {data.get('format')!r}, not {FORMAT}: written by another version of "
            "mx_autopatch; read it with that one"
        )
    try:
        return Process(data["rank"], data["pid"], data["problems"], _edits(data["outcomes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Fault(f"{path}: this report is damaged: {error!r}") from None


def _edits(outcomes: Iterable[dict[str, Any]]) -> dict[Edit, Verdict]:
    edits: dict[Edit, Verdict] = {}
    for outcome in outcomes:
        alike = 0
        name = tuple(str(outcome[field]) for field in ("patch", "kind", "target", "trigger"))
        while (*name, alike) in edits:
            alike += 1
        reason = outcome["reason"]
        if outcome["unreachable"]:
            reason += f" (still unpatched: {'; '.join(outcome['unreachable'])})"
        edits[(*name, alike)] = Verdict(Status(outcome["status"]), reason.strip())  # type: ignore[index]
    return edits


def _merged(
    processes: Sequence[Process],
) -> dict[Edit, list[tuple[Verdict, list[Process]]]]:
    """Each edit with its different verdicts, and the processes that share each."""
    rows: dict[Edit, dict[Verdict, list[Process]]] = {}
    every = dict.fromkeys(edit for process in processes for edit in process.edits)
    known = {(patch, trigger) for patch, kind, _, trigger, _ in every if kind}
    for edit in sorted(every, key=lambda edit: edit[0]):  # stable: within a patch, as it was
        patch, kind, _, trigger, _ = edit
        if not kind and (patch, trigger) in known:
            continue  # where the trigger was never imported the edits are not known one by one
        for process in processes:
            verdict = process.edits.get(edit) or process.edits.get((patch, "", trigger, trigger, 0))
            if verdict is not None:
                rows.setdefault(edit, {}).setdefault(verdict, []).append(process)
    return {edit: list(verdicts.items()) for edit, verdicts in rows.items()}


def _whose(members: Sequence[Process], processes: Sequence[Process], alone: bool) -> str:
    """In which processes, where there are several."""
    if len(processes) == 1:
        return ""
    count = f" x {len(members)}" if len(members) > 1 else ""
    if alone and len(members) == len(processes):
        return count
    ranked = len({process.rank for process in processes}) == len(processes)
    names = [str(each.rank if ranked else each.pid) for each in members]
    return f"{count} ({'rank' if ranked else 'pid'} {', '.join(names)})"

"""The report of a rehearsal, for people."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from rich.console import Console
from rich.text import Text

from mx_autopatch.cli.terminal import console, table

__all__ = ["show"]

Row = Mapping[str, Any]

_STYLES = {"native": "green", "cpu": "yellow", "refused": "bold red"}
_WORDS = {"native": "NPU", "cpu": "CPU: falls back"}
_WHERE = {
    "native": "with a kernel of torch_npu",
    "cpu": "computed on the CPU for want of one",
    "refused": "refused by the soft NPU",
}


def show(found: Row, file: IO[str], top: int) -> None:
    """Print what ``Rehearsal.result`` found, at most ``top`` lines in each table."""
    if file.isatty():
        _show(console(file), found, top)
        return
    plain = io.StringIO()
    _show(console(plain), found, top)
    # Tables are filled up with blanks.
    file.writelines(f"{line.rstrip()}\n" for line in plain.getvalue().splitlines())


def _show(out: Console, found: Row, top: int) -> None:
    _head(out, found)
    if found["recorded"]:
        _operators(out, found["operators"], top)
        _lines(
            out,
            "the host waits for the device",
            ("what",),
            _merged(found["waits"], "what"),
            top,
        )
        _lines(out, "copies from the CPU to the device", ("bytes",), _copies(found), top)
        _lines(out, "casts from or to 64 bits", ("what",), _merged(found["casts"], "what"), top)
        _lines(
            out,
            "computing in 64 bits",
            ("dtype", "operators"),
            [{**row, "operators": _names(row["operators"])} for row in found["computed"]],
            top,
        )
        _errors(out, "no kernel on the soft NPU", found["refused"])
        _errors(out, "operators that raised an error", found["failed"])
    _patches(out, found)


def _head(out: Console, found: Row) -> None:
    versions = found["versions"]
    device = "the soft NPU" if found["device"] == "soft" else "the NPU"
    out.print()
    out.print(
        f"rehearsal of {' '.join(found['argv'])} on {device}"
        f" (torch {versions.get('torch', 'not imported')}, "
        f"torch_npu {versions.get('torch_npu', 'not imported')})",
        style="bold",
        soft_wrap=True,
    )
    if found["device"] == "soft":
        out.print(
            "It computes on the CPU: nothing here is about speed, memory formats or precision.",
            style="dim",
            soft_wrap=True,
        )
    if found["ended_by"]:
        first = found["ended_by"].partition("\n")[0]
        out.print(f"ended by {first}", style="bold red", soft_wrap=True)
    if not found["recorded"]:
        out.print(_why_nothing(found), style="yellow", soft_wrap=True)


def _why_nothing(found: Row) -> str:
    """Why nothing was recorded."""
    for outcome in found["patches"]:
        if outcome["patch"] == "rehearse.recorder" and outcome["reason"]:
            return f"nothing was recorded: {outcome['status']}: {outcome['reason']}"
    return "nothing was recorded: the script did not import torch"


def _operators(out: Console, rows: Sequence[Row], top: int) -> None:
    texts = []
    for kind, words in _WHERE.items():
        of = [row["count"] for row in rows if row["where"] == kind]
        if of:
            texts.append(f"{len(of)} {words} (called {_times(sum(of))})")
    out.print()
    out.print(f"operators: {', '.join(texts) or 'none'}", style="bold", soft_wrap=True)
    if not rows:
        return
    # What needs attention comes first, however rare.
    ranked = sorted(rows, key=lambda row: row["where"] == "native")
    shown = table("count", "operator", "runs on")
    for row in ranked[:top]:
        where = str(row["where"])
        runs_on = Text(_WORDS.get(where, where), _STYLES.get(where, ""))
        shown.add_row(str(row["count"]), row["name"], runs_on)
    out.print(shown)
    _more(out, len(ranked), top)


def _merged(rows: Iterable[Row], key: str) -> list[dict[str, Any]]:
    """Rows of one line as one, with the most frequent caller."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        at = (row[key], row["file"], row["line"], row["backward"])
        if at in lines:
            lines[at]["count"] += row["count"]
        else:
            lines[at] = dict(row)
    return sorted(lines.values(), key=lambda row: -row["count"])


def _copies(found: Row) -> list[dict[str, Any]]:
    return [{**row, "bytes": f"{row['bytes']:,}"} for row in found["copies"]]


def _lines(out: Console, title: str, columns: Sequence[str], rows: Sequence[Row], top: int) -> None:
    out.print()
    total = sum(row["count"] for row in rows)
    lines = "1 line" if len(rows) == 1 else f"{len(rows)} lines"
    summary = f"{_times(total)}, by {lines} (* is your own)" if rows else "never"
    out.print(f"{title}: {summary}", style="bold", soft_wrap=True)
    if not rows:
        return
    # A loop that is the library's own has one caller for all of it.
    callers = {_short(row["called_from"]) for row in rows if row["called_from"] is not None}
    if len(callers) == 1:
        out.print(f"the libraries' lines all come from * {callers.pop()}", soft_wrap=True)
        callers = set()
    shown = table("count", *columns, "line, and what is written there")
    for row in rows[:top]:
        cells = [str(row[column]) for column in columns]
        shown.add_row(str(row["count"]), *cells, _where(row, bool(callers)))
    out.print(shown)
    _more(out, len(rows), top)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _where(row: Row, with_caller: bool) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append("* " if row["own"] else "  ")
    if row["file"] is None:
        return text.append("no Python code")
    text.append(_short(row), "bold" if row["own"] else "")
    if row["through"] is not None:
        text.append(f"  through {_short(row['through'])}")
    if row["backward"]:
        text.append(" (in the backward pass that it starts)")
    if with_caller and row["called_from"] is not None:
        caller = row["called_from"]
        text.append(f"  from * {os.path.basename(caller['file'])}:{caller['line']}", "dim")
    return text.append(f"\n      {row['source']}", "dim")


def _short(row: Row) -> str:
    """The file as one would name it: from the package, or from the working directory, on."""
    file = str(row["file"])
    for folder in ("site-packages", "dist-packages"):
        _, found, rest = file.rpartition(f"{os.sep}{folder}{os.sep}")
        if found:
            return f"{rest}:{row['line']}"
    try:
        relative = os.path.relpath(file)
    except (OSError, ValueError):  # no working directory, or on another drive
        relative = file
    return f"{min(file, relative, key=len)}:{row['line']}"


def _names(operators: Mapping[str, int]) -> str:
    names = [name.partition("::")[2] for name in operators]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _errors(out: Console, title: str, rows: Sequence[Row]) -> None:
    if not rows:
        return
    out.print()
    out.print(title, style="bold red")
    shown = table("count", "operator", "line, and what is written there")
    for row in rows:
        shown.add_row(str(row["count"]), row["name"], _where(row, True))
    out.print(shown)
    for message in dict.fromkeys(row["message"].partition("\n")[0] for row in rows):
        out.print(message, soft_wrap=True)


def _patches(out: Console, found: Row) -> None:
    applied: dict[str, int] = {}
    for outcome in found["patches"]:
        if outcome["status"] in ("APPLIED", "LATE") and outcome["patch"] != "rehearse.recorder":
            applied[outcome["patch"]] = applied.get(outcome["patch"], 0) + 1
    out.print()
    names = ", ".join(f"{name} ({count})" for name, count in sorted(applied.items()))
    out.print(f"patches applied, with their edits: {names or 'none'}", soft_wrap=True)
    for outcome in found["patches"]:
        if outcome["status"] in ("FAILED", "MISSING", "CONFLICT"):
            text = f"{outcome['patch']}: {outcome['target']}: {outcome['status']}"
            out.print(f"{text}: {outcome['reason']}", style="bold red", soft_wrap=True)
    for problem in found["problems"]:
        out.print(f"problem: {problem}", style="yellow", soft_wrap=True)


def _more(out: Console, count: int, top: int) -> None:
    if count > top:
        out.print(f"and {count - top} more (--top 0 shows all)", style="dim")

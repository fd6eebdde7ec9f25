"""``scan``: what a source tree says that is meant for CUDA, and which patch takes care of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click

from mx_autopatch.cli import known
from mx_autopatch.cli.plan import Given
from mx_autopatch.cli.terminal import Fault, console, print_json, table
from mx_autopatch.engine.session import Session
from mx_autopatch.model import Define
from mx_autopatch.scan.skeleton import skeleton
from mx_autopatch.scan.tree import Scan, scan

__all__ = ["command"]


@click.command(
    "scan",
    short_help="CUDA idioms in a source tree, and which patch takes care of each.",
    help="Read the sources in PATH, import nothing, and say for each idiom that is meant for "
    "CUDA which patch takes care of it, or what is to be written.",
)
@click.argument("path", type=click.Path(), default=".")
@click.option("--all", "everything", is_flag=True, help="Also each place that a patch covers.")
@click.option("--write", metavar="FILE", help="Begin a file of patches for what is left.")
@click.option("--json", "as_json", is_flag=True, help="For programs; complete.")
@click.pass_obj
def command(given: Given, path: str, everything: bool, write: str | None, as_json: bool) -> None:
    session = known.session_of(given)
    try:
        found = scan(Path(path), _gone(session))
    except FileNotFoundError as error:
        raise Fault(str(error)) from None
    if write is not None:
        _write(Path(write), found)
    if as_json:
        rows = [{**asdict(finding), "advice": finding.advice} for finding in found.findings]
        print_json({"files": found.files, "findings": rows, "unread": found.unread})
        return
    _print(found, everything)
    off = {finding.patch for finding in found.findings if finding.patch}
    for name in sorted(off):
        entry = session.entries[name]
        if not session.config.selects(entry.name, entry.default):
            click.echo(f"{name} is off here: {session.config.reason(entry.name, entry.default)}")


def _gone(session: Session) -> Mapping[str, str]:
    """What patches define where a library has dropped it: dotted name -> patch."""
    return {
        edit.target.replace(":", "."): patch.name
        for _, patch in known.loaded(session)
        for edit in patch.edits
        if isinstance(edit, Define)
    }


def _print(found: Scan, everything: bool) -> None:
    out = console()
    open_ones = [finding for finding in found.findings if not finding.patch]
    shown = table("where", "what", "source, and what to do about it")
    for finding in found.findings if everything else open_ones:
        verdict = f"handled by {finding.patch}: " if finding.patch else ""
        shown.add_row(
            f"{finding.file}:{finding.line}",
            finding.rule,
            f"{finding.text}\n  {verdict}{finding.advice}",
        )
    if shown.row_count:
        out.print(shown)
        out.print()
    handled = Counter((f.patch, f.rule) for f in found.findings if f.patch)
    for (patch, rule), count in sorted(handled.items()):
        out.print(f"{count:5} {rule}, handled by {patch}")
    for name, reason in found.unread.items():
        out.print(f"{name}: not read, {reason}", soft_wrap=True)
    out.print(f"{found.files} files, {len(found.findings)} findings, {len(open_ones)} of them open")


def _write(path: Path, found: Scan) -> None:
    if os.path.lexists(path):
        raise Fault(f"{path} is there already; give another name to --write")
    path.write_text(skeleton(found.findings, path.name, found.package), encoding="utf-8")
    click.echo(f"{path} written", err=True)

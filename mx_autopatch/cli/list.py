"""``list``: which patches there are, which are on here, and what they change."""

from __future__ import annotations

from typing import Any

import click

from mx_autopatch.cli import known
from mx_autopatch.cli.plan import Given
from mx_autopatch.cli.terminal import console, name_of, print_json, table
from mx_autopatch.engine.entries import PatchEntry
from mx_autopatch.engine.session import Session
from mx_autopatch.model import Patch

__all__ = ["command"]

_SHOWN = 2  # edits of one patch, in the table


@click.command(
    "list",
    short_help="The patches, and which are on here.",
    help="The patches: scope, default, on or off here, what they change.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs; complete.")
@click.pass_obj
def command(given: Given, as_json: bool) -> None:
    session = known.session_of(given)
    patches = known.loaded(session)
    known.tell_problems(session)
    if as_json:
        print_json([_row(session, entry, patch) for entry, patch in patches])
        return
    reasons: list[str] = []
    shown = table("patch", "scope", "default", "here", "changes")
    for entry, patch in patches:
        scope = patch.name.rpartition(".")[0] or "(root)"
        on = session.config.selects(entry.name, entry.default)
        if on is not entry.default:
            reasons.append(session.config.reason(entry.name, entry.default))
        default, here = ("on" if each else "off" for each in (entry.default, on))
        shown.add_row(name_of(patch.name), scope, default, here, _changes(patch))
    out = console()
    out.print(shown)
    if reasons:
        out.print()
    for reason in reasons:
        out.print(reason, soft_wrap=True)


def _changes(patch: Patch) -> str:
    texts = [known.describe(edit) for edit in patch.edits]
    more = len(texts) - _SHOWN
    # "and 1 more" is no shorter than the one itself.
    shown = texts[:_SHOWN] if more > 1 else texts
    return "\n".join(shown) + (f"\nand {more} more" if more > 1 else "")


def _row(session: Session, entry: PatchEntry, patch: Patch) -> dict[str, Any]:
    return {
        "name": patch.name,
        "scope": patch.name.rpartition(".")[0],
        "default": entry.default,
        "on": session.config.selects(entry.name, entry.default),
        "why": session.config.reason(entry.name, entry.default),
        "summary": entry.documentation().strip().partition("\n")[0],
        "file": entry.file,
        "triggers": list(patch.triggers),
        "edits": [
            {"kind": edit.kind, "target": edit.target, "trigger": edit.trigger}
            for edit in patch.edits
        ],
        "requires": [r if isinstance(r, str) else known.function_name(r) for r in patch.requires],
    }

"""``show``: one patch in full, with a diff of original against replacement."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from mx_autopatch.cli import known
from mx_autopatch.cli.plan import Given
from mx_autopatch.cli.source import Definition, definition, is_importable, written
from mx_autopatch.cli.terminal import Fault, console, name_of, table
from mx_autopatch.engine.entries import PatchEntry
from mx_autopatch.engine.session import Session
from mx_autopatch.engine.sourcetext import preview
from mx_autopatch.errors import PatchError
from mx_autopatch.model import MISSING, Edit, Patch, Replace, Rewrite, Subclasses, Wrap, is_pattern

__all__ = ["command"]

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command(
    "show",
    short_help="One patch in full, with a source diff.",
    help="A patch: why, how, targets, requirements, options, source diff.",
)
@click.argument("name")
@click.pass_obj
def command(given: Given, name: str) -> None:
    session = known.session_of(given)
    entry = known.entry_of(session, name)
    try:
        patch = entry.load()
    except Exception as error:
        raise Fault(f"patch {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    known.tell_problems(session)
    out = console()
    _head(out, session, entry, patch)
    _edits(out, patch)
    _requirements(out, session, patch)
    _options(out, session, patch)
    rewritten: dict[str, Definition] = {}
    for edit in patch.edits:
        if isinstance(edit, (Replace, Wrap)):
            _difference(out, edit)
        elif isinstance(edit, Rewrite):
            _rewriting(out, edit, rewritten)
        elif isinstance(edit, Subclasses):
            _of_subclasses(out, edit)


def _head(out: Console, session: Session, entry: PatchEntry, patch: Patch) -> None:
    out.print(name_of(patch.name))
    out.print(session.config.reason(entry.name, entry.default), style="dim")
    if entry.file:
        out.print(f"defined in {entry.file}", style="dim")
    out.print()
    out.print(entry.documentation().strip() or "(not documented)", soft_wrap=True)
    out.print()


def _edits(out: Console, patch: Patch) -> None:
    shown = table("edit", "target", "when this is imported", "here")
    importable = {trigger: is_importable(trigger) for trigger in patch.triggers}
    for edit in patch.edits:
        here = "importable" if importable[edit.trigger] else "not importable"
        here = "of any package" if is_pattern(edit.trigger) else here
        shown.add_row(edit.kind, edit.target, edit.trigger, here)
    out.print(shown)
    out.print()


def _requirements(out: Console, session: Session, patch: Patch) -> None:
    if not patch.requires:
        return
    for requirement in patch.requires:
        if isinstance(requirement, str):
            one = Patch(patch.name, patch.edits, (requirement,))
            out.print(known.unmet(session, one) or f"requires {requirement}: holds here")
        else:
            name = known.function_name(requirement)
            out.print(f"requires {name}: decided when the patch would fire")
    out.print()


def _options(out: Console, session: Session, patch: Patch) -> None:
    given = session.config.options.get(patch.name, {})
    source = session.config.sources["patches.options"]
    for name, default in patch.options.items():
        here = f", here {given[name]!r} ({source})" if name in given else ""
        out.print(f"option {name}: {default!r} by default{here}")
    for name in given:
        if name not in patch.options:
            out.print(f"option {name}: unknown ({source})", style="red")
    if patch.options or given:
        out.print()


# -- source ----------------------------------------------------------------------


def _difference(out: Console, edit: Edit) -> None:
    try:
        original: Definition | None = definition(edit.target)
        missing = ""
    except LookupError as error:
        original, missing = None, str(error.args[0])
    out.print(known.describe(edit), style="bold")
    if missing:
        out.print(f"no original to compare with: {missing}", style="yellow")
    try:
        ours = written(_replacement(edit))
    except LookupError as error:
        out.print(f"becomes {error.args[0]}")
        if original is not None:
            _print_diff(out, original, None)
        out.print()
        return
    if isinstance(edit, Replace) and edit.factory is not None:
        out.print("made at run time by the function below")
    if isinstance(edit, Wrap):
        out.print("the original stays; the function below is called in its place, and calls it")
        if original is not None:
            out.print(f"original: {original.path}:{original.line}")
        original = None
    if isinstance(edit, Replace) and edit.guard is not None:
        out.print(f"where {known.function_name(edit.guard)} says so; elsewhere the original runs")
    _print_diff(out, original, ours)
    out.print()


def _rewriting(out: Console, edit: Rewrite, rewritten: dict[str, Definition]) -> None:
    """The diff that a Rewrite makes; the next one of the same target goes on from there."""
    out.print(known.describe(edit), style="bold")
    try:
        old = rewritten[edit.target] if edit.target in rewritten else definition(edit.target)
        new = old._replace(text=preview(edit, old.text))
    except (LookupError, PatchError) as error:
        out.print(f"not here: {error.args[0]}", style="yellow")
        _pattern(out, edit)
    else:
        _print_diff(out, old, new)
        rewritten[edit.target] = new
    out.print()


def _pattern(out: Console, edit: Rewrite) -> None:
    for sign, text in (("-", edit.find), ("+", edit.replace)):
        for line in textwrap.dedent(text).strip().splitlines():
            out.print(Text(f"{sign}{line}", style=_COLOURS[sign]), soft_wrap=True)


def _of_subclasses(out: Console, edit: Subclasses) -> None:
    out.print(known.describe(edit), style="bold")
    out.print(f"in each class that {known.function_name(edit.match)} accepts:")
    for each in edit.edits:
        out.print(known.describe(each), style="bold")
        if isinstance(each, Rewrite):
            _pattern(out, each)
        elif isinstance(each, (Replace, Wrap)):
            try:
                _print_diff(out, None, written(_replacement(each)))
            except LookupError as error:
                out.print(f"becomes {error.args[0]}")
    out.print()


def _replacement(edit: Edit) -> Any:
    if isinstance(edit, Wrap):
        return edit.wrapper or edit.decorator
    assert isinstance(edit, Replace)
    return edit.factory if edit.replacement is MISSING else edit.replacement


def _print_diff(out: Console, old: Definition | None, new: Definition | None) -> None:
    for line in _diff(old, new):
        colour = "bold" if line[:3] in ("---", "+++") else _COLOURS.get(line[:1], "")
        out.print(Text(line, style=colour), soft_wrap=True)


def _diff(old: Definition | None, new: Definition | None) -> Iterator[str]:
    names = [f"{each.path}:{each.line}" if each else "/dev/null" for each in (old, new)]
    texts = [each.text.splitlines() if each else [] for each in (old, new)]
    return difflib.unified_diff(texts[0], texts[1], names[0], names[1], lineterm="")

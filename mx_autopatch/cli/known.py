"""The patches and the configuration as they are here, for the subcommands that show them."""

from __future__ import annotations

from typing import Any

import click

from mx_autopatch import bootstrap
from mx_autopatch.cli.plan import Given
from mx_autopatch.cli.source import is_importable
from mx_autopatch.cli.terminal import Fault
from mx_autopatch.engine import config as configuration
from mx_autopatch.engine.config_names import did_you_mean
from mx_autopatch.engine.entries import PatchEntry
from mx_autopatch.engine.requires import Requirements
from mx_autopatch.engine.session import Session
from mx_autopatch.model import Edit, Patch

__all__ = [
    "describe",
    "entry_of",
    "function_name",
    "loaded",
    "session_of",
    "tell_problems",
    "unmet",
]


def session_of(given: Given) -> Session:
    """What would be known and chosen in this folder, under environment-mode trust.

    Looking at a configuration must not run code that a file names which merely lay there.
    """
    config = configuration.load(explicit=given.config, overrides=given.overrides, script="")
    return bootstrap.examine(config)


def loaded(session: Session) -> list[tuple[PatchEntry, Patch]]:
    """All patches in the order of their names; one that cannot be loaded is a problem."""
    found = []
    for name, entry in sorted(session.entries.items()):
        try:
            found.append((entry, entry.load()))
        except Exception as error:
            session.note(f"patch {name!r} cannot be loaded: {type(error).__name__}: {error}")
    return found


def entry_of(session: Session, name: str) -> PatchEntry:
    """The patch of that name.

    Raises:
        Fault: there is none; the message has the nearest name.
    """
    entry = session.entries.get(name)
    if entry is None:
        near = did_you_mean(name, session.entries)
        raise Fault(f"unknown patch {name!r}{near or '; `mx-autopatch list` has them all'}")
    return entry


def describe(edit: Edit) -> str:
    """An edit in words."""
    where = f" in {edit.trigger}" if edit.kind == "during" else ""
    return f"{edit.kind} {edit.target}{where}"


def unmet(session: Session, patch: Patch) -> str:
    """Why a requirement does not hold here; empty if all do. Imports no target.

    A requirement that is a function may import anything: it is left for the run.
    """
    capabilities = {**session.capabilities, "module": _module}
    decide = Requirements(capabilities, lambda name: None)
    return decide.unmet(
        requirement for requirement in patch.requires if isinstance(requirement, str)
    )


def function_name(requirement: Any) -> str:
    """How a requirement that is a function is called."""
    return f"{getattr(requirement, '__name__', requirement)}()"


def _module(name: str) -> Any:
    return is_importable(name) or f"requires the module {name}, which is not importable"


def tell_problems(session: Session) -> None:
    """Say on stderr what is wrong with the configuration or a plugin."""
    for problem in session.problems:
        click.echo(f"mx-autopatch: {problem}", err=True)

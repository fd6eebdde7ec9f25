"""Printing for people: rich, and one kind of error."""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["Fault", "console", "name_of", "print_json", "table"]

_WIDTH = 120  # where nobody says how wide it is: a pipe, a file


class Fault(click.ClickException):
    """A user's mistake: one line on stderr, exit status 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"mx-autopatch: {self.format_message()}", file=file, err=file is None)


def console(file: IO[str] | None = None) -> Console:
    """``file``, or standard output. Nothing in a text is markup: ``a[b]`` is a target,
    ``:nms:`` no emoji."""
    known = (file or sys.stdout).isatty() or "COLUMNS" in os.environ
    width = None if known else _WIDTH
    return Console(file=file, width=width, markup=False, emoji=False, highlight=False)


def table(*columns: str, title: str | None = None) -> Table:
    """A table that wraps what is too long, and cuts nothing off."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def name_of(name: str) -> Text:
    """The name of a patch; not to be broken."""
    return Text(name, style="bold", no_wrap=True)


def print_json(value: Any) -> None:
    """The machine's form of the same."""
    click.echo(json.dumps(value, indent=1))

"""``init``: write a commented autopatch.toml."""

from __future__ import annotations

import os

import click

from mx_autopatch.cli.terminal import Fault
from mx_autopatch.engine.config import template
from mx_autopatch.engine.config_file import FILE, reason_of

__all__ = ["command"]


@click.command(
    "init",
    short_help="Write a commented autopatch.toml.",
    help=f"Write a commented {FILE} into DIR (default: the current folder).",
)
@click.argument("folder", metavar="[DIR]", default=".")
@click.option("--force", is_flag=True, help="Overwrite the one that is there.")
def command(folder: str, force: bool) -> None:
    path = os.path.join(folder, FILE)
    try:
        with open(path, "w" if force else "x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        raise Fault(f"{path}: it is there already; --force overwrites it") from None
    except FileNotFoundError:
        raise Fault(f"{folder}: there is no such folder; make it first") from None
    except OSError as error:
        raise Fault(f"{path}: cannot be written: {reason_of(error)}") from None
    click.echo(f"wrote {path}; every key in it is a comment that shows its default")

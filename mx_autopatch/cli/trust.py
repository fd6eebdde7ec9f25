"""``trust``: let a configuration that was found, not named, run the code it names."""

from __future__ import annotations

import os

import click

from mx_autopatch.cli.terminal import Fault
from mx_autopatch.engine import trust
from mx_autopatch.engine.config_file import FILE, examine, find
from mx_autopatch.engine.config_read import read_file

__all__ = ["command"]


@click.command(
    "trust",
    short_help="Let a configuration that was found run the code it names.",
    help="Trust FILE, and the plugins it names, as they are now (default: the configuration"
    " found from the current folder upward). A change of any of them ends it.",
)
@click.argument("file", required=False)
@click.option("--forget", is_flag=True, help="End the trust.")
def command(file: str | None, forget: bool) -> None:
    path = os.path.abspath(file) if file is not None else _found()
    if forget:
        was = trust.forget(path)
        click.echo(f"{path}: {'no longer trusted' if was else 'was not trusted'}")
        return
    digest = trust.record(path)
    click.echo(f"trusted {path} (sha256 {digest[:16]}…)")
    plugins, modules = _code(path)
    for name in plugins:
        click.echo(f"  with plugin file {name}")
    for name in modules:
        click.echo(f"  it may import {name} (not part of the hash: installed code)")
    if not plugins and not modules:
        click.echo("  it names no code")


def _found() -> str:
    problems: list[str] = []
    found = find(os.environ, "", os.getcwd(), None, problems)
    if found is None:
        raise Fault(
            "; ".join(problems)
            or f"no {FILE} here or above; name the file: mx-autopatch trust FILE"
        )
    return found.path


def _code(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = examine(path, explicit=True)
    if found is None:
        return (), ()
    layer, problems = read_file(found)
    for problem in problems:
        click.echo(f"mx-autopatch: {problem}", err=True)
    nothing: tuple[tuple[str, ...], str] = ((), "")
    return layer.get("plugins.files", nothing)[0], layer.get("plugins.modules", nothing)[0]

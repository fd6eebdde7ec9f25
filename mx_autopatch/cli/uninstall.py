"""``uninstall``: take back what ``install`` wrote."""

from __future__ import annotations

import os
from importlib.util import cache_from_source

import click

from mx_autopatch.cli import starters
from mx_autopatch.cli.terminal import Fault
from mx_autopatch.engine.config_file import reason_of

__all__ = ["command"]


@click.command(
    "uninstall",
    short_help="Take back what install wrote.",
    help="Remove mx_autopatch.pth and .start from this Python's site-packages; the package stays.",
)
@click.option(
    "--sitecustomize", "folder", metavar="DIR", help="Remove our sitecustomize.py from DIR instead."
)
def command(folder: str | None) -> None:
    if folder is None:
        paths = [path for name in starters.FILES for path in starters.installed(name)]
        if not paths:
            click.echo("nothing to remove: no mx_autopatch.pth in this Python's site-packages")
    else:
        paths = [os.path.join(folder, "sitecustomize.py")]
        if not os.path.lexists(paths[0]):
            raise Fault(f"{paths[0]}: there is no such file")
    for path in paths:
        _remove(path)


def _remove(path: str) -> None:
    if not starters.is_ours(path):
        raise Fault(f"{path}: not removed, since it is not ours")
    try:
        os.remove(path)
        if path.endswith(".py") and os.path.exists(cache_from_source(path)):
            os.remove(cache_from_source(path))
    except OSError as error:
        raise Fault(f"{path}: cannot be removed: {reason_of(error)}") from None
    click.echo(f"removed {path}")

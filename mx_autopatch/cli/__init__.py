"""The command line: ``python -m mx_autopatch``, and ``mx-autopatch``, which is the same."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run a script with the engine active, or one of the subcommands."""
    from mx_autopatch import bootstrap

    # MX_AUTOPATCH may have started the engine already. What is imported from here on
    # are our own tools, and a run starts it anew with the options of the command line.
    bootstrap.deactivate()
    _drop_own_path()
    before = set(sys.modules)

    from mx_autopatch.cli.app import parse

    plan = parse(sys.argv[1:])

    # A click.py beside the script is the script's own affair, as with plain python.
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("click", "rich"):
            del sys.modules[name]

    from mx_autopatch.cli.run import run

    run(plan)


def _drop_own_path() -> None:
    """Take off sys.path what python put there for our start: the working directory for
    ``-m``, else the folder of the console script.

    A click.py or an inspect.py that lies there is not for us to import.
    """
    if getattr(sys.flags, "safe_path", False) or sys.flags.isolated or not sys.path:
        return
    try:
        here = os.getcwd()
    except OSError:  # it was deleted
        here = ""
    if sys.path[0] in (here, sys.argv[0], os.path.dirname(os.path.realpath(sys.argv[0]))):
        del sys.path[0]

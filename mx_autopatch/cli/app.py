"""Reads the command line; click does no more than that for a run.

The script itself is started outside of click (see ``run``), whose handling of
exceptions, signals and exit codes is not that of plain python.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Callable

import click

from mx_autopatch import __version__
from mx_autopatch.cli.plan import Given, Plan
from mx_autopatch.engine.config_keys import KEYS, Key
from mx_autopatch.errors import AutopatchError

__all__ = ["parse"]

#: Each is a module of this package that offers ``command``.
COMMANDS = (
    *("doctor", "export", "init", "install", "list", "registry", "rehearse", "report"),
    *("scan", "show", "status", "trust", "uninstall", "verify"),
)

#: The subcommands that look at a configuration.
_CONFIGURED = ("doctor", "list", "rehearse", "scan", "show", "status", "verify")
#: Those that give back a run.
_RUNNING = ("rehearse",)


def parse(args: Sequence[str]) -> Plan:
    """The run that ``args`` ask for; any other subcommand is carried out, and does not return."""
    try:
        result = _program.main(list(args), prog_name=_name(), standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(1)
    except AutopatchError as error:
        for line in str(error).splitlines():
            click.echo(f"mx-autopatch: {line}", err=True)
        sys.exit(2)
    if not isinstance(result, Plan):
        sys.exit(result)
    return result


def _name() -> str:
    name = os.path.basename(sys.argv[0])
    return "python -m mx_autopatch" if name == "__main__.py" else name


class _Run(click.Command):
    """Any first argument that names no subcommand; what follows it is not parsed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return []

    def invoke(self, ctx: click.Context) -> Plan:
        assert ctx.parent is not None
        assert ctx.info_name is not None
        is_module = bool(ctx.parent.params["module"])
        return Plan(ctx.info_name, tuple(ctx.args), is_module, ctx.find_object(Given) or Given())


class _Program(click.Group):
    """Subcommands, imported when they are asked for, and everything else: a run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"mx_autopatch.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, rest = args[0], args[1:]
        command = None if ctx.params["module"] else self.get_command(ctx, name)
        return name, command or _Run(name), rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS] (SCRIPT | -m MODULE | COMMAND) [ARGS]..."]


@click.group(
    cls=_Program,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="A script that is called like a command is written ./NAME.",
)
@click.version_option(__version__, "-V", "--version", prog_name="mx_autopatch")
@click.option("-m", "module", is_flag=True, help="Run a module, as `python -m` does.")
@click.option("--config", metavar="FILE", help="The configuration, instead of the one found.")
@click.pass_context
def _program(ctx: click.Context, /, module: bool, config: str | None, **given: Any) -> None:
    """Run SCRIPT (a .py file, a folder or a zip) or MODULE with the patches active.

    It runs as under plain python, and so do the processes that it starts.
    """
    name = ctx.invoked_subcommand
    if name is None:
        raise click.UsageError("Nothing to run: give a SCRIPT, -m MODULE or a COMMAND.", ctx)
    overrides = {key.name: _value(key, given[_parameter(key)]) for key in _OPTIONS}
    ctx.obj = Given(config, {key: v for key, v in overrides.items() if v is not None})
    if module or name not in COMMANDS:
        return
    if ctx.obj and name not in _CONFIGURED:
        raise click.UsageError(f"{name!r} takes no options before it.", ctx)
    if name in _RUNNING:
        return  # with sys.path as a script has it
    # What a script in this folder could import, a subcommand shall see; but last.
    sys.path.append(_working_directory())


def _value(key: Key, raw: Any) -> Any:
    """What click read, as ``config.load`` takes it; None if the option was not given."""
    if key.kind == "names":
        return [name.strip() for text in raw for name in text.split(",") if name.strip()] or (
            [] if raw else None
        )
    if key.kind == "flag":
        return True if raw else None
    if key.kind == "path" and raw:
        return os.path.join(_working_directory(), raw)  # the script may change its folder
    return raw


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        raise click.UsageError("The working directory was deleted; go to another.") from None


def _parameter(key: Key) -> str:
    assert key.option is not None
    return key.option[2:].replace("-", "_")


def _option(key: Key) -> Callable[[Any], Any]:
    assert key.option is not None
    sentence = key.doc.replace("\n", " ")
    if key.kind == "flag":
        return click.option(key.option, is_flag=True, help=sentence)
    if key.kind == "names":
        return click.option(key.option, multiple=True, metavar="NAME", help=sentence)
    metavar = "|".join(key.choices) or key.kind.upper()
    return click.option(key.option, metavar=metavar, help=sentence)


_OPTIONS = tuple(key for key in KEYS if key.option)
for _key in _OPTIONS:
    _option(_key)(_program)

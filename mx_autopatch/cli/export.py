"""``export``: from a config to a package that trains without the library it came from."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import click

from mx_autopatch import bootstrap
from mx_autopatch.cli.plan import Given
from mx_autopatch.cli.terminal import Fault, console
from mx_autopatch.export.config import ExportError
from mx_autopatch.export.package import build

__all__ = ["command"]


@click.command(
    "export",
    short_help="From a config to a minimal package that trains by itself.",
    help="Write what CONFIG (a path, or PACKAGE::PATH) needs as a package of its own, which "
    "imports torch, mmengine and mmcv alone. Nothing of the exported packages is run for it.",
)
@click.argument("config")
@click.option("-o", "output", metavar="DIR", help="Folder to make; default: pack_<config>.")
@click.option("--model-only", is_flag=True, help="Without data sets, hooks and evaluation.")
@click.option("--check/--no-check", default=True, help="Try the package out, alone (default).")
@click.option("--force", is_flag=True, help="Replace the folder if it is there.")
@click.pass_obj
def command(
    given: Given, config: str, output: str | None, model_only: bool, check: bool, force: bool
) -> None:
    from mx_autopatch.export.check import check as try_out

    # mmengine finds base configs by pkg_resources, which a patch provides.
    bootstrap.activate(overrides={"report.level": "silent", **given.overrides}, script="")
    with console(sys.stderr).status(f"reading {config}"):
        try:
            package = build(config, model_only)
        except ExportError as error:
            raise Fault(str(error)) from None
    folder = Path(output or f"pack_{package.name}")
    if folder.exists() and not force:
        raise Fault(f"{folder} is there already; --force replaces it, -o names another")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export_", dir=folder.parent) as scratch:
        made = Path(scratch, "made")
        package.write(made)
        said = "not tried out"
        if check:
            with console(sys.stderr).status("trying it out, alone"):
                try:
                    said = try_out(
                        made, made / package.config, package.original, package.scope, package.left
                    )
                except ExportError as error:
                    raise Fault(f"{config}: the package does not work alone: {error}") from None
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    lines = sum(text.count("\n") for text in package.files.values())
    click.echo(f"{folder}: {len(package.files)} files, {lines} lines; {said}")

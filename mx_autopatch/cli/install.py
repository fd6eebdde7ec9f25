"""``install``: write the files that start the engine with the interpreter."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig

import click

from mx_autopatch.cli import starters
from mx_autopatch.cli.terminal import Fault
from mx_autopatch.engine.config_file import reason_of

__all__ = ["command"]


@click.command(
    "install",
    short_help="Start the engine with this Python, wherever MX_AUTOPATCH is set.",
    help="Write mx_autopatch.pth and .start into this Python's site-packages, as pip does.",
)
@click.option(
    "--sitecustomize",
    "folder",
    metavar="DIR",
    help="Copy sitecustomize.py into DIR instead, to be put on PYTHONPATH.",
)
def command(folder: str | None) -> None:
    if folder is None:
        _into_site_packages(sysconfig.get_paths()["purelib"])
    else:
        _into_folder(folder)


def _into_site_packages(folder: str) -> None:
    needs_path = not _is_found_from(folder)
    for name, text in starters.FILES.items():
        path = os.path.join(folder, name)
        if needs_path and name.endswith(".pth"):
            text = f"{starters.package_home()}\n{text}"
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise Fault(
                f"{path}: cannot be written: {reason_of(error)}; use a virtual environment, "
                "or `mx-autopatch install --sitecustomize DIR`"
            ) from None
        click.echo(f"wrote {path}")
    if needs_path:
        click.echo(
            f"the .pth file puts {starters.package_home()} on sys.path, where the package is"
        )
    click.echo("MX_AUTOPATCH=1 python SCRIPT now runs SCRIPT with the patches active")


def _is_found_from(folder: str) -> bool:
    """Whether this Python finds the package without PYTHONPATH and working directory."""
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MX_AUTOPATCH")}
    done = subprocess.run(
        [sys.executable, "-c", "import mx_autopatch"],
        cwd=folder if os.path.isdir(folder) else None,
        env=environ,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode == 0


def _into_folder(folder: str) -> None:
    source = os.path.join(starters.sitecustomize_folder(), "sitecustomize.py")
    target = os.path.join(folder, "sitecustomize.py")
    if os.path.lexists(target) and not starters.is_ours(target):
        raise Fault(
            f"{target}: there is one that is not ours. Choose another DIR and put it before "
            f"{folder} on PYTHONPATH: our sitecustomize runs the one it hides"
        )
    try:
        os.makedirs(folder, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise Fault(f"{target}: cannot be written: {reason_of(error)}") from None
    click.echo(f"wrote {target}")
    folders = [os.path.abspath(folder)]
    if starters.package_home() not in starters.site_folders():
        folders.append(starters.package_home())
    value = shlex.quote(os.pathsep.join(folders))
    click.echo(f"now: export MX_AUTOPATCH=1 PYTHONPATH={value}${{PYTHONPATH:+:$PYTHONPATH}}")

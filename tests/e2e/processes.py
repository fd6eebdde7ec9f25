"""Real interpreters: plain python, python -m mx_autopatch, and one without our .pth file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from helpers import ROOT, environment


class Done(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


def environ(**more: str) -> dict[str, str]:
    """The environment without any of our variables, the package importable."""
    clean = environment()
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        clean.pop(name, None)
    return {**clean, **more}


def python(
    *args: object,
    cwd: Path,
    flags: Sequence[str] = ("-W", "error"),
    env: dict[str, str] | None = None,
    executable: object = sys.executable,
    stdin: str | None = None,
) -> Done:
    """Run an interpreter to its end."""
    command = [str(executable), *flags, *map(str, args)]
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environ() if env is None else env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        # pytest may have been started with SIGINT ignored, which children inherit.
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        if os.name == "posix"
        else None,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def both(*args: object, flags: Sequence[str] = ("-W", "error"), **how: object) -> tuple[Done, Done]:
    """The same run under plain python and under ``python -m mx_autopatch``."""
    plain = python(*args, flags=flags, **how)  # type: ignore[arg-type]
    ours = python("-m", "mx_autopatch", *args, flags=flags, **how)  # type: ignore[arg-type]
    return plain, ours


def bare_python(folder: Path) -> Path:
    """An interpreter whose site-packages are empty: what it needs is on PYTHONPATH."""
    venv.create(folder, symlinks=os.name != "nt", with_pip=False)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def bare_environ(**more: str) -> dict[str, str]:
    """Our dependencies by way of PYTHONPATH, where no .pth file is read."""
    packages = {sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]}
    return environ(PYTHONPATH=os.pathsep.join([str(ROOT), *sorted(packages)]), **more)

"""Run the engine's tests on every other Python that this machine has.

    python tests/lanes.py [VERSION ...]

Each version gets a virtual environment of its own, ``.venv-3.x``, with the package
and nothing of torch. Interpreters are looked for on PATH and under pyenv's root; a
version that is not there is said and skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
FOLDERS = ("tests/engine", "tests/cli", "tests/e2e")
PACKAGES = ("pytest", "pytest-timeout", "hypothesis", "hatchling", "editables")


def find(version: str) -> str | None:
    """The path of a working interpreter of that version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)
    for command in [f"python{version}", *map(str, candidates)]:
        code = "import sys, venv; print(sys.executable, '%d.%d' % sys.version_info[:2])"
        try:
            done = subprocess.run([command, "-c", code], capture_output=True, text=True)
        except OSError:
            continue
        if done.returncode == 0 and done.stdout.split()[-1] == version:
            return done.stdout.split()[0]
    return None


def run(version: str, interpreter: str) -> bool:
    """Test on one interpreter; True if all is well."""
    folder = ROOT / f".venv-{version}"
    python = str(folder / "bin" / "python")
    steps = (
        [interpreter, "-m", "venv", "--clear", str(folder)],
        [python, "-m", "pip", "install", "-q", "-e", str(ROOT), *PACKAGES],
        [python, "-m", "pytest", "-q", *FOLDERS],
    )
    return all(subprocess.run(step, cwd=ROOT).returncode == 0 for step in steps)


def main(versions: list[str]) -> int:
    here = "{}.{}".format(*sys.version_info)
    failed = []
    for version in versions or [v for v in VERSIONS if v != here]:
        interpreter = find(version)
        if interpreter is None:
            print(f"== Python {version}: not on this machine, skipped", flush=True)
            continue
        print(f"== Python {version}: {interpreter}", flush=True)
        if not run(version, interpreter):
            failed.append(version)
    if failed:
        print(f"== failed on Python {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Run the engine's tests on every other Python that this machine has.

    python tests/lanes.py [VERSION ...]

Each version gets a virtual environment of its own, ``.venv-3.x``, with the package
and nothing of torch. Interpreters are looked for on PATH and under pyenv's root; a
version that is not there is said and skipped. As many run at a time as there are cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
FOLDERS = ("tests/engine", "tests/cli", "tests/e2e", "tests/patcher")
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
    """Test on one interpreter, and print what that said; True if all is well."""
    folder = ROOT / f".venv-{version}"
    python = str(folder / "bin" / "python")
    steps = (
        [interpreter, "-m", "venv", "--clear", str(folder)],
        [python, "-m", "pip", "install", "-q", "-e", str(ROOT), *PACKAGES],
        [python, "-m", "pytest", "-q", *FOLDERS],
    )
    said = [f"== Python {version}: {interpreter}\n"]
    for step in steps:
        done = subprocess.run(
            step, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said.append(done.stdout)
        if done.returncode:
            said.append(f"== failed: {' '.join(step)}\n")
            break
    print("".join(said), end="", flush=True)
    return done.returncode == 0


def main(versions: list[str]) -> int:
    here = "{}.{}".format(*sys.version_info)
    found = {version: find(version) for version in versions or [v for v in VERSIONS if v != here]}
    for version in [version for version, path in found.items() if path is None]:
        print(f"== Python {version}: not on this machine, skipped", flush=True)
    there = {version: path for version, path in found.items() if path is not None}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        passed = dict(zip(there, pool.map(run, there, there.values())))
    failed = [version for version, ok in passed.items() if not ok]
    if failed:
        print(f"== failed on Python {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

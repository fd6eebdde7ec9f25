"""Runs Python in processes of its own, with and without us, to compare what they see."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent

#: Packages that only the processes see which are given this folder (requirements-apart.txt).
APART = ROOT / ".venv" / "apart"

#: Whether this interpreter's site-packages hold our .pth file.
INSTALLED = any(
    (Path(sysconfig.get_path(kind)) / "mx_autopatch.pth").exists()
    for kind in ("purelib", "platlib")
)

#: Whether this is the lane "npu". Where torch-npu is installed, `import torch` needs CANN.
HAS_TORCH_NPU = importlib.util.find_spec("torch_npu") is not None


def device_environment(active: bool) -> dict[str, str]:
    """What lets a child import torch in the lane "npu", with us and without."""
    if not HAS_TORCH_NPU:
        return {}
    return {"MX_AUTOPATCH_DEVICE": "soft"} if active else {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}


def environment(
    path: Iterable[str | Path] = (), active: bool = False, **more: str
) -> dict[str, str]:
    """A child's environment: the package importable, nothing else of ours unless ``active``.

    Where the .pth file is not installed, sitecustomize.py takes its place.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        # pytest-xdist says COLUMNS, which would wrap what a child writes.
        if not name.startswith(("MX_AUTOPATCH", "PYTHON", "COV_")) and name != "COLUMNS"
    }
    folders = [*map(str, path), str(ROOT)]
    if active:
        env["MX_AUTOPATCH"] = "1"
        env["MX_AUTOPATCH_REPORT_LEVEL"] = "silent"
        if not INSTALLED:
            folders.append(str(ROOT / "sitecustomize_template"))
    env.update(device_environment(active))
    env["PYTHONPATH"] = os.pathsep.join(folders)
    env.update(more)
    return env


def python(
    *arguments: str | Path,
    cwd: str | Path,
    env: Mapping[str, str] | None = None,
    fails: bool = False,
    timeout: float = 60,
    warnings: bool = True,
    **more: Any,
) -> subprocess.CompletedProcess[str]:
    """Run this Python, with warnings as errors; whether it fails must be as said."""
    flags = ["-W", "error"] if warnings else []
    done = subprocess.run(
        [sys.executable, *flags, *map(str, arguments)],
        cwd=cwd,
        env=dict(environment() if env is None else env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **more,
    )
    assert (done.returncode != 0) is fails, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write ``relative path -> content`` below ``folder``."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            content = textwrap.dedent(content).encode()
        path.write_bytes(content)
    return folder


class Seen:
    """What one run of a script saw: its last line of output, read as JSON."""

    def __init__(self, done: subprocess.CompletedProcess[str], report: Path) -> None:
        self.stdout, self.stderr = done.stdout, done.stderr
        lines = done.stdout.splitlines()
        self.value: Any = json.loads(lines[-1]) if lines else None
        self.outcomes: list[dict[str, Any]] = []
        self.problems: list[str] = []
        if report.exists():
            content = json.loads(report.read_text())
            self.outcomes = [o for o in content["outcomes"] if o["patch"].startswith("trial.")]
            self.problems = content["problems"]

    def statuses(self) -> dict[str, str]:
        """Status by target."""
        return {outcome["target"]: outcome["status"] for outcome in self.outcomes}


def both(
    folder: Path,
    script: str,
    patches: str,
    *,
    path: Iterable[str | Path] = (),
    command: Iterable[str] | None = None,
    env: Mapping[str, str] | None = None,
    expect: str | None = "APPLIED",
    at_once: bool = True,
) -> tuple[Seen, Seen]:
    """Run ``script`` without us and with us, and return what each run saw.

    Args:
        folder: Where the script's modules lie; it becomes the working directory.
        script: Prints its observations as JSON, see ``observe``.
        patches: The plugin module's source; its patches are named ``trial.…``.
        command: Arguments of Python in place of the script.
        expect: The status that every edit of a trial patch has in the end.
        at_once: Whether both may run at the same time; not so if they write files.
    """
    write_files(folder, {"script.py": script, "trial_patches.py": patches})
    report = folder / "report.json"
    folders = [*path, folder, HERE / "engine"]
    arguments = ["script.py"] if command is None else list(command)
    active = environment(
        folders,
        active=True,
        MX_AUTOPATCH_PLUGINS_MODULES="trial_patches",
        MX_AUTOPATCH_PATCHES_ONLY="trial.*",
        MX_AUTOPATCH_REPORT_PATH=str(report),
        **(env or {}),
    )
    with ThreadPoolExecutor(2 if at_once else 1) as pool:
        inactive = environment(folders, **(env or {}))
        runs = [pool.submit(python, *arguments, cwd=folder, env=env) for env in (inactive, active)]
        plain, hooked = (run.result() for run in runs)
    first, second = Seen(plain, folder / "no report"), Seen(hooked, report)
    assert (first.stderr, second.stderr) == ("", ""), first.stderr + second.stderr
    assert not second.problems, second.problems
    if expect is not None:
        assert second.outcomes
        assert {o["status"] for o in second.outcomes} == {expect}, second.outcomes
    return first, second

"""Importing modules in a process of its own, with mx_autopatch and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Attempt", "attempt"]

_TIMEOUT = 600  # a cold disk, and torch


@dataclass(frozen=True)
class Attempt:
    """How the imports ended.

    Attributes:
        errors: Module -> the type and text of what its import raised.
        applied: The patches that were applied.
    """

    errors: Mapping[str, str]
    applied: tuple[str, ...] = ()


_CHILD = """\
import importlib, json, sys
errors = {}
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        errors[name] = f"{type(error).__name__}: {error}"
applied = []
if "mx_autopatch.bootstrap" in sys.modules:
    import mx_autopatch
    applied = sorted({o.patch for o in mx_autopatch.report() if o.status.in_force})
with open(sys.argv[1], "w") as file:
    json.dump({"errors": errors, "applied": applied}, file)
"""

_ACTIVATE = "from mx_autopatch import bootstrap; bootstrap.start()\n"


def attempt(modules: Sequence[str], active: bool, settings: Mapping[str, str]) -> Attempt:
    """Import ``modules``, one after the other, in a new interpreter.

    Args:
        active: Whether mx_autopatch is in force there.
        settings: Further variables of the environment.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MX_AUTOPATCH")}
    environment.update(settings)
    if active:
        environment.update(MX_AUTOPATCH="1", MX_AUTOPATCH_REPORT_LEVEL="silent")
    # What this process can import, that one shall, from the same places.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    with tempfile.TemporaryDirectory(prefix="mx_autopatch_doctor_") as folder:
        answer = Path(folder, "answer.json")
        code = (_ACTIVATE if active else "") + _CHILD
        try:
            done = subprocess.run(
                [sys.executable, "-c", code, str(answer), *modules],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Attempt({modules[0]: f"TimeoutExpired: no end after {_TIMEOUT} seconds"})
        if not answer.exists():  # a crash
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            return Attempt({modules[0]: f"the interpreter died: {said[-1]}"})
        content = json.loads(answer.read_text())
    return Attempt(content["errors"], tuple(content["applied"]))

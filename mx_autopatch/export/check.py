"""Whether an exported package works alone: tried out where nothing else could be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mx_autopatch.export.config import ExportError
from mx_autopatch.export.emit import PACK

__all__ = ["check"]

#: What an exported package may import of OpenMMLab's.
_ALLOWED = ("mmengine", "mmcv")

_BLOCK = """\
import importlib.util, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}}: an exported package must not need it", name=name)
sys.meta_path.insert(0, Block())
"""

_BUILD = """\
import json, sys
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
config = Config.fromfile(sys.argv[1])
scope = config.get("default_scope") or sys.argv[3]
__import__(scope + ".registry" if scope != "pack" else scope)
init_default_scope(scope)
model = MODELS.build(config.model)
shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
json.dump(shapes, open(sys.argv[2], "w"))
"""


def check(folder: Path, config: Path, original: Path, scope: str, blocked: list[str]) -> str:
    """Try an exported package out; what was found, in words.

    Args:
        folder: The output, with the package in it.
        config: Its config.
        original: The config that it was made of.
        scope: That config's default scope.
        blocked: The top-level packages that must not be imported.

    Raises:
        ExportError: it does not import, build, or start its tools; or has other parameters
            than the original, where that can be built.
    """
    blocked = sorted({*blocked, "mim", "mx_autopatch"} - set(_ALLOWED))
    block = _BLOCK.format(blocked=tuple(blocked))
    paths = os.pathsep.join([str(folder), *filter(None, sys.path)])
    shapes = _build(block, config, PACK, paths, {})
    _run(block + _TOOL, [str(folder / "tools" / "train.py"), "--help"], paths, {})
    try:
        active = {"MX_AUTOPATCH": "1", "MX_AUTOPATCH_REPORT_LEVEL": "silent"}
        start = "from mx_autopatch import bootstrap; bootstrap.start()\n"
        expected = _build(start, original, scope, os.pathsep.join(filter(None, sys.path)), active)
    except ExportError as error:
        return f"{len(shapes)} parameters and buffers; the original cannot be built here: {error}"
    if shapes != expected:
        odd = sorted({k for k in {*shapes, *expected} if shapes.get(k) != expected.get(k)})
        raise ExportError(f"the parameters differ from the original's: {', '.join(odd[:5])} ...")
    return f"{len(shapes)} parameters and buffers, those of the original"


_TOOL = "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')\n"


def _build(
    before: str, config: Path, scope: str, paths: str, settings: dict[str, str]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mx_autopatch_export_") as scratch:
        answer = Path(scratch, "shapes.json")
        _run(before + _BUILD, [str(config), str(answer), scope], paths, settings)
        shapes: dict[str, Any] = json.loads(answer.read_text())
    return shapes


def _run(code: str, arguments: list[str], paths: str, settings: dict[str, str]) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MX_AUTOPATCH")}
    environment.update(settings, PYTHONPATH=paths, PYTHONDONTWRITEBYTECODE="1")
    with tempfile.TemporaryDirectory(prefix="mx_autopatch_export_") as scratch:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=scratch,  # nothing of the working folder may help
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        # A KeyError may have been explained below its own line.
        said = next((line for line in reversed(lines) if "Error" in line), lines[-1])
        raise ExportError(said)

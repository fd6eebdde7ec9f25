"""Compiles the stand-in for CANN, once for each content of its source."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from mx_autopatch.errors import SoftNpuError
from mx_autopatch.softnpu.names import LIBRARIES, MAIN, REFUSE, SUCCEED

__all__ = ["built", "cache", "source"]

_FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror=implicit")


def source() -> str:
    """The whole C source: ``cann.c`` and the functions that ``names.py`` lists."""
    written = Path(__file__).with_name("cann.c").read_text(encoding="utf-8")
    lines = [written, "/* ---- the rest: written from names.py ---- */", ""]
    lines += [f"aclError {name}() {{ return OK; }}" for name in SUCCEED]
    lines += [f'aclError {name}() {{ return unsupported("{name}"); }}' for name in REFUSE]
    return "\n".join(lines) + "\n"


def cache() -> Path:
    """The folder for what we compile: ``$XDG_CACHE_HOME/mx_autopatch``."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "mx_autopatch"


def built(torch_npu_version: str) -> Path:
    """The folder with the compiled libraries, compiled now if they are not there.

    It appears whole or not at all: each process compiles in a folder of its own and
    renames that, and the first one wins. So any number may come at once, and one that
    is killed leaves nothing that another would take for complete.

    Raises:
        SoftNpuError: there is no compiler, it fails, or the cache cannot be written.
    """
    text = source()
    key = hashlib.sha256("\0".join((text, *_FLAGS, *LIBRARIES)).encode()).hexdigest()[:16]
    folder = cache() / f"softnpu-{torch_npu_version}-{key}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent)
    except OSError as error:
        raise SoftNpuError(
            f"soft NPU: cannot write to {folder.parent}: {error}; set XDG_CACHE_HOME to a folder "
            "that can be written to"
        ) from error
    try:
        _compile(Path(made), text)
        try:
            os.rename(made, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _compile(folder: Path, text: str) -> None:
    (folder / "cann.c").write_text(text, encoding="utf-8")
    main = f"lib{MAIN}.so"
    _cc(folder, "cann.c", main)
    (folder / "empty.c").write_text("typedef int nothing;\n", encoding="utf-8")
    for name in LIBRARIES:
        _cc(folder, "empty.c", f"lib{name}.so", "-Wl,--no-as-needed", f"./{main}")
    for name in ("runtime", "compiler", "opp"):  # torch_npu looks for these at its import
        (folder / name).mkdir()


def _cc(folder: Path, code: str, library: str, *more: str) -> None:
    compiler = os.environ.get("CC") or "cc"
    command = [*compiler.split(), *_FLAGS, f"-Wl,-soname,{library}", "-o", library, code, *more]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except OSError as error:
        raise SoftNpuError(
            f"soft NPU: no C compiler: {compiler!r} cannot be run ({error.strerror}); install one "
            "(apt-get install gcc libc6-dev) or name it in the environment variable CC"
        ) from error
    if done.returncode:
        raise SoftNpuError(
            f"soft NPU: {' '.join(command)} failed with exit status {done.returncode}:\n"
            f"{done.stderr.strip()}"
        )

"""Compiles the stand-in for CANN, once for each content of its source.

What is compiled lies in a folder of the user's cache, which is there whole or not at all:
it is made beside its place and renamed. A lock lets one process of many compile while the
others wait, and lets it know that whatever half-made folder it finds is nobody's any more.
The kernel lets go of the lock of a process that is killed. Where a file system has no
locks, each process compiles, and the first one that is done wins.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mx_autopatch.errors import SoftNpuError
from mx_autopatch.softnpu.names import LIBRARIES, MAIN, REFUSE, SUCCEED

__all__ = ["built", "cache", "source"]

_FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-shared", "-pthread", "-funwind-tables")

#: A library that is but a name for another one. It has a function, since torch, to record
#: where memory was allocated, warns of every library that has none.
_NAME = "__attribute__((used)) static void nothing(void) {}\n"

#: Names the files of a folder with their sizes; is written last.
_CONTENT = "content.json"
#: Seconds after which another process that compiles is not waited for any longer.
_PATIENCE = 120.0


def source() -> str:
    """The whole C source: ``cann.c`` and the functions that ``names.py`` lists."""
    written = Path(__file__).with_name("cann.c").read_text(encoding="utf-8")
    lines = [written, "/* ---- the rest: written from names.py, which says why (void) ---- */", ""]
    lines += [f"aclError {name}(void) {{ return OK; }}" for name in SUCCEED]
    lines += [f'aclError {name}(void) {{ return unsupported("{name}"); }}' for name in REFUSE]
    return "\n".join(lines) + "\n"


def cache() -> Path:
    """The folder for what we compile: ``$XDG_CACHE_HOME/mx_autopatch``.

    Raises:
        SoftNpuError: the user has no home.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the standard says so: a relative one is to be ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(base):
        raise SoftNpuError(
            "soft NPU: there is no home directory to compile into; set XDG_CACHE_HOME to a folder "
            "that can be written to"
        )
    return Path(base) / "mx_autopatch"


def built(torch_npu_version: str) -> Path:
    """The folder with the compiled libraries, compiled now if they are not there.

    A folder of which something is missing is made anew.

    Raises:
        SoftNpuError: there is no compiler, it fails, or the cache cannot be written.
    """
    text = source()
    folder = cache() / f"softnpu-{torch_npu_version}-{_key(text)}"
    if _is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent) as alone:
            if _is_whole(folder):  # by whom we waited for
                return folder
            if alone:
                for left in folder.parent.glob("softnpu-*.tmp-*"):
                    shutil.rmtree(left, ignore_errors=True)
            made = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
            try:
                _compile(made, text)
                _move(made, folder)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise SoftNpuError(
            f"soft NPU: cannot write to {folder.parent}: {error}; set XDG_CACHE_HOME to a folder "
            "that can be written to"
        ) from error
    return folder


def _key(text: str) -> str:
    """What the libraries depend on; a home may be shared by machines that differ."""
    machine = os.uname().machine, os.confstr("CS_GNU_LIBC_VERSION") or ""
    return hashlib.sha256(
        "\0".join((text, *_FLAGS, _NAME, *LIBRARIES, *machine)).encode()
    ).hexdigest()[:16]


@contextmanager
def _locked(parent: Path) -> Iterator[bool]:
    """Be the only process that compiles; gives whether that is so."""
    with open(parent / "softnpu.lock", "w") as lock:
        yield _lock(lock.fileno())


def _lock(file: int) -> bool:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:  # a file system without locks
            return False
    return False


def _is_whole(folder: Path) -> bool:
    """Whether all files are there in their sizes, which a crash of the machine may undo."""
    try:
        content = json.loads((folder / _CONTENT).read_bytes())
        return all((folder / name).stat().st_size == size for name, size in content.items())
    except (OSError, ValueError):
        return False


def _move(made: Path, folder: Path) -> None:
    try:
        os.rename(made, folder)
    except OSError:
        if _is_whole(folder):  # another process was faster
            return
        # In its place lies one that was half deleted: put it aside.
        aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
        os.rename(folder, aside)
        os.rename(made, folder)
        shutil.rmtree(aside, ignore_errors=True)


def _compile(folder: Path, text: str) -> None:
    (folder / "cann.c").write_text(text, encoding="utf-8")
    main = f"lib{MAIN}.so"
    _cc(folder, "cann.c", main)
    (folder / "name.c").write_text(_NAME, encoding="utf-8")
    for name in LIBRARIES:
        _cc(folder, "name.c", f"lib{name}.so", "-Wl,--no-as-needed", f"./{main}")
    for name in ("runtime", "compiler", "opp"):  # torch_npu looks for these at its import
        (folder / name).mkdir()
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.so")}
    (folder / _CONTENT).write_text(json.dumps(sizes), encoding="utf-8")


def _compiler() -> list[str]:
    named = os.environ.get("CC", "")
    if named.strip():
        return shlex.split(named)
    return [next(filter(shutil.which, ("cc", "gcc", "clang")), "cc")]


def _cc(folder: Path, code: str, library: str, *more: str) -> None:
    command = [*_compiler(), *_FLAGS, f"-Wl,-soname,{library}", "-o", library, code, *more]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise SoftNpuError(
            f"soft NPU: no C compiler: {command[0]!r} cannot be run ({error.strerror}); install "
            "one (apt-get install gcc libc6-dev) or name it in the environment variable CC"
        ) from error
    if done.returncode:
        raise SoftNpuError(
            f"soft NPU: {shlex.join(command)} failed with exit status {done.returncode}; install "
            "a C compiler that works (apt-get install gcc libc6-dev) or name it in the "
            f"environment variable CC:\n{(done.stderr or done.stdout).strip()}"
        )

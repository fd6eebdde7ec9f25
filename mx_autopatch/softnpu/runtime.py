"""Loads the stand-in for CANN, before torch loads torch_npu.

torch imports torch_npu at the end of its own import, and that links CANN: so whatever is
to answer for CANN must be in the process before. Nothing here imports torch.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from mx_autopatch.errors import SoftNpuError
from mx_autopatch.softnpu.names import LIBRARIES, MAIN

__all__ = ["as_installed", "has_failed", "is_loaded", "load", "show_one"]

#: How many devices to show, from 0 to 64; where it is not set, one for each process that
#: torchrun has started on this machine, else 1.
DEVICES = "MX_AUTOPATCH_SOFT_DEVICES"
#: Memory of each device, ``8GiB``: to rehearse running out of it; 64GiB where it is not set.
MEMORY = "MX_AUTOPATCH_SOFT_MEMORY"
#: Set to 1: stand in even for a real CANN.
FORCE = "MX_AUTOPATCH_SOFT_FORCE"

# Kept, since a library that nobody refers to is closed.
_libraries: list[ctypes.CDLL] = []
_failed = False


def is_loaded() -> bool:
    """Whether this process has the stand-in for CANN."""
    return bool(_libraries)


def has_failed() -> bool:
    """Whether the stand-in was asked for in vain; asking again gives the same error."""
    return _failed


def show_one() -> None:
    """Have a stand-in that was loaded without a device show one from now on, without memory."""
    _libraries[0].soft_npu_show_one()


def load(devices: int | None = None) -> str:
    """Load the stand-in, compiling it where that has not been done; does nothing twice.

    Args:
        devices: How many to show; None for ``MX_AUTOPATCH_SOFT_DEVICES``, else torchrun's
            ``LOCAL_WORLD_SIZE``, else 1. They are counted here, once.

    Returns:
        What was loaded, in words.

    Raises:
        SoftNpuError: torch-npu is missing or made for another torch, there is a real CANN,
            torch_npu is loaded already, or the stand-in cannot be compiled or loaded.
    """
    global _failed
    if not _libraries:
        _failed = True  # unless what follows raises nothing
        _libraries.extend(_loaded(devices))
        _failed = False
    return f"stand-in for CANN at {_folder()}"


def _loaded(devices: int | None) -> list[ctypes.CDLL]:
    if sys.platform != "linux":
        raise SoftNpuError(f"soft NPU: torch_npu is made for Linux, this is {sys.platform}")
    if devices is None:
        devices = _count(os.environ.get(DEVICES, ""))
    _check_memory(os.environ.get(MEMORY, ""))
    version = _checked_version()
    # What links CANN; torch_npu itself is there when it is what imports torch.
    if "torch_npu._C" in sys.modules:
        raise SoftNpuError("soft NPU: torch_npu is loaded already; start it with the interpreter")
    if os.environ.get(FORCE) != "1":
        _refuse_real_cann()
    from mx_autopatch.softnpu.build import built

    folder = built(version)
    # Nothing is gained by a queue here, and an error is raised where it arises.
    os.environ.setdefault("TASK_QUEUE_ENABLE", "0")
    with _environment({DEVICES: str(devices)}):  # which cann.c reads as it is loaded
        return [_opened(folder / f"lib{name}.so") for name in (MAIN, *LIBRARIES)]


def _opened(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise SoftNpuError(
            f"soft NPU: what was compiled cannot be loaded: {error}; delete {path.parent}, it is "
            "made anew"
        ) from error


def _folder() -> str:
    return os.path.dirname(_libraries[0]._name)


@contextmanager
def as_installed() -> Iterator[None]:
    """Say, for the time of an import of torch_npu, that CANN lies where the stand-in does.

    torch_npu complains on stdout otherwise; and left in the environment it would tell
    others of a CANN that there is not.
    """
    folder = _folder()
    with _environment({"ASCEND_HOME_PATH": folder, "ASCEND_OPP_PATH": os.path.join(folder, "opp")}):
        yield


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    former = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _count(text: str) -> int:
    number = r"[0-9]|[1-5][0-9]|6[0-4]"
    if not text:
        # Scripts written for CUDA take the device of their local rank.
        ranks = os.environ.get("LOCAL_WORLD_SIZE", "")
        return int(ranks) if re.fullmatch(number, ranks) else 1
    if not re.fullmatch(number, text):
        raise SoftNpuError(f"environment {DEVICES}: {text!r}: expected a number from 0 to 64")
    return int(text)


def _check_memory(text: str) -> None:
    if text and not re.fullmatch(r"[1-9][0-9]{0,12}|[1-9][0-9]{0,3}[KMGT]iB", text):
        raise SoftNpuError(
            f"environment {MEMORY}: {text!r}: expected a number of bytes, or one of KiB, MiB, GiB "
            "or TiB like 8GiB"
        )


def _checked_version() -> str:
    """The version of torch_npu, which must be that of torch."""
    try:
        version = metadata.version("torch-npu")
    except metadata.PackageNotFoundError:
        raise SoftNpuError(
            "soft NPU: it runs the real torch_npu, which is not installed; "
            "install the one for this torch: pip install torch-npu==<version of torch>"
        ) from None
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        raise SoftNpuError(
            f"soft NPU: torch is not installed; pip install torch=={_release(version)}"
        ) from None
    if _release(version) != _release(torch):
        raise SoftNpuError(
            f"soft NPU: torch_npu {version} needs torch {_release(version)}, found {torch}; "
            f"pip install torch-npu=={_release(torch)}, or torch=={_release(version)}"
        )
    return version


def _release(version: str) -> str:
    """``2.13.0`` of ``2.13.0.post1`` and of ``2.13.0+cpu``."""
    match = re.match(r"\d+\.\d+\.\d+", version)
    return match[0] if match else version


def _refuse_real_cann() -> None:
    from mx_autopatch.device import has_cann

    if has_cann():
        raise SoftNpuError(
            "soft NPU: this machine has a real CANN (libascendcl.so was found): use "
            f"device = 'npu'; or, to rehearse all the same, set {FORCE}=1, or start from a "
            "shell without CANN's set_env.sh"
        )

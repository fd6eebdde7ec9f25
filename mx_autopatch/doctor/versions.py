"""What versions alone tell: pairs that do not fit, and what fails later than at the import."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Callable

from mx_autopatch.doctor.diagnosis import FAILS, FIXED, NOTE, OK, Diagnosis
from mx_autopatch.registries.packages import copies_of

__all__ = ["pairs", "runtime"]

#: ``distribution -> version``, None if it is not installed.
Version = Callable[[str], "str | None"]


def pairs(version: Version, has_cann: Callable[[], bool]) -> Iterator[Diagnosis]:
    """torch, torch_npu and CANN; what there are two of."""
    torch, npu = version("torch"), version("torch-npu")
    if torch is None:
        yield Diagnosis("torch", FAILS, "not installed", "pip install torch")
    if npu is not None and torch is not None:
        if _release(npu, 3) == _release(torch, 3):
            yield Diagnosis("torch_npu", OK, f"{npu} belongs to torch {torch}")
        else:
            yield Diagnosis(
                "torch_npu",
                FAILS,
                f"torch_npu {npu} is for torch {'.'.join(map(str, _release(npu, 3)))}, "
                f"and torch is {torch}",
                f"pip install 'torch=={npu.partition('.post')[0]}', or the torch_npu for {torch}",
            )
        if not has_cann():
            yield Diagnosis(
                "CANN",
                NOTE,
                "its runtime cannot be loaded: there is no NPU for this process, and torch "
                "alone imports by the patch torch.autoload_guard",
                "source set_env.sh of the Ascend toolkit, or rehearse with --device soft",
            )
    yield from _twice(version)


def _twice(version: Version) -> Iterator[Diagnosis]:
    there = [name for name in ("mmcv", "mmcv-full", "mmcv-lite") if version(name)]
    if len(there) > 1:
        yield Diagnosis(
            "mmcv",
            FAILS,
            f"{', '.join(there)} are installed at once, over one another",
            f"pip uninstall {' '.join(there)}; pip install one of them",
        )
    for package in ("mmcv", "mmengine", "mmdet", "mmseg", "mmdet3d", "mmpose", "mmpretrain"):
        copies = copies_of(package)
        if len(copies) > 1:
            yield Diagnosis(
                package,
                NOTE,
                f"on the path {len(copies)} times; {copies[0]} is used, and hides "
                f"{', '.join(map(str, copies[1:]))} (mmdetection#9640)",
                "remove one, or start where it is not in the working folder",
            )


def runtime(version: Version) -> Iterator[Diagnosis]:
    """What would fail later than at the import, were it not for a patch."""
    torch, mmcv, mmengine = version("torch"), _mmcv(version), version("mmengine")
    if _at_least(torch, 2, 6) and (mmengine or mmcv):
        yield Diagnosis(
            "torch.load",
            FIXED if mmengine else NOTE,
            f"torch {torch} refuses what is no tensor in a checkpoint: HistoryBuffer, Config "
            "(mmengine#1655)",
            "mmengine.checkpoint_load" if mmengine else "torch.load(..., weights_only=False)",
        )
    if _at_least(torch, 2, 0):
        yield Diagnosis(
            "--local-rank",
            FIXED,
            "torch.distributed.launch of torch 2 writes it with a hyphen",
            "torch.local_rank",
        )
    yapf = version("yapf")
    old = (mmcv and not _at_least(mmcv, 2)) or (mmengine and not _at_least(mmengine, 0, 9))
    if old and _at_least(yapf, 0, 40, 2):
        yield Diagnosis(
            "yapf",
            FIXED,
            f"FormatCode of yapf {yapf} has no 'verify' (mmdetection#10962)",
            "yapf.format_code",
        )
    if mmcv and not _at_least(mmcv, 2) and _at_least(torch, 2):
        yield Diagnosis(
            "mmcv",
            FIXED,
            f"mmcv {mmcv} on torch {torch}: DDP (Cream#179) and _get_stream "
            "(mmdetection#10720) are not those that it knows",
            "mmcv.ddp, mmcv.stream",
        )
    if _at_least(version("setuptools"), 82) and (mmengine or mmcv):
        yield Diagnosis(
            "pkg_resources",
            FIXED,
            'setuptools has none any more, and `_base_ = "mmdet::..."` is found by it',
            "setuptools.pkg_resources",
        )
    if (
        _at_least(torch, 2, 5)
        and version("transformers")
        and _between(mmengine, (0, 8), (0, 10, 5))
    ):
        yield Diagnosis(
            "mmengine",
            FAILS,
            f"mmengine {mmengine} registers Adafactor of torch and of transformers (mmengine#1609)",
            "pip install 'mmengine>=0.10.5'",
        )
    if sys.version_info >= (3, 12) and _between(version("setuptools"), (0,), (66, 1)):
        yield Diagnosis(
            "setuptools",
            FAILS,
            "pkgutil.ImpImporter is gone from Python 3.12 (mmcv#3263)",
            "pip install 'setuptools>=66.1'",
        )


def _mmcv(version: Version) -> str | None:
    found = (version(name) for name in ("mmcv", "mmcv-full", "mmcv-lite"))
    return next((each for each in found if each), None)


def _release(version: str, length: int) -> tuple[int, ...]:
    """The numbers that a version begins with: (2, 13, 0) of 2.13.0.post1+cpu."""
    match = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    return tuple((numbers + [0] * length)[:length])


def _at_least(version: str | None, *least: int) -> bool:
    return version is not None and _release(version, len(least)) >= least


def _between(version: str | None, low: tuple[int, ...], high: tuple[int, ...]) -> bool:
    return _at_least(version, *low) and not _at_least(version, *high)

"""Operators of torch_npu that the soft NPU refuses, and why.

The first pattern that matches counts. ``tests/softnpu/npu/test_npu_contracts.py`` checks that
every operator of the installed torch_npu has a reference, is native, or is listed here.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

__all__ = ["REFUSED", "why_refused"]

REFUSED: dict[str, str] = {}


def why_refused(name: str) -> str:
    """Why an operator of the namespace npu has no kernel."""
    for pattern, why in REFUSED.items():
        if fnmatchcase(name.partition("::")[2], pattern):
            return why
    return "it is newer than the soft NPU, or not documented"

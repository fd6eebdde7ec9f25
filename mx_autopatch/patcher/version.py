"""Versions of installed packages, for a precheck.

No package is imported to be asked, unless only its own code knows.
"""

from __future__ import annotations

import importlib.util
import re
import sys

from mx_autopatch.engine import during
from mx_autopatch.engine.requires import Requirements

__all__ = ["check_version", "get_version", "is_mmcv_v1x", "is_mmcv_v2x", "mmcv_version"]


def get_version(package: str) -> str | None:
    """The version of ``package`` (a name as one imports it), None if it is not installed.

    It is the true one, also while mmcv shows another to a package that caps it.
    """
    found = Requirements({}, _of_loaded).version(package)
    if found is not None:
        return found
    try:
        if importlib.util.find_spec(package) is None:
            return None
        __import__(package)
    except (ImportError, ValueError):
        return None
    return _of_loaded(package)


def _of_loaded(package: str) -> str | None:
    """The version that a loaded module states itself."""
    module = sys.modules.get(package)
    if module is None:
        return None
    for name in ("__version__", "version", "VERSION"):
        stated = during.true_value(module, name)
        if isinstance(stated, str):
            return stated
    return None


def check_version(package: str, major: int | None = None, minor: int | None = None) -> bool:
    """Whether ``package`` is installed in that major and minor version; None is any."""
    numbers = re.match(r"(\d+)(?:\.(\d+))?", get_version(package) or "")
    if numbers is None:
        return False
    found = [None if number is None else int(number) for number in numbers.groups()]
    return all(want is None or want == have for want, have in zip((major, minor), found))


class _MmcvVersion:
    """mmcv's version; also a function that returns it, and false where there is no mmcv."""

    @property
    def version(self) -> str | None:
        return get_version("mmcv")

    @property
    def is_v1x(self) -> bool:
        return check_version("mmcv", major=1)

    @property
    def is_v2x(self) -> bool:
        return check_version("mmcv", major=2)

    @property
    def has_mmcv(self) -> bool:
        return self.version is not None

    @property
    def has_mmengine(self) -> bool:
        return get_version("mmengine") is not None

    @property
    def available(self) -> bool:
        return self.has_mmcv

    def __bool__(self) -> bool:
        return self.has_mmcv

    def __call__(self) -> str | None:
        return self.version

    def __repr__(self) -> str:
        return f"<mmcv_version {self.version}>"


mmcv_version = _MmcvVersion()


def is_mmcv_v1x() -> bool:
    """Whether mmcv 1.x is installed."""
    return mmcv_version.is_v1x


def is_mmcv_v2x() -> bool:
    """Whether mmcv 2.x is installed."""
    return mmcv_version.is_v2x

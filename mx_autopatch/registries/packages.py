"""Which installed packages build on OpenMMLab's registries."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["copies_of", "version_of", "with_registries"]

#: The distributions that bring the Registry class, one of which the others require.
_BASES = frozenset({"mmengine", "mmengine-lite", "mmcv", "mmcv-full", "mmcv-lite"})


@functools.cache
def with_registries() -> tuple[str, ...]:
    """Top-level packages of the distributions that are, or require, mmengine or mmcv.

    Extras count: mmdet and mmseg name mmcv in one alone.
    """
    from importlib_metadata import requires

    found = []
    for package, distributions in _distributions().items():
        for distribution in distributions:
            wanted = {_normal(requirement) for requirement in requires(distribution) or ()}
            if (wanted | {_normal(distribution)}) & _BASES:
                found.append(package)
                break
    return tuple(sorted(set(found) - {__name__.partition(".")[0]}))


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    """Top-level package -> its distributions. It reads all their lists of files: once is enough."""
    from importlib_metadata import packages_distributions

    return packages_distributions()


def version_of(package: str) -> str | None:
    """The version of the distribution that has a top-level package; None if there is none."""
    from importlib_metadata import version

    distributions = _distributions().get(package, [])
    return version(distributions[0]) if distributions else None


def _normal(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def copies_of(package: str) -> list[Path]:
    """The folders of that name on ``sys.path``, the one that Python imports first."""
    found: dict[Path, None] = {}
    for entry in sys.path:
        folder = Path(entry or ".", package)
        if (folder / "__init__.py").is_file():
            found.setdefault(folder.resolve(), None)
    return list(found)

"""mmcv's version, as a package that caps it wants to read it.

Why: mmdet 3.3, mmseg 1.2, mmdet3d 1.4 and their kin assert a version of mmcv in their
     own ``__init__`` that today's mmcv exceeds, though they run on it
     (mmdetection#12312, mmcv#3071).
How: while such a package executes, its own code reads a version within the bounds it
     declares; everybody else goes on reading the true one. ``mmcv.version`` in the
     configuration, or patch_mmcv_version(), names the version to show instead.
Upstream: the ``assert`` in the package's ``__init__``.
Remove when: the packages raise their caps.
"""

import ast
from typing import Any, Optional

from mx_autopatch.model import Context, During, NotNeeded, Patch

# Everything that asserts a version of mmcv when it is imported.
_PACKAGES = (
    *("mmdet", "mmseg", "mmdet3d", "mmpose", "mmpretrain", "mmcls", "mmrotate", "mmyolo"),
    *("mmaction", "mmocr", "mmtrack", "mmagic", "mmedit", "mmgen", "mmselfsup", "mmrazor"),
    *("mmfewshot", "mmhuman3d", "mmflow", "mmdeploy"),
)

# mmcv's releases that close a minor version, newest first: the candidates to show.
_RELEASES = (
    *("2.2.0", "2.1.0", "2.0.1", "2.0.0", "1.7.2", "1.6.2", "1.5.3", "1.4.8", "1.3.18"),
    *("1.2.7", "1.1.6", "1.0.5"),
)

_chosen: Optional[str] = None


def patch_mmcv_version(version: Optional[str]) -> None:
    """Let packages that are imported from now on read ``version`` as mmcv's.

    ``mmcv.__version__`` itself stays true. None returns to the default, a version
    within the bounds that each package declares.

    Raises:
        ValueError: ``version`` is no version.
    """
    global _chosen
    from packaging.version import InvalidVersion, Version

    if version is not None:
        try:
            Version(version)
        except InvalidVersion:
            raise ValueError(f"patch_mmcv_version: {version!r} is not a version") from None
    _chosen = version


def _shown_version(context: Context) -> str:
    chosen = _chosen or context.config.mmcv_version
    if chosen:
        return str(chosen)
    import mmcv
    from packaging.version import Version

    true = Version(mmcv.__version__)
    low, high = _declared_bounds(context.module)
    if high is None or true < Version(high):
        raise NotNeeded(f"mmcv {true} is within the bounds of {context.module.__name__}")
    for release in _RELEASES:
        if Version(release) < Version(high) and (low is None or Version(release) >= Version(low)):
            return release
    raise NotNeeded(f"no release of mmcv is within {low} and {high}; set mmcv.version")


def _declared_bounds(module: Any) -> "tuple[Optional[str], Optional[str]]":
    """The lowest and the (excluded) highest version that a package's source names.

    They all assign two strings, ``mmcv_minimum_version`` and ``mmcv_maximum_version``
    or ``MMCV_MIN`` and ``MMCV_MAX``, before they assert anything.
    """
    source = module.__spec__.loader.get_source(module.__name__) or ""
    bounds: dict[str, str | None] = {"min": None, "max": None}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
            continue
        for target in node.targets:
            name = getattr(target, "id", "").lower()
            if name.startswith("mmcv_m") and isinstance(node.value.value, str):
                bounds[name[5:8]] = node.value.value
    return bounds["min"], bounds["max"]


PATCHES = (
    Patch(
        name="mmcv.version_gate",
        edits=tuple(
            During("mmcv:__version__", module=package, factory=_shown_version)
            for package in _PACKAGES
        ),
        requires=("module:mmcv",),
    ),
)

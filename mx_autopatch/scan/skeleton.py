"""A file of patches to fill in, for what no patch takes care of."""

from __future__ import annotations

import keyword
from collections.abc import Iterable
from pathlib import PurePosixPath

from mx_autopatch.scan.reading import Finding

__all__ = ["skeleton"]

_HEAD = '''"""Patches for what `mx-autopatch scan` found that no patch takes care of.

Write each function with the parameters of the original, under their names, set default=True
(or name the patches in patches.enable), and name this file in autopatch.toml:

    [plugins]
    files = ["{file}"]
"""

from mx_autopatch.model import Patch, Replace
'''

_FUNCTION = """

# {where}
def {function}(*args, **kwargs):
    raise NotImplementedError
"""

_PATCH = """    Patch(
        name="{name}",
        edits=(
            Replace(
                "{target}",
                {function},
            ),
        ),
        requires=("device:npu",),
        default=False,
    ),
"""


def skeleton(findings: Iterable[Finding], file: str, package: str = "") -> str:
    """The source of a patch file named ``file``: one patch for each function that is to change.

    Findings outside of functions, and kernels, are listed as comments. ``package`` is the
    one that the findings' files lie in, if they lie in one.
    """
    functions: dict[tuple[str, str], list[Finding]] = {}
    parts, patches = [_HEAD.format(file=file)], []
    for finding in findings:
        module = _module(package, finding.file)
        if finding.patch:
            continue
        if finding.qualname and module:
            functions.setdefault((module, finding.qualname), []).append(finding)
        else:
            parts.append(f"\n# {_where(finding)}\n")
    names: set[str] = set()
    for (module, qualname), found in functions.items():
        function = _unique(qualname.replace(".", "_").lower(), names)
        target = f"{module}:{qualname}"
        where = "\n# ".join(map(_where, found))
        parts.append(_FUNCTION.format(where=where, function=function))
        patches.append(_PATCH.format(name=f"project.{function}", target=target, function=function))
    if patches:
        parts.append("\n\nPATCHES = (\n" + "".join(patches) + ")\n")
    else:
        parts.append("\n\nPATCHES: tuple[Patch, ...] = ()\n")
    return "".join(parts)


def _where(finding: Finding) -> str:
    return f"{finding.file}:{finding.line} [{finding.rule}] {finding.text}\n#   {finding.advice}"


def _module(package: str, file: str) -> str:
    """The module that a file below ``package`` is; empty if none can have its name."""
    path = PurePosixPath(file.replace("\\", "/"))
    parts = (*filter(None, package.split(".")), *path.with_suffix("").parts)
    names = [part for part in parts if part != "__init__"]
    usable = all(name.isidentifier() and not keyword.iskeyword(name) for name in names)
    return ".".join(names) if usable and path.suffix == ".py" else ""


def _unique(name: str, taken: set[str]) -> str:
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    taken.add(unique)
    return unique

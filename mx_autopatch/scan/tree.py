"""A file or a folder: all its sources, CUDA ones included."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mx_autopatch.scan.reading import Finding, read

__all__ = ["Scan", "scan"]

_CUDA = (".cu", ".cuh")
#: Folders in which nothing is the user's own.
_FOREIGN = frozenset({"__pycache__", "site-packages", "node_modules", "build", "dist"})


@dataclass
class Scan:
    """What was found.

    Attributes:
        findings: In the order of files and lines.
        files: How many files were read.
        unread: Files that could not be, with the reason.
        package: The package that ``root`` is, or lies in; empty if it is none.
    """

    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    unread: dict[str, str] = field(default_factory=dict)
    package: str = ""


def scan(root: Path, gone: Mapping[str, str]) -> Scan:
    """Read ``root``, a file or a folder; see :func:`mx_autopatch.scan.reading.read`.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such file or folder")
    folder = root.parent if root.is_file() else root
    result = Scan(package=_package(folder.resolve()))
    for path in [root] if root.is_file() else _sources(root):
        name = str(path.relative_to(folder))
        result.files += 1
        if path.suffix in _CUDA:
            result.findings.append(Finding(name, 1, "cuda-source", path.name, ""))
            continue
        try:
            result.findings += read(path, name, gone)
        except (SyntaxError, ValueError, OSError) as error:
            result.unread[name] = f"{type(error).__name__}: {error}"
    return result


def _package(folder: Path) -> str:
    if not (folder / "__init__.py").is_file():
        return ""
    return f"{_package(folder.parent)}.{folder.name}".lstrip(".")


def _sources(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _FOREIGN
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        )
        for name in sorted(files):
            if name.endswith((".py", *_CUDA)):
                yield Path(folder, name)

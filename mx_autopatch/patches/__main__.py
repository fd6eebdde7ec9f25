"""Rewrite ``index.py`` from the patch files: ``python -m mx_autopatch.patches``."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

from mx_autopatch import patches
from mx_autopatch.model import Patch

HEADER = '''"""Which patch is in which file, and what fires it: written by ``make index``.

Read at start-up in place of the patch files themselves.
"""

'''


def patch_files() -> list[str]:
    """The dotted names of all patch files, in order."""
    found = pkgutil.walk_packages(patches.__path__, patches.__name__ + ".")
    return sorted(info.name for info in found if not info.ispkg and info.name.count(".") > 2)


def index() -> dict[str, tuple[str, tuple[str, ...], bool]]:
    """Name of each patch -> its file, its triggers, whether it is on by default."""
    rows = {}
    for file in patch_files():
        for patch in import_module(file).PATCHES:
            assert isinstance(patch, Patch), (file, patch)
            assert patch.name not in rows, f"{patch.name} is defined twice, second in {file}"
            rows[patch.name] = (file, patch.triggers, patch.default)
    return dict(sorted(rows.items()))


def source() -> str:
    """The text of ``index.py``."""
    lines = [HEADER + "INDEX: dict[str, tuple[str, tuple[str, ...], bool]] = {"]
    for name, (file, triggers, default) in index().items():
        lines.append(f'    "{name}": (')
        lines.append(f'        "{file}",')
        lines.append("        (")
        lines += [f'            "{trigger}",' for trigger in triggers]
        lines.append("        ),")
        lines.append(f"        {default},")
        lines.append("    ),")
    return "\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    (Path(__file__).parent / "index.py").write_text(source(), encoding="utf-8")

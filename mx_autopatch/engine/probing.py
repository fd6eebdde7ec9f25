"""Whether an import statement is a probe: one that is ready to find nothing."""

from __future__ import annotations

import ast
import linecache
import sys
from types import FrameType

_IMPORTING = ("importlib", "importlib.util", "importlib._bootstrap", "_frozen_importlib")
_CATCHING = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def is_probe() -> bool:
    """Whether the import under way stands in a ``try`` that catches ImportError.

    Looks at the source line of the frame that imports; without source the answer is no.
    """
    frame = _importing_frame()
    if frame is None:
        return False
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    try:
        tree = ast.parse("".join(lines))
    except (SyntaxError, ValueError):
        return False
    return any(
        _catches_import_error(node) and _body_spans(node, frame.f_lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try)
    )


def is_import_of(name: str) -> bool:
    """Whether a package is imported only because ``name``, in it, is (or is looked for)."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") in _IMPORTING:
            for variable in ("name", "fullname"):
                wanted = frame.f_locals.get(variable)
                if isinstance(wanted, str) and f"{wanted}.".startswith(name + "."):
                    return True
        frame = frame.f_back
    return False


def _importing_frame() -> FrameType | None:
    """The innermost frame outside importlib and this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(("importlib", "_frozen_importlib", "mx_autopatch.engine")):
            return frame
        frame = frame.f_back
    return None


def _catches_import_error(node: ast.Try) -> bool:
    for handler in node.handlers:
        if handler.type is None:
            return True
        names = {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)}
        if names & _CATCHING:
            return True
    return False


def _body_spans(node: ast.Try, line: int) -> bool:
    return node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0)

"""A package to patch, and what the Patcher API says while it is patched."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from mx_autopatch.patcher import _ledger
from mx_autopatch.patcher.patcher_logger import patcher_logger

STUDIO = {
    "studio/__init__.py": """
        def paint(x): return ("paint", x)
        class Easel:
            def hold(self, x): return ("hold", x)
            @staticmethod
            def fold(x): return ("fold", x)
    """,
    "studio/tools/__init__.py": "",
    "studio/tools/brush.py": """
        from studio import paint
        def dip(x): return ("dip", paint(x))
        class Registry:
            def __init__(self): self._module_dict = {}
            def register_module(self, name=None, module=None, force=False):
                if name in self._module_dict and not force: raise KeyError(name)
                self._module_dict[name] = module
        BRUSHES = Registry()
        class Flat: pass
        BRUSHES.register_module("Flat", Flat)
    """,
    "studio/tools/press.py": """
        from studio.tools.brush import BRUSHES
        class Press: pass
        BRUSHES.register_module("Press", Press)
    """,
}


@pytest.fixture
def studio(write: Callable[..., Any]) -> None:
    """The package ``studio``: nothing of it has been imported."""
    write(STUDIO)


class Said(logging.Handler):
    """What has been logged, as ``LEVEL text``."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")

    def about(self, text: str) -> list[str]:
        return [line for line in self.lines if text in line]


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[Said]:
    """The lines of the Patcher API, which writes them here and as it is by default."""
    handler, logger = Said(), logging.getLogger("mx_autopatch.patcher")
    state = dict(patcher_logger.__dict__)
    state["_actions"] = dict(state["_actions"])
    state["_summary"] = dict(state["_summary"])
    level = logger.level
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(_ledger, "_ledger", None)
    yield handler
    patcher_logger.__dict__.update(state)
    logger.setLevel(level)

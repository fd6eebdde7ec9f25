"""A package to patch, and what the Patcher API says while it is patched."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Callable

import pytest
from studio_files import STUDIO

from mx_autopatch.patcher import _ledger
from mx_autopatch.patcher.patcher_logger import patcher_logger


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

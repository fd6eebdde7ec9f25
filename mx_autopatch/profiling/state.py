"""The steps of this process, and what they follow: one run at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mx_autopatch.profiling.settings import Settings
from mx_autopatch.profiling.steps import Steps

__all__ = ["current", "follow"]

_steps: Steps | None = None


def current() -> Steps | None:
    """The run's steps; None where nothing is to be done about them."""
    return _steps


def follow(config: Any, anew: bool = False) -> Callable[[], None]:
    """Do with the steps of this process what a configuration wants.

    Args:
        config: An ``mx_autopatch.engine.config.Config``.
        anew: Whether to count from the beginning, even if it wants nothing else than before.

    Returns:
        What puts an end to it.
    """
    global _steps
    settings = Settings.of(config)
    former, before = _steps, _steps.settings if _steps is not None else Settings(None, None)
    if anew or settings != before:
        if former is not None:
            former.close()
        wanted = settings.profile is not None or settings.brake is not None
        _steps = Steps(settings) if wanted else None
    return _forget


def _forget() -> None:
    global _steps
    steps, _steps = _steps, None
    if steps is not None:
        steps.close()

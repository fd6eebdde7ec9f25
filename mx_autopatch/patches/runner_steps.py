"""What the patches of runners have in common: a hook more that reports training steps.

See mx_autopatch.profiling, which is imported when a trigger fires, and only if the
configuration asks for something.
"""

from __future__ import annotations

from typing import Any, Callable

from mx_autopatch.model import Context

__all__ = ["add_hook", "follow"]


def follow(context: Context) -> Callable[[], None]:
    """A Call's function: do what the configuration wants; the result ends it."""
    from mx_autopatch.profiling import state

    return state.follow(context.config)


def add_hook(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """A wrapper of what makes a runner, or registers its hooks."""
    from mx_autopatch.profiling import runners

    return runners.add_hook(wrapped, instance, args, kwargs)

"""The steps of a plain training loop, reported by every optimizer's ``step``.

Of optimizers within optimizers (ZeroRedundancyOptimizer, SAM, Lookahead) the outermost one
counts. Of several beside each other (a generator's and a discriminator's) the first one to
step sets the pace, for as long as it exists: an iteration of the loop is one step of it,
however often the others step.

torch puts a function of its own round the ``step`` of a class when the first optimizer of
that class is made, with a mark in the trace and calls of registered hooks. Ours goes round
that, not into a hook: a trace that ended within the mark would have it without an end.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from mx_autopatch.profiling import state
from mx_autopatch.profiling.steps import Steps

__all__ = ["after_patching", "watch"]

_MARK = "_mx_autopatch_reports_steps"


class Pace:
    """Which optimizers are stepping, and which of them sets the pace."""

    def __init__(self) -> None:
        self._depth = 0
        self._leader: Callable[[], Any] = lambda: None
        self._steps: Steps | None = None

    def step(self, steps: Steps, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call an optimizer's ``step``, whose first argument is the optimizer."""
        outermost = not self._depth
        if outermost:
            if steps.over:
                steps.stop()
            steps.begin()
        self._depth += 1
        try:
            result = function(*args, **kwargs)
        finally:
            self._depth -= 1
        if outermost and self._leads(args[0], steps):
            steps.end()
            if steps.over:
                steps.stop()
        return result

    def _leads(self, optimizer: Any, steps: Steps) -> bool:
        if self._leader() is None or self._steps is not steps:
            self._leader, self._steps = weakref.ref(optimizer), steps
        return self._leader() is optimizer


_pace = Pace()
#: The classes whose ``step`` is ours, and what stood there.
_covered: list[tuple[Any, Any]] = []


def _cover(cls: type) -> None:
    """Have the optimizers of a class report their steps, once torch has been at it."""
    owner: Any = next(base for base in cls.__mro__ if "step" in vars(base))
    original = vars(owner)["step"]
    if hasattr(original, _MARK) or not getattr(original, "hooked", False):
        return

    @functools.wraps(original)
    def step(*args: Any, **kwargs: Any) -> Any:
        steps = state.current()
        if steps is None or steps.by_runner:
            return original(*args, **kwargs)
        return _pace.step(steps, original, *args, **kwargs)

    setattr(step, _MARK, True)
    owner.step = step
    _covered.append((owner, original))


def watch(optimizer: type) -> Callable[[], None]:
    """Be told of the steps of all optimizers that there are.

    Args:
        optimizer: ``torch.optim.Optimizer``.

    Returns:
        What ends it, for these and for those of :func:`after_patching`.
    """
    for cls in _below(optimizer):
        _cover(cls)
    return _uncover


def _below(cls: Any) -> Iterator[type]:
    for derived in cls.__subclasses__():
        yield derived
        yield from _below(derived)


def _uncover() -> None:
    for owner, original in reversed(_covered):
        if hasattr(vars(owner).get("step"), _MARK):
            owner.step = original
    _covered.clear()


def after_patching(wrapped: Any, optimizer: Any, args: Any, kwargs: Any) -> None:
    """Wrapper of ``Optimizer._patch_step_function``, called for each optimizer that is made."""
    wrapped(*args, **kwargs)
    _cover(type(optimizer))
    steps = state.current()
    if steps is not None and not steps.by_runner:
        steps.begin()  # the first step, if it is to be recorded

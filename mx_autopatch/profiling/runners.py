"""The steps of a runner, reported by a hook: mmengine's and mmcv 1.x's are alike in that.

A step is a training iteration. What of a runner is no training step (validation, and in
mmengine what happens between two epochs) is not counted, and not recorded as the beginning
of a trace. mmcv 1.x's EvalHook evaluates within an iteration, and is recorded with it.
"""

from __future__ import annotations

from typing import Any

from mx_autopatch.profiling import state
from mx_autopatch.profiling.progress import complain
from mx_autopatch.profiling.steps import Steps

__all__ = ["add_hook"]


class StepsOfRunner:
    """The methods of a hook; a class that derives from a library's Hook too is one."""

    _started = False

    def before_run(self, runner: Any) -> None:
        # Last of all, also of those that came later: the others finish their iteration
        # before it is the last one. A new list, since this one is being gone through.
        runner._hooks = [*(hook for hook in runner._hooks if hook is not self), self]

    def before_train_epoch(self, runner: Any) -> None:
        steps = state.current()
        if steps is None:
            return
        self._started = steps.by_runner = True
        if steps.over:
            _end(runner, steps)
        steps.hold()
        steps.begin()

    def before_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if not self._started:  # mmcv 1.x's IterBasedRunner knows no epoch
            self.before_train_epoch(runner)

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        steps = state.current()
        if steps is None:
            return
        steps.end()
        if steps.over:
            # The runner would count this iteration once its hooks are done.
            counts = runner if hasattr(runner, "_iter") else runner.train_loop
            if isinstance(getattr(counts, "_iter", None), int):
                counts._iter += 1
            _end(runner, steps)

    def before_val_epoch(self, runner: Any) -> None:
        steps = state.current()
        if steps is not None:
            steps.hold()

    def after_val_epoch(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        steps = state.current()
        if steps is not None and self._started:
            steps.begin()

    def after_run(self, runner: Any) -> None:
        steps = state.current()
        if steps is not None and self._started:
            steps.close()


def _end(runner: Any, steps: Steps) -> None:
    """End the run as the runner itself would, save for what is owed to a whole epoch."""
    if _is_of_mmengine(runner):  # mmcv 1.x has no such stage
        runner.call_hook("after_train")
    runner.call_hook("after_run")
    steps.stop()


def _is_of_mmengine(runner: Any) -> bool:
    # Of the class: to ask a runner for its loop has it built.
    return hasattr(type(runner), "train_loop")


def add_hook(wrapped: Any, runner: Any, args: Any, kwargs: Any) -> Any:
    """Wrapper of what registers a runner's own hooks, or makes it: one more hook."""
    result = wrapped(*args, **kwargs)
    if state.current() is not None:
        try:
            _add_hook(runner)
        except Exception as error:
            name = type(runner).__name__
            complain(f"steps of {name} are not seen: {type(error).__name__}: {error}")
    return result


def _add_hook(runner: Any) -> None:
    if any(isinstance(hook, StepsOfRunner) for hook in runner._hooks):
        return
    if _is_of_mmengine(runner):
        from mmengine.hooks import Hook
    else:
        from mmcv.runner import Hook
    hook = type("StepsOfRunner", (StepsOfRunner, Hook), {})()
    runner.register_hook(hook, priority="LOWEST")

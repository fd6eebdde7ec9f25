"""The steps of a training that mmcv 1.x runs: some are recorded, and after the last it ends.

Why: as for ``mmengine.training_steps``; mmcv 1.x's ProfilerHook profiles from the first
     iteration on, too.
How: mx_autopatch.profiling, if ``profile.path`` or ``brake`` is set: one hook more on every
     runner, the last one in order.
Upstream: mmcv.runner.BaseRunner, mmcv 1.0 - 1.7.
Remove when: never; it is a service, not a repair.
"""

from __future__ import annotations

from typing import Any, Callable

from mx_autopatch.model import Call, Context, Patch, Wrap


def _follow(context: Context) -> Callable[[], None]:
    from mx_autopatch.profiling import state

    return state.follow(context.config)


def _add_hook(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    from mx_autopatch.profiling import runners

    return runners.add_hook(wrapped, instance, args, kwargs)


PATCHES = (
    Patch(
        name="mmcv.training_steps",
        edits=(
            Call("mmcv.runner.base_runner", _follow),
            Wrap("mmcv.runner.base_runner:BaseRunner.__init__", _add_hook),
        ),
        requires=("configured:profile.path,brake",),
    ),
)

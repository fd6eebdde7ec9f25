"""The steps of a plain training loop: some are recorded, and after the last one it ends.

Why: a profile of a few steps, or a run of a few hundred to see how fast it is, otherwise
     means editing the loop, and 11 of 61 published migrations do.
How: mx_autopatch.profiling, if ``profile.path`` or ``brake`` is set. Every optimizer's
     ``step`` reports; a training that mmengine or mmcv 1.x runs is left to
     ``mmengine.training_steps`` and ``mmcv.training_steps``.
Upstream: torch.optim.Optimizer._patch_step_function, torch >= 2.0.
Remove when: never; it is a service, not a repair.
"""

from __future__ import annotations

from typing import Any, Callable

from mx_autopatch.model import Call, Context, Patch, Wrap


def _watch(context: Context) -> tuple[str, Callable[[], None]]:
    from mx_autopatch.profiling import optimizers, state

    forget = state.follow(context.config)
    unwatch = optimizers.watch(context.module.Optimizer)

    def end() -> None:
        unwatch()
        forget()

    return "step of every optimizer", end


def _cover(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
    from mx_autopatch.profiling import optimizers

    optimizers.after_patching(wrapped, instance, args, kwargs)


PATCHES = (
    Patch(
        name="torch.training_steps",
        edits=(
            Call("torch.optim.optimizer", _watch),
            Wrap("torch.optim.optimizer:Optimizer._patch_step_function", _cover),
        ),
        requires=("configured:profile.path,brake", "torch>=2.0"),
    ),
)

"""The steps of a training that mmcv 1.x runs: some are recorded, and after the last it ends.

Why: as for ``mmengine.training_steps``; mmcv 1.x's ProfilerHook profiles from the first
     iteration on, too.
How: mx_autopatch.profiling, if ``profile.path`` or ``brake`` is set: one hook more on every
     runner, the last one in order.
Upstream: mmcv.runner.BaseRunner, mmcv 1.0 - 1.7.
Remove when: never; it is a service, not a repair.
"""

from mx_autopatch.model import Call, Patch, Wrap
from mx_autopatch.patches.runner_steps import add_hook, follow

PATCHES = (
    Patch(
        name="mmcv.training_steps",
        edits=(
            Call("mmcv.runner.base_runner", follow),
            Wrap("mmcv.runner.base_runner:BaseRunner.__init__", add_hook),
        ),
        requires=("configured:profile.path,brake", "mmcv<2.0"),
    ),
)

"""The steps of a training that mmengine runs: some are recorded, and after the last it ends.

Why: mmengine's ProfilerHook has to be written into the config, profiles from the first
     iteration on, and knows no early stop; mx_driving replaces whole training loops by
     copies for it, which a project's own loop, and a resumed run, do not survive.
How: mx_autopatch.profiling, if ``profile.path`` or ``brake`` is set: one hook more on every
     runner, the last one in order. After the last step it calls the hooks' ``after_train``
     and ``after_run``, ends the DataLoaders' workers, and the program by SystemExit.
Upstream: mmengine.runner.Runner.register_hooks, FlexibleRunner's likewise; mmengine 0.1 -
     0.10.
Remove when: never; it is a service, not a repair.
"""

from mx_autopatch.model import Call, Patch, Wrap
from mx_autopatch.patches.runner_steps import add_hook, follow

PATCHES = (
    Patch(
        name="mmengine.training_steps",
        edits=(
            Call("mmengine.runner.runner", follow),
            Wrap("mmengine.runner.runner:Runner.register_hooks", add_hook),
            Call("mmengine.runner._flexible_runner", follow),
            Wrap("mmengine.runner._flexible_runner:FlexibleRunner.register_hooks", add_hook),
        ),
        requires=("configured:profile.path,brake",),
    ),
)

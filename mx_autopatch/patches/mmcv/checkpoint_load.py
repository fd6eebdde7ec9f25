"""mmcv 1.x's checkpoints under torch's weights_only unpickler.

Why: torch.load unpickles weights only by default since torch 2.6, and refuses what
     evaluation hooks and projects put beside them: numpy's scalars (mmseg's best score)
     and arrays. So nothing resumes (mmengine#1655 is the same in mmengine).
How: numpy's arrays and scalars are put on torch's allowlist. Nothing else becomes loadable,
     and a caller's own ``weights_only`` is not touched. (mmcv's ConfigDict, a subclass of
     dict, is beyond that unpickler; mmcv itself writes a config as text.)
Upstream: torch.serialization.add_safe_globals, torch >= 2.6; mmcv.runner.checkpoint.
Remove when: mmcv 1.x is out of use.
"""

from __future__ import annotations

from typing import Callable

from mx_autopatch.model import Call, Context, Patch


def _allow_numpy(context: Context) -> Callable[[], None]:
    from mx_autopatch.patches.checkpoints import allow, numpy_data

    return allow(numpy_data())


PATCHES = (
    Patch(
        name="mmcv.checkpoint_load",
        edits=(Call("mmcv.runner.checkpoint", _allow_numpy),),
        requires=("mmcv<2", "torch>=2.6"),
    ),
)

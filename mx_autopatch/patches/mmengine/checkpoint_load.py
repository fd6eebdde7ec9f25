"""mmengine's checkpoints under torch's weights_only unpickler.

Why: torch.load unpickles weights only by default since torch 2.6, and refuses the
     HistoryBuffer that every mmengine checkpoint holds, so nothing resumes
     (mmengine#1655, mmengine#1650).
How: mmengine's own classes, and the numpy arrays and scalars in them, are put on torch's
     allowlist. Nothing else becomes loadable: HistoryBuffer pickles its methods through
     ``getattr``, which is answered for that class alone. A caller's own ``weights_only``
     is not touched.
Upstream: torch.serialization.add_safe_globals, torch >= 2.6; mmengine <= 0.10.
Remove when: mmengine registers its classes itself.
"""

from pickle import UnpicklingError
from typing import Any, Callable

from mx_autopatch.model import Call, Context, Patch


def _allow_classes(context: Context) -> Callable[[], None]:
    from mmengine.config import Config, ConfigDict
    from mmengine.logging import HistoryBuffer as buffer

    from mx_autopatch.patches.checkpoints import allow, numpy_data

    def method_of_history(cls: type, name: str) -> Any:
        if cls is not buffer or name.startswith("_"):
            raise UnpicklingError(f"a checkpoint may not ask for attribute {name!r} of {cls!r}")
        return getattr(cls, name)

    classes = [buffer, Config, ConfigDict]
    return allow([*classes, (method_of_history, "builtins.getattr"), *numpy_data()])


PATCHES = (
    Patch(
        name="mmengine.checkpoint_load",
        # Not where the classes are defined: that is imported without torch, too.
        edits=(Call("mmengine.runner.checkpoint", _allow_classes),),
        requires=("torch>=2.6",),
    ),
)

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


def _allow(allowed: "list[Any]") -> Callable[[], None]:
    """Add to torch's allowlist; the result takes the additions back."""
    from torch import serialization

    added = [item for item in allowed if item not in serialization.get_safe_globals()]
    serialization.add_safe_globals(added)

    def take_back() -> None:
        kept = [item for item in serialization.get_safe_globals() if item not in added]
        serialization.clear_safe_globals()
        serialization.add_safe_globals(kept)

    return take_back


def _allow_classes(context: Context) -> Callable[[], None]:
    import numpy
    from mmengine.config import Config, ConfigDict
    from mmengine.logging import HistoryBuffer as buffer

    multiarray = getattr(numpy, "_core", None) or numpy.core

    def method_of_history(cls: type, name: str) -> Any:
        if cls is not buffer or name.startswith("_"):
            raise UnpicklingError(f"a checkpoint may not ask for attribute {name!r} of {cls!r}")
        return getattr(cls, name)

    functions = [
        (getattr(multiarray.multiarray, name), f"{package}.multiarray.{name}")
        for name in ("_reconstruct", "scalar")
        for package in ("numpy.core", "numpy._core")  # as numpy 1 and numpy 2 pickle them
    ]
    dtypes = [type(numpy.dtype(code)) for code in "?bhilqBHILQefdgFDGSUOMm"]
    return _allow(
        [
            *(buffer, Config, ConfigDict),
            (method_of_history, "builtins.getattr"),
            *functions,
            *(numpy.ndarray, numpy.dtype, *dict.fromkeys(dtypes)),
        ]
    )


PATCHES = (
    Patch(
        name="mmengine.checkpoint_load",
        # Not where the classes are defined: that is imported without torch, too.
        edits=(Call("mmengine.runner.checkpoint", _allow_classes),),
        requires=("torch>=2.6",),
    ),
)

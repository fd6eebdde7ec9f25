"""The end of a training that stops early: of this process, with status 0."""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Any, Callable

from mx_autopatch.profiling.progress import complain

__all__ = ["Brake", "at_exit", "end_workers", "leave_group_at_exit"]


class Brake(SystemExit):
    """Ends the program after its last step, with exit status 0.

    It is no ``Exception``, so a training loop's ``except Exception`` lets it pass, while
    ``finally`` blocks, context managers and functions of atexit run.
    """

    def __init__(self, step: int = 0) -> None:
        super().__init__(0)
        #: How many steps were taken.
        self.step = step


def end_workers() -> None:
    """End the worker processes of every DataLoader that is being iterated.

    They would end with the interpreter, but by a signal, while the thread that pins memory
    still listens to them. Whoever holds the iterators (a loop's frame, a runner, a loader
    with persistent workers) is not asked.
    """
    module = sys.modules.get("torch.utils.data.dataloader")
    kind = getattr(module, "_MultiProcessingDataLoaderIter", None)
    if kind is None:
        return
    # By type(): isinstance() would ask proxies for the class of what they stand for.
    for iterator in [one for one in gc.get_objects() if issubclass(type(one), kind)]:
        iterator._shutdown_workers()


def leave_group_at_exit() -> None:
    """When the interpreter ends, leave torch.distributed's process group if there still is one.

    Not at once: the script may have its own ``finally: destroy_process_group()``, which
    fails where there is none any more.
    """

    def leave() -> None:
        distributed: Any = sys.modules.get("torch.distributed")
        if distributed is None or not distributed.is_available():
            return
        if distributed.is_initialized():
            try:
                distributed.destroy_process_group()
            except Exception as error:  # nobody is left to handle it
                complain(f"the process group: {type(error).__name__}: {error}")

    at_exit(leave)


def at_exit(function: Callable[[], None]) -> None:
    """Call ``function`` when this process ends, also if it is a child of multiprocessing.

    A forked one ends by os._exit, which runs the finalizers of multiprocessing alone.
    """
    from multiprocessing import process, util

    if process.parent_process() is None:
        atexit.register(function)
    else:
        util.Finalize(None, function, exitpriority=100)

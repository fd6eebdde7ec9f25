"""Which of the soft NPU's kernels are called."""

from __future__ import annotations

import warnings
from typing import Any, Callable

import torch

from mx_autopatch.softnpu.install import installed_kernels

__all__ = ["Recorder"]


class Recorder:
    """Within its ``with`` block, notes the operators that reach the soft NPU's kernels.

    Attributes:
        names: ``aten::add.Tensor`` and the like, since the last ``clear()``.
        draws: How many of them drew random numbers; the user sets it back.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.draws = 0

    def clear(self) -> None:
        self.names = set()
        self.draws = 0

    def __enter__(self) -> Recorder:
        self._library = torch.library.Library("aten", "IMPL")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*[Oo]verriding a previously registered kernel")
            for (name, key), kernel in installed_kernels().items():
                namespace, _, rest = name.partition("::")
                if namespace == "aten":
                    self._library.impl(rest, self._noting(name, kernel), key, allow_override=True)
        return self

    def __exit__(self, *exc: object) -> None:
        self._library._destroy()

    def _noting(self, name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        packet, _, overload = name[len("aten::") :].partition(".")
        op = getattr(getattr(torch.ops.aten, packet), overload or "default")
        is_random = torch.Tag.nondeterministic_seeded in op.tags

        def noting(*args: Any, **kwargs: Any) -> Any:
            self.names.add(name)
            self.draws += is_random
            return kernel(*args, **kwargs)

        return noting

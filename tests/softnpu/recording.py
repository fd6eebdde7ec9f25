"""Which of the soft NPU's kernels are called, and whether their siblings do the same.

An operator has overloads that OpInfo does not reach: ``name.out``, ``name.grad_input``,
``name_``. They are siblings of the one that returns a new result, and a call of that one
has the arguments to call them with.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any, Callable

import torch
from parity_compare import Disagreement, compare
from torch import Tensor

from mx_autopatch.softnpu.install import installed_kernels

__all__ = ["Recorder"]

#: How many calls of an operator its siblings are tried with.
_TRIALS = 3


class Recorder:
    """Within its ``with`` block, notes the operators that reach the soft NPU's kernels.

    Attributes:
        names: ``aten::add.Tensor`` and the like, since the last ``clear()``.
        draws: How many of them drew random numbers; the user sets it back.
        siblings_compared: How many calls of siblings were compared since ``clear()``.
        disagreements: Name and reason of each sibling that did something else.
    """

    def __init__(self) -> None:
        self._trials: Counter[str] = Counter()
        self.clear()

    def clear(self) -> None:
        self.names: set[str] = set()
        self.draws = 0
        self.siblings_compared = 0
        self.disagreements: list[tuple[str, str]] = []

    def __enter__(self) -> Recorder:
        self._library = torch.library.Library("aten", "IMPL")
        kernels = {
            (name, key): kernel
            for (name, key), kernel in installed_kernels().items()
            if name.startswith("aten::")
        }
        siblings = _siblings({name for name, _ in kernels})
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*[Oo]verriding a previously registered kernel")
            for (name, key), kernel in kernels.items():
                noting = self._noting(name, kernel, siblings.get(name, ()))
                self._library.impl(name[len("aten::") :], noting, key, allow_override=True)
        return self

    def __exit__(self, *exc: object) -> None:
        self._library._destroy()

    def _noting(self, name: str, kernel: Callable[..., Any], siblings: Any) -> Any:
        is_random = torch.Tag.nondeterministic_seeded in _overload(name).tags

        def noting(*args: Any, **kwargs: Any) -> Any:
            self.names.add(name)
            self.draws += is_random
            result = kernel(*args, **kwargs)
            if siblings and self._trials[name] < _TRIALS:
                self._trials[name] += 1
                for sibling in siblings:
                    self._compare(sibling, result, args, kwargs)
            return result

        return noting

    def _compare(self, sibling: str, result: Any, args: Any, kwargs: Any) -> None:
        """Call ``sibling`` with the same arguments, and compare what it gives."""
        op = _overload(sibling)
        outs = [argument.name for argument in op._schema.arguments if argument.is_out]
        given = result if isinstance(result, tuple) else (result,)
        if not all(isinstance(each, Tensor) for each in given):
            return
        try:
            with torch.no_grad():
                if outs:
                    fresh = [torch.empty_like(each) for each in given]
                    again = op(*args, **kwargs, **dict(zip(outs, fresh)))
                elif given[0].shape == args[0].shape and given[0].dtype == args[0].dtype:
                    again = op(args[0].clone(), *args[1:], **kwargs)
                else:
                    return
            self.siblings_compared += 1
            for one, two in zip(given, again if isinstance(again, tuple) else (again,)):
                compare(one.detach().cpu(), two.detach(), strides=False)
        except Disagreement as error:
            self.disagreements.append((sibling, str(error)))
        except Exception as error:
            self.disagreements.append((sibling, f"{type(error).__name__}: {error}"[:200]))


def _overload(name: str) -> Any:
    packet, _, overload = name[len("aten::") :].partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _siblings(names: set[str]) -> dict[str, list[str]]:
    """For each operator with new results, those that write the same into arguments."""
    written: dict[Any, list[str]] = {}
    for name in names:
        schema = _overload(name)._schema
        if any(argument.is_write for argument in schema.arguments):
            written.setdefault(_signature(schema), []).append(name)
    siblings: dict[str, list[str]] = {}
    for name in names:
        op = _overload(name)
        if torch.Tag.nondeterministic_seeded in op.tags:
            continue
        if not any(argument.is_write for argument in op._schema.arguments):
            siblings[name] = written.get(_signature(op._schema), [])
    return siblings


def _signature(schema: Any) -> Any:
    """What siblings have in common: the name without underscore, and the arguments."""
    arguments = [(a.name, str(a.type)) for a in schema.arguments if not a.is_out]
    return schema.name.rstrip("_"), tuple(arguments)

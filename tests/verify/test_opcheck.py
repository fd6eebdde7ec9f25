"""torch.library.opcheck of every operator that is registered, with arguments of ``verify``'s cases.

An operator that no case calls, forward or backward, is found here; further arguments and
dtypes are checked beside each operator's own tests.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.library import opcheck
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from mx_autopatch.verify.cases import CHECKS
from mx_autopatch.verify.runner import _arguments, _Call, _Case


def _registered() -> set[str]:
    schemas = torch._C._jit_get_all_schemas()
    names = (schema.name.partition("::") for schema in schemas)
    return {name for namespace, _, name in names if namespace == "mx_autopatch"}


def needs_gradients(args: tuple[Any, ...]) -> bool:
    return any(isinstance(t, torch.Tensor) and t.requires_grad for t in args)


class _Calls:
    """A call of each of our operators, with arguments that require gradients as given."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[Any, tuple[Any, ...]]] = {}

    def note(self, function: Any, args: Any) -> None:
        if getattr(function, "namespace", "") != "mx_autopatch":
            return
        if not torch.is_grad_enabled():  # within a backward
            args = tree_map_only(torch.Tensor, torch.Tensor.detach, args)
        name = function.name().partition("::")[2]
        # Some are called by the backward of another, too.
        if name not in self.found or not needs_gradients(self.found[name][1]):
            self.found[name] = function, args


class _AsGiven(TorchFunctionMode):
    """Sees calls of ours before autograd does."""

    def __init__(self, calls: _Calls) -> None:
        super().__init__()
        self._calls = calls

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        if not kwargs:
            self._calls.note(function, args)
        return function(*args, **(kwargs or {}))


class _Below(TorchDispatchMode):
    """Sees those, too, that a backward makes."""

    def __init__(self, calls: _Calls) -> None:
        super().__init__()
        self._calls = calls

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        self._calls.note(function, args)
        return function(*args, **(kwargs or {}))


def _calls() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    calls = _Calls()
    for check in CHECKS.values():
        arguments = _arguments(check, _Case("random", check.size), seed=0, factor=1.0)
        with _AsGiven(calls), _Below(calls):
            _Call(check.function, arguments, check.grads).both(0)
    return calls.found


CALLS = _calls()


def test_every_registered_operator_is_called() -> None:
    registered = _registered()
    assert len(registered) >= 108
    trials = {name for name in registered if name.startswith("trial_")}
    assert registered - trials - set(CALLS) == set()


@pytest.mark.parametrize("name", sorted(CALLS))
def test_opcheck(name: str) -> None:
    function, args = CALLS[name]
    if name in CHECKS:
        assert needs_gradients(args) is bool(CHECKS[name].grads)
    opcheck(function, args)

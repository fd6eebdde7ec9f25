"""Every operator has a case, and all are right on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mx_autopatch import ops
from mx_autopatch.verify import runner
from mx_autopatch.verify.cases import CHECKS


class _Called(TorchDispatchMode):
    """Collects the names of our operators that are called, backward ones included."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function.namespace == "mx_autopatch":
            self.names.add(function.name().partition("::")[2])
        return function(*args, **(kwargs or {}))


def _registered() -> set[str]:
    schemas = torch._C._jit_get_all_schemas()
    names = (schema.name.partition("::") for schema in schemas)
    return {name for namespace, _, name in names if namespace == "mx_autopatch"}


def test_every_public_operator_has_a_case() -> None:
    assert set(ops.__all__) <= set(CHECKS)
    assert [name for name, check in CHECKS.items() if check.name != name] == []


def _wrong(monkeypatch: pytest.MonkeyPatch, *dtypes: torch.dtype) -> list[object]:
    """What fails in these dtypes."""
    monkeypatch.setattr(runner, "DTYPES", dtypes)
    monkeypatch.setattr(runner, "_time", lambda call, device: 0.0)
    verdicts = [runner.verify(check, torch.device("cpu")) for check in CHECKS.values()]
    assert {v.kernel for v in verdicts} == {"portable"}
    assert min(v.cases for v in verdicts) >= 4 * len(dtypes)
    return [(v.name, v.failures) for v in verdicts if v.failures]


def test_in_float32_all_are_right_and_all_that_are_registered_are_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _Called() as called:
        assert _wrong(monkeypatch, torch.float32) == []
    trials = {name for name in _registered() if name.startswith("trial_")}
    assert _registered() - trials - called.names == set()


def test_in_half_precision_all_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _wrong(monkeypatch, torch.float16, torch.bfloat16) == []

"""Every operator has a case, and all are right on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mx_autopatch import ops
from mx_autopatch.verify import references, runner
from mx_autopatch.verify.cases import CHECKS


def test_every_public_operator_has_a_case() -> None:
    assert set(ops.__all__) <= set(CHECKS)
    assert [name for name, check in CHECKS.items() if check.name != name] == []


def test_all_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """That every registered operator is among them is in test_opcheck.py."""
    monkeypatch.setattr(runner, "_time", lambda call, device: 0.0)
    verdicts = [runner.verify(check, torch.device("cpu")) for check in CHECKS.values()]
    assert [(v.name, v.failures) for v in verdicts if v.failures] == []
    assert {v.kernel for v in verdicts} == {"portable"}
    assert min(v.cases for v in verdicts) >= 4 * len(runner.DTYPES)
    assert all(set(v.errors) == {"float32", "float16", "bfloat16"} for v in verdicts)


def test_references_are_not_the_operators() -> None:
    """None is of the room ``ops``, nor are the modules that they are in."""
    for check in CHECKS.values():
        assert not check.reference.__module__.startswith("mx_autopatch.ops")
    for module in references.__path__:
        for path in Path(module).glob("*.py"):
            assert "mx_autopatch.ops import" not in path.read_text(encoding="utf-8")
            assert "from mx_autopatch import" not in path.read_text(encoding="utf-8")

"""torch.device_capability on the real torch_npu over the soft device."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.model import Status

torch = pytest.importorskip("torch")
pytest.importorskip("torch_npu")

NAME = "torch.device_capability"
VARIABLE = "TORCH_NPU_DEVICE_CAPABILITY"


def test_a_pair_without_a_warning(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    own = torch.npu.get_device_capability
    with pytest.warns(UserWarning, match=VARIABLE):
        assert own() is None
    report = engine(patches__only=[NAME], device="soft")
    assert [o.status for o in report().of(NAME)] == [Status.LATE]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.npu.get_device_capability("npu:0") == (0, 0)
    bootstrap.deactivate()
    assert torch.npu.get_device_capability is own


def test_what_the_variable_says_counts(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "8.0")
    engine(patches__only=[NAME], device="soft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.npu.get_device_capability(0) == (8, 0)


def test_broadcast_under_transfer_to_npu(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.13 asks for it where ``is_cuda`` is true, as transfer_to_npu has it."""
    monkeypatch.delenv(VARIABLE, raising=False)
    dist = torch.distributed
    engine(patches__only=[NAME, "torch.transfer_to_npu"], device="soft")
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        tensor = torch.ones(2).cuda()
        dist.broadcast(tensor, 0)
        assert tensor.tolist() == [1, 1]
    finally:
        dist.destroy_process_group()

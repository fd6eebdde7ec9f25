"""Which device a run is for."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from mx_autopatch import device


@pytest.mark.parametrize(
    ("configured", "kinds"),
    [
        ("cpu", {"cpu"}),
        ("cuda", {"cuda"}),
        ("npu", {"npu"}),
        ("soft", {"npu", "rehearsed"}),
        ("contract", {"npu", "rehearsed"}),
    ],
)
def test_of_which_kind_a_configured_device_is(configured: str, kinds: set[str]) -> None:
    for kind in ("cpu", "cuda", "npu", "rehearsed"):
        verdict = device.is_device(kind, configured)
        if kind in kinds:
            assert verdict is True
        else:
            assert verdict == f"requires the device {kind}, this run is for {configured}"


def test_an_npu_is_there_only_with_cann(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether torch_npu is installed or not: without a runtime there is no device.
    monkeypatch.setattr(device, "has_cann", lambda: False)
    assert device.detect() in ("cpu", "cuda")


@pytest.mark.parametrize(("devices", "expected"), [(None, "cuda"), (1, "cuda"), (0, "cpu")])
def test_cuda_while_torch_executes(
    monkeypatch: pytest.MonkeyPatch, devices: int | None, expected: str
) -> None:
    """Edits of modules that torch imports are decided before it has a name ``cuda``."""
    torch = ModuleType("torch")
    torch.version = SimpleNamespace(cuda="12.6")
    if devices is not None:
        torch.cuda = SimpleNamespace(device_count=lambda: devices)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(device, "has_cann", lambda: False)
    assert device.detect() == expected

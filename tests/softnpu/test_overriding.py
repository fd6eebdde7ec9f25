"""Kernels over torch_npu's own: what stands below them is called, and is there again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import environment, python

from mx_autopatch.model import NotNeeded
from mx_autopatch.patches.overriding import AUTOGRAD, DEVICE, override
from mx_autopatch.softnpu import runtime

torch = pytest.importorskip("torch")

# torch_npu's own kernels, which no soft NPU has replaced: those that need no hardware.
REAL = """
import json
from mx_autopatch.softnpu import runtime
runtime.load(devices=1)
with runtime.as_installed():
    import torch, torch_npu
from mx_autopatch.patches.overriding import override

seen = []

def kernel(below, *args, **kwargs):
    result = below(*args, **kwargs)
    seen.append([list(result.shape), str(result.device)])
    return result

end = override({"aten::empty.memory_format": kernel, "aten::as_strided": kernel})
x = torch.empty(4, 3, dtype=torch.float16, device="npu")
y = x.as_strided((2, 2), (3, 1), 1)
kinds = [str(x.dtype), y.storage_offset(), y.untyped_storage().data_ptr() == x.data_ptr()]
end()
torch.empty(2, device="npu")
print(json.dumps([seen, kinds]))
"""


def test_torch_npus_own_kernels_are_called(tmp_path: Path) -> None:
    env = environment()
    done = python("-c", REAL, cwd=tmp_path, env=env, warnings=False, timeout=120)
    seen, kinds = json.loads(done.stdout)
    assert seen == [[[4, 3], "npu:0"], [[2, 2], "npu:0"]]
    assert kinds == ["torch.float16", 1, True]


def test_one_fault_leaves_nothing_behind() -> None:
    before = torch._C._dispatch_dump_table("aten::relu")
    with pytest.raises(RuntimeError):
        override({"aten::relu": lambda below, x: x, "aten::no_such_operator": lambda below: None})
    assert torch._C._dispatch_dump_table("aten::relu") == before


def test_below_autograd_and_above_it() -> None:
    x = torch.tensor([-1.0, 2.0], device="npu", requires_grad=True)
    called: list[Any] = []

    def relu(below: Any, x: Any) -> Any:
        called.append(x.requires_grad)
        return below(x)

    for keys, count in ((DEVICE,), 1), ((AUTOGRAD, DEVICE), 2):
        called.clear()
        end = override({"aten::relu": relu}, keys)
        try:
            (gradient,) = torch.autograd.grad(torch.relu(x).sum(), x)
        finally:
            end()
        assert gradient.tolist() == [0.0, 1.0]
        assert len(called) == count
        torch.relu(x)
        assert len(called) == count


def test_within_a_dispatch_mode_and_after_it() -> None:
    """There torch knows of two kernels in Python for one operator and key the last alone."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Passing(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return func(*args, **(kwargs or {}))

    x = torch.randn(2, 3, device="npu")
    called: list[str] = []

    def product(below: Any, a: Any, b: Any) -> Any:
        called.append("matmul")
        return below(a, b)

    def relu(below: Any, x: Any) -> Any:
        called.append("relu")
        return below(x)

    end = override({"aten::matmul": product, "aten::relu": relu}, (AUTOGRAD, DEVICE))
    with Passing():
        results = (x @ x.t(), torch.relu(x))
    end()
    assert called.count("matmul") >= 1 <= called.count("relu")
    called.clear()
    with Passing():
        again = (x @ x.t(), torch.relu(x))
    assert called == []
    for one, other in zip(results, again):
        assert torch.equal(one, other)
    assert torch.equal(again[1].cpu(), torch.relu(x.cpu()))


@pytest.mark.parametrize("name", ["ASCEND_LAUNCH_BLOCKING", "TASK_QUEUE_ENABLE"])
def test_not_where_launches_are_blocking(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    value = {"ASCEND_LAUNCH_BLOCKING": "1", "TASK_QUEUE_ENABLE": "0"}[name]
    monkeypatch.setenv(name, value)
    override({"aten::relu": lambda below, x: below(x)})()  # on the soft NPU it is no matter
    monkeypatch.setattr(runtime, "is_loaded", lambda: False)
    with pytest.raises(NotNeeded, match=f"{name} is {value}"):
        override({"aten::relu": lambda below, x: below(x)})

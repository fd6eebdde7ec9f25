"""What a call costs with the patches of torch for NPUs, beside the way of mx_driving.

Tensors of the CPU are what it is about: theirs must cost what it costs without us. On the
soft NPU every kernel is Python, so that there only the differences mean anything.
mx_driving's patcher is the real one where MX_DRIVING names the folder of an unpacked wheel
(it wants torch_npu, not CANN); else a check and a call round the method, as it binds them.
"""

from __future__ import annotations

import importlib
import os
import sys
import timeit
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Callable

from _common import Options, Row, Target, run_workers, save, scratch, table

CALLS = 5_000

#: What is called -> how it is written.
CALLED = {
    "cpu: x[0]": "x[0]",
    "cpu: x[mask]": "x[mask]",
    "cpu: torch.matmul 2x2": "matmul(a, a)",
    "npu: x[0]": "y[0]",
    "npu: x[rows]": "y[rows]",
    "npu: x[mask]": "y[on_npu]",
    "npu: torch.matmul 2x2": "matmul(b, b)",
}
STATES = ("unpatched", "ours", "mx_driving's way")
PATCHES = ("index", "batch_matmul")


def _load() -> Any:
    """torch with torch_npu over the soft device."""
    from mx_autopatch.softnpu import runtime

    runtime.load(devices=1)
    with runtime.as_installed():
        import torch
        import torch_npu  # noqa: F401

        from mx_autopatch.softnpu.install import install
    install()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return torch


@contextmanager
def ours(names: tuple[str, ...] = PATCHES) -> Iterator[None]:
    """With what the patches bind at the dispatcher."""
    from mx_autopatch.model import Context

    ends = []
    for name in names:
        module = importlib.import_module(f"mx_autopatch.patches.torch.{name}")
        (edit,) = module.PATCHES[0].edits
        ends.append(edit.function(Context(sys.modules["torch_npu"], {}, None))[1])
    try:
        yield
    finally:
        for end in ends:
            end()


def _theirs(torch: Any) -> dict[Any, Any]:
    """(owner, name) -> what mx_driving puts there."""
    places = [(torch.Tensor, "__getitem__"), (torch, "matmul")]
    folder = os.environ.get("MX_DRIVING")
    if not folder:
        return {
            (torch.Tensor, "__getitem__"): _checked(torch.Tensor.__getitem__, _indexes),
            (torch, "matmul"): _checked(torch.matmul, _multiplies),
        }
    package = types.ModuleType("mx_driving")  # whose own __init__ loads compiled modules
    package.__path__ = [str(Path(folder) / "mx_driving")]
    sys.modules["mx_driving"] = package
    patcher = importlib.import_module("mx_driving.patcher")
    kinds = importlib.import_module("mx_driving.patcher.torch_patch")
    before = {place: getattr(*place) for place in places}
    patcher.Patcher().add(kinds.TensorIndex, kinds.BatchMatmul).apply()
    found = {place: getattr(*place) for place in places}
    assert all(found[place] is not before[place] for place in places), "it patched nothing"
    _undo(torch, before)
    return found


def _undo(torch: Any, before: Mapping[Any, Any]) -> None:
    del torch.Tensor.__getitem__  # inherited
    torch.matmul = before[torch, "matmul"]


def _checked(original: Any, check: Callable[..., bool]) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            chosen = check(*args, **kwargs)
        except Exception:
            chosen = False
        return None if chosen else original(*args, **kwargs)

    return call


def _indexes(x: Any, index: Any) -> bool:
    """Never true, after the questions that a call pays for."""
    import torch

    return isinstance(index, torch.Tensor) and index.dtype == torch.bool and index.dim() > 8


def _multiplies(a: Any, b: Any) -> bool:
    return hasattr(b, "dim") and a.dim() == b.dim() and 4 <= a.dim() <= 7


def tasks() -> Mapping[str, Callable[[], float]]:
    torch = _load()
    theirs = _theirs(torch)
    mask = torch.rand(8) > 0.5
    x, a = torch.randn(8, 3), torch.randn(2, 2)
    names = {"x": x, "mask": mask, "a": a, "torch": torch}
    names |= {"y": x.npu(), "on_npu": mask.npu(), "b": a.npu()}
    names["rows"] = torch.tensor([1, 4, 2]).npu()
    found = {}
    for label, code in CALLED.items():
        text = code.replace("matmul(", "torch.matmul(")
        timer = timeit.Timer(text, globals=names)
        count = CALLS if label.startswith("cpu") else CALLS // 10
        for state in STATES:
            found[f"{label}, {state}"] = partial(_time, torch, timer, count, state, theirs)
    return found


def _time(torch: Any, timer: timeit.Timer, count: int, state: str, theirs: Any) -> float:
    if state == "unpatched":
        return timer.timeit(count) / count
    if state == "ours":
        with ours():
            return timer.timeit(count) / count
    before = {place: getattr(*place) for place in theirs}
    for place, function in theirs.items():
        setattr(*place, function)
    try:
        return timer.timeit(count) / count
    finally:
        _undo(torch, before)


# -- what is counted, not timed ------------------------------------------------------------------


def memory(torch: Any) -> list[str]:
    """At the peak of projecting points of a BEV model, forward and backward."""
    lines = ["Memory at the peak: (4, 6, 1, 1, 1, 3, 3) @ (1, 1, 59, 16, 44, 3, 1), float32", ""]

    def peak() -> float:
        a = torch.randn(4, 6, 1, 1, 1, 3, 3, device="npu", requires_grad=True)
        b = torch.randn(1, 1, 59, 16, 44, 3, 1, device="npu")
        torch.npu.reset_peak_memory_stats()
        before = torch.npu.memory_allocated()
        torch.matmul(a, b).sum().backward()
        return (torch.npu.max_memory_allocated() - before) / 2**20

    # The composition that torch has for it, of which the soft NPU's kernel is made.
    lines.append(f"torch's composition  {peak():7.1f} MiB")
    with ours(("batch_matmul",)):
        lines.append(f"torch.batch_matmul   {peak():7.1f} MiB")
    return lines


def operators(torch: Any) -> list[str]:
    """Kernels of the device that a step of an optimizer calls, for as many parameters as R18."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    from mx_autopatch.patches.fused_optimizers import fuse

    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, of: Any, args: Any = (), kwargs: Any = None) -> Any:
            tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
            on_npu = any(t.device.type == "npu" for t in tensors)
            self.count += on_npu and not func.is_view and func.name() != "aten::detach"
            return func(*args, **(kwargs or {}))

    lines = ["Operators on the device that a step calls, for 62 parameters", ""]
    for name, options in (("AdamW", {}), ("SGD", {"momentum": 0.9, "weight_decay": 1e-4})):
        for state in ("one by one", "foreach", "fused"):
            shapes = [(64,)] * 42 + [(64, 64, 3, 3)] * 20
            parameters = [torch.nn.Parameter(torch.zeros(s, device="npu")) for s in shapes]
            given = {} if state == "fused" else {"foreach": state == "foreach"}
            optimizer = getattr(torch.optim, name)(parameters, lr=0.1, **options, **given)
            if state == "fused":
                assert fuse(optimizer)
            for _ in range(3):  # of which the last one is counted
                for p in parameters:
                    p.grad = torch.ones_like(p)
                with Counter() as counter:
                    optimizer.step()
            lines.append(f"{name:6} {state:11} {counter.count:5}")
    return lines


def main() -> None:
    args = Options(__doc__, processes=4, rounds=40).parse()
    with scratch(args, lambda folder: None):
        values = run_workers(args, tasks)
    if values is None:
        return
    for label in CALLED:
        base = f"{label}, unpatched"
        target = Target(1.1, base, is_ratio=True) if label.startswith("cpu") else None
        rows = [Row(base), Row(f"{label}, ours", base, target), Row(f"{label}, {STATES[2]}", base)]
        print(table(label, values, rows))
        print()
    torch = _load()
    print("\n".join([*memory(torch), "", *operators(torch)]))
    save(args.output, values)


if __name__ == "__main__":
    main()

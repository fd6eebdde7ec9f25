"""What the recorder notes of a program, line by line."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
import torch_npu

from mx_autopatch import ops
from mx_autopatch.errors import SoftNpuError
from mx_autopatch.softnpu import recorder as recorder_module
from mx_autopatch.softnpu.operators import Where, where
from mx_autopatch.softnpu.origin import Places
from mx_autopatch.softnpu.recorder import Recorder

Run = Callable[..., Recorder]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Record a script whose first line is line 1; ``x`` is a 3 x 4 tensor, ``torch`` torch."""

    def record(source: str, **names: Any) -> Recorder:
        path = tmp_path / "own" / "script.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source).lstrip("\n"))
        code = compile(path.read_text(), str(path), "exec")
        x = torch.arange(12, dtype=torch.float32).view(3, 4).to("npu")
        recorder = Recorder([str(path.parent)])
        with recorder.attached():
            exec(code, {"__name__": "script", "x": x, "torch": torch, **names})
        return recorder

    return record


def by_line(rows: dict[tuple[str, Any], int]) -> dict[int, dict[str, int]]:
    """Line -> what -> how often."""
    lines: dict[int, dict[str, int]] = {}
    for (what, at), count in rows.items():
        assert at.line is not None
        assert at.line.file.endswith("script.py")
        assert at.is_own
        lines.setdefault(at.line.line, {})[what] = count
    return lines


WAITING = """
    for _ in range(3):
        x.sum().item()
    bool(x[0, 0] > 0)
    float(x.max()), int(x.min())
    if (x > 3).any():
        x[x > 3]
    x[x > 3] = 0
    x.nonzero()
    torch.where(x > 2)
    torch.masked_select(x, x > 2)
    torch.unique(x)
    x.cpu()
    x.to("cpu").numpy()
    x.tolist()
    torch.npu.synchronize()
    torch.accelerator.synchronize()
    torch.equal(x, x)
    torch.empty(3, 4).copy_(x)
    torch.npu.current_stream().synchronize()
    event = torch.npu.Event()
    event.record()
    event.synchronize()
    x.long().flatten().bincount()
    x.repeat_interleave(torch.ones(3, dtype=torch.long, device="npu"), 0)
    torch.nn.functional.one_hot(x.long())
    """

WAITED = {
    2: {"value read (item)": 3},
    3: {"value read (item)": 1},
    4: {"value read (item)": 2},
    5: {"value read (item)": 1},
    6: {"indexing by a bool mask": 1},
    7: {"assignment by a bool mask": 1},
    8: {"nonzero": 1},
    9: {"nonzero": 1},
    10: {"masked_select": 1},
    11: {"unique": 1},
    12: {"copy to the CPU": 1},
    13: {"copy to the CPU": 1},
    14: {"copy to the CPU": 1},
    15: {"synchronize": 1},
    16: {"synchronize": 1},
    17: {"torch.equal": 1},
    18: {"copy to the CPU": 1},
    19: {"Stream.synchronize": 1},
    22: {"Event.synchronize": 1},
    23: {"bincount": 1},
    24: {"repeat_interleave": 1},
    25: {"one_hot without num_classes": 1},
}


def test_lines_that_wait(run: Run) -> None:
    assert by_line(run(WAITING).waits) == WAITED


def test_a_dispatch_mode_sees_the_same_lines(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left where the kernels are the hardware's own."""
    monkeypatch.setattr(recorder_module, "installed_kernels", dict)
    found = by_line(run(WAITING).waits)
    # Composed above the mode, which sees the parts.
    assert found.pop(25) == {"value read (item)": 1}
    expected = {line: what for line, what in WAITED.items() if line != 25}
    assert found == expected


def test_what_does_not_wait(run: Run) -> None:
    recorder = run(
        """
        y = x * 2 + 1
        y[0], y[:, 1:], y[torch.tensor([0, 1], device="npu")]
        y.to("cpu", non_blocking=True)
        torch.nn.functional.one_hot(x.long(), 12)
        torch.where(x > 2, x, y)
        y.clamp_(0, 1).masked_fill_(x > 2, 0.5)
        x.shape, x.device, x.numel(), len(x)
        """
    )
    assert recorder.waits == {}


def test_a_library_line_and_the_user_line_that_led_to_it(run: Run, tmp_path: Path) -> None:
    library = tmp_path / "lib" / "site-packages" / "zoo" / "loss.py"
    library.parent.mkdir(parents=True)
    library.write_text("def total(x):\n    return [v.item() for v in x.flatten()]\n")
    names: dict[str, Any] = {}
    exec(compile(library.read_text(), str(library), "exec"), names)
    recorder = run("def step():\n    total(x)\nstep()\n", total=names["total"])
    ((what, at),) = recorder.waits
    assert (what, recorder.waits[what, at]) == ("value read (item)", 12)
    assert at.line is not None
    assert (at.line.file, at.line.line, at.is_own) == (str(library), 2, False)
    assert at.called_from is not None
    assert (Path(at.called_from.file).name, at.called_from.line) == ("script.py", 2)
    assert at.called_from.function == "step"


def test_lines_of_our_own_operators_are_named_beside_the_caller(run: Run) -> None:
    recorder = run("nms(x.new_tensor([[0, 0, 4, 4.0]]), x.new_ones(1), 0.5, 0)\n", nms=ops.nms)
    assert recorder.waits
    for _, at in recorder.waits:
        assert at.line is not None
        assert (Path(at.line.file).name, at.line.line, at.is_own) == ("script.py", 1, True)
        assert at.through is not None
        assert Path(at.through.file).name == "nms.py"


def test_a_printed_tensor_is_one_matter(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = run("print(x)\n")
    assert "device='npu:0'" in capsys.readouterr().out
    assert {what for what, _ in recorder.waits} == {"a tensor printed"}
    assert set(by_line(recorder.waits)) == {1}
    # The formatting goes by float64, which is not the user's doing.
    assert (recorder.casts, recorder.computed) == ({}, {})


# -- the backward pass, threads -----------------------------------------------------


def test_operators_of_both_passes(run: Run) -> None:
    recorder = run(
        """
        w = torch.ones(4, 5, device="npu", requires_grad=True)
        x.matmul(w).relu().sum().backward()
        """
    )
    counts = recorder.operators()
    # torch_npu has matmul in one piece; its derivative is followed in torch's two products.
    assert counts["aten::matmul"] == 1
    assert counts["aten::mm"] == 1
    assert counts["aten::relu"] == counts["aten::threshold_backward"] == counts["aten::sum"] == 1
    assert {where(name) for name in counts} == {Where.NATIVE}
    assert "aten::view" not in counts


def test_waits_of_the_backward_pass(run: Run) -> None:
    recorder = run(
        """
        class Half(torch.autograd.Function):
            @staticmethod
            def forward(ctx, a):
                return a * 0.5

            @staticmethod
            def backward(ctx, gradient):
                gradient.max().item()
                return gradient * 0.5

        w = torch.ones(3, 4, device="npu", requires_grad=True)
        w.register_hook(lambda g: g * g.sum().item())
        y = Half.apply(w)
        picked = y[x > 5]
        picked.sum().backward()
        """
    )
    found = {(what, at.line.line, at.in_backward): n for (what, at), n in recorder.waits.items()}
    assert found == {
        ("value read (item)", 8, False): 1,
        ("value read (item)", 12, False): 1,
        ("indexing by a bool mask", 14, False): 1,
        # The derivative of line 14, which no Python code called.
        ("assignment by a bool mask", 15, True): 1,
    }


def test_other_threads(run: Run) -> None:
    recorder = run(
        """
        def work():
            x.sum().item()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        """,
        threading=threading,
    )
    assert by_line(recorder.waits) == {2: {"value read (item)": 4}}
    assert recorder.operators()["aten::sum"] == 4


# -- copies and types ---------------------------------------------------------------


def test_copies_to_the_device(run: Run) -> None:
    recorder = run(
        """
        a = torch.zeros(5, 2)
        for _ in range(3):
            a.to("npu")
        a.pin_memory().to("npu", non_blocking=True)
        x.copy_(torch.ones(3, 4))
        x.new_tensor([1, 2])
        torch.tensor(2.0, device="npu")
        x[[0, 1]]
        x + 1 + x.clone()
        """
    )
    found = {at.line.line: numbers for at, numbers in recorder.copies.items()}
    assert found == {
        3: [3, 3 * 40, 3],
        4: [1, 40, 0],
        5: [1, 48, 1],
        6: [1, 8, 1],
        7: [1, 4, 1],
        8: [1, 16, 1],
    }
    assert recorder.waits == {}


def test_types_of_64_bits(run: Run) -> None:
    recorder = run(
        """
        y = x.double()
        y @ y.t() * 2
        y.float()
        n = x.long()
        n * n
        n + 1 == n
        x.half()
        x.to(torch.float32)
        """
    )
    assert by_line(recorder.casts) == {
        1: {"float32 to float64": 1},
        3: {"float64 to float32": 1},
        4: {"float32 to int64": 1},
    }
    found = {(d, name, at.line.line): n for (d, name, at), n in recorder.computed.items()}
    assert found == {
        ("float64", "aten::matmul", 2): 1,
        ("float64", "aten::mul.Tensor", 2): 1,
        ("int64", "aten::mul.Tensor", 5): 1,
    }


# -- what goes wrong ----------------------------------------------------------------


def test_a_refused_operator(run: Run) -> None:
    refused = next(
        name
        for (name, key), kernel in recorder_module.installed_kernels().items()
        if kernel.__name__ == "refusal" and name == "npu::npu_ifmr"
    )
    recorder = run(
        """
        for _ in range(2):
            with pytest.raises(SoftNpuError, match="npu_ifmr"):
                torch.ops.npu.npu_ifmr(x, x, x, x, 0.1, 0.1, 0.1, 1.0, 0.1, True)
        """,
        pytest=pytest,
        SoftNpuError=SoftNpuError,
    )
    (((name, at), (count, message)),) = recorder.refused.items()
    assert (name, count) == (refused, 2)
    assert at.line is not None
    assert at.line.line == 3
    assert "npu_ifmr" in message
    assert recorder.failed == {}


def test_an_operator_that_fails_raises_as_it_does_unrecorded(run: Run) -> None:
    source = """
        with pytest.raises(RuntimeError, match="same dtype|expected m1 and m2") as raised:
            torch.mm(x, x.t().double())
        """
    recorder = run(source, pytest=pytest)
    (((name, at), (count, _)),) = recorder.failed.items()
    assert (name, count) == ("aten::mm", 1)
    assert at.line is not None
    assert at.line.line == 2
    assert recorder.refused == {}


def test_operators_without_a_kernel_fall_back(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """torch_npu still computes them as it does, and its warnings name the same operators."""
    recorder = run(
        """
        a = torch.heaviside(x, x)
        b = torch.copysign(x, -1)
        c = torch.mode(x)
        d = torch.digamma(x)
        assert b.sum().item() == -66
        assert a.device.type == c.values.device.type == d.device.type == "npu"
        """
    )
    fallen = {name for name in recorder.operators() if where(name) is Where.CPU}
    names = {"aten::heaviside.out", "aten::copysign.out", "aten::mode", "aten::digamma.out"}
    assert fallen == names
    warned = capfd.readouterr().err
    assert all(
        line.split("operator '")[1].split("'")[0] in names
        for line in warned.splitlines()
        if "fall back to run on the CPU" in line
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aten::add.Tensor", Where.NATIVE),
        ("npu::npu_rms_norm", Where.NATIVE),
        ("aten::mode", Where.CPU),
        ("aten::digamma", Where.CPU),  # by its out overload
        ("aten::digamma_", Where.CPU),
        ("aten::digamma.out", Where.CPU),
        ("aten::linalg_svd", Where.COMPOSITE),
        ("aten::new_full", Where.COMPOSITE),
        ("aten::mkldnn_reorder_conv2d_weight", Where.NOTHING),
    ],
)
def test_where(name: str, expected: Where) -> None:
    assert where(name) is expected


# -- the end ------------------------------------------------------------------------


def test_everything_is_put_back(run: Run) -> None:
    def functions() -> list[Any]:
        streams = torch_npu.npu.streams
        return [
            torch_npu._C._npu_synchronize,
            torch._C._accelerator_synchronizeDevice,
            streams.Stream.__dict__["synchronize"],
            streams.Event.__dict__["synchronize"],
        ]

    before = functions()
    recorder = run("x.sum().item()\n")
    assert functions() == before
    counts = recorder.operators()
    torch.ones(2, device="npu").sum().item()
    torch.npu.synchronize()
    assert recorder.operators() == counts
    assert len(recorder.waits) == 1


def test_a_thread_without_python_frames_of_the_user(tmp_path: Path) -> None:
    places = Places([str(tmp_path)])
    at = places.origin(None)
    assert at.line is None
    assert not at.in_backward

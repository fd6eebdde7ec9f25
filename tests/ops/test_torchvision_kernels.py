"""When torchvision's kernels are used: with a fake one, under the operators on the CPU.

On the CPU, because CUDA is not to be had here, and the fake is no faster; the choice does not
know the difference.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fake_torchvision import FUNCTIONS, fake_torchvision

from mx_autopatch import ops
from mx_autopatch.ops import torchvision_kernels as kernels
from mx_autopatch.verify import runner
from mx_autopatch.verify.cases import CHECKS
from mx_autopatch.verify.kernel import kernel_of

if importlib.util.find_spec("torchvision") is not None:
    pytest.skip("the real torchvision is installed", allow_module_level=True)

NAMES = [binding.op._name for binding in kernels.BINDINGS]
CHECKED = ["nms", "roi_align", "deform_conv2d", "modulated_deform_conv2d"]


@pytest.fixture(autouse=True)
def _one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake is slow: ``verify`` compares one case, and takes no time."""
    monkeypatch.setattr(runner, "_cases", lambda check: iter([runner._Case("random", 2)]))
    monkeypatch.setattr(runner, "DTYPES", (torch.float32,))
    monkeypatch.setattr(runner, "_time", lambda call, device: 0.0)
    for name in CHECKED:
        monkeypatch.setitem(CHECKS, name, dataclasses.replace(CHECKS[name], typical=2))


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``on_the_cpu(**instead)``: a fake torchvision, bound under the operators on the CPU."""
    monkeypatch.setattr(kernels, "decisions", {})
    libraries = []

    def start(**instead: Any) -> None:
        module, library = fake_torchvision(**instead)
        monkeypatch.setitem(sys.modules, "torchvision", module)
        binding = torch.library.Library("mx_autopatch", "IMPL")
        libraries.extend((library, binding))
        for each in kernels.BINDINGS:
            kernels.bind(each, "CPU", binding)

    yield start
    for library in libraries:
        library._destroy()


def boxes() -> tuple[torch.Tensor, torch.Tensor]:
    low = torch.rand(9, 2, generator=torch.Generator().manual_seed(0)) * 9
    return torch.cat((low, low + 5), 1), torch.arange(9.0)


def test_right_numbers_are_used(on_the_cpu: Any) -> None:
    on_the_cpu()
    for name in CHECKED:
        verdict = runner.verify(CHECKS[name], torch.device("cpu"))
        assert (verdict.failures, verdict.kernel) == ([], "torchvision")
    assert kernels.decisions == {(name, "cpu"): "" for name in NAMES}


def off_by_a_hundredth(*args: Any) -> Any:
    return FUNCTIONS["roi_align"](*args) * 1.01


def raises(*args: Any) -> Any:
    raise RuntimeError("no kernel image is available\nfor execution")


def with_nan(*args: Any) -> Any:
    return FUNCTIONS["deform_conv2d"](*args) * torch.nan


@pytest.mark.parametrize(
    ("name", "function", "reason"),
    [
        ("roi_align", off_by_a_hundredth, r"off by \d\.\de-\d\d, the largest value being "),
        ("nms", raises, "RuntimeError: no kernel image is available$"),
        ("nms", lambda dets, *rest: torch.arange(len(dets)), r"shape \(60,\) instead of \(\d+,"),
        ("deform_conv2d", with_nan, "off by nan"),
    ],
)
def test_others_are_not(on_the_cpu: Any, name: str, function: Any, reason: str) -> None:
    on_the_cpu(**{name: function})
    verdict = runner.verify(CHECKS[name], torch.device("cpu"))
    assert (verdict.failures, verdict.kernel) == ([], "portable")
    assert re.match(reason, kernels.decisions[name, "cpu"])


def test_calls_that_are_not_covered(on_the_cpu: Any) -> None:
    on_the_cpu()
    dets, scores = boxes()
    assert kernel_of(lambda: ops.nms(dets, scores, 0.5)) == "torchvision"
    assert kernel_of(lambda: ops.nms(dets, scores, 0.5, 1)) == "portable"
    assert kernel_of(lambda: ops.nms(dets, scores.double(), 0.5)) == "portable"
    assert kernel_of(lambda: ops.nms(dets[:0], scores[:0], 0.5)) == "portable"
    image, rois = torch.ones(1, 2, 5, 5), torch.tensor([[0, 1.0, 1, 4, 4]])
    assert kernel_of(lambda: ops.roi_align(image, rois, 2)) == "torchvision"
    assert kernel_of(lambda: ops.roi_align(image, rois, 2, pool_mode="max")) == "portable"
    assert kernel_of(lambda: ops.roi_align(image, rois.double(), 2)) == "portable"


def test_sums_in_any_order_are_not_deterministic(on_the_cpu: Any) -> None:
    on_the_cpu()
    image = torch.ones(1, 2, 5, 5, requires_grad=True)
    output = ops.roi_align(image, torch.tensor([[0, 1.0, 1, 4, 4]]), 2).sum()
    assert kernel_of(lambda: output.backward(retain_graph=True)) == "torchvision"
    torch.use_deterministic_algorithms(True)
    try:
        assert kernel_of(output.backward) == "portable"
    finally:
        torch.use_deterministic_algorithms(False)


def test_verify_says_so(on_the_cpu: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from mx_autopatch.cli.app import parse

    on_the_cpu(nms=raises)
    reason = "RuntimeError: no kernel image is available"
    for options, expected in (((), f"nms: torchvision's kernel is not used: {reason}\n"),
                              (("--json",), None)):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            parse(["verify", "nms", "--device", "cpu", *options])
        assert ended.value.code == 0
        said = capsys.readouterr().out
        if expected:
            assert expected in said
        else:
            assert json.loads(said)["not_torchvisions"] == {"nms": reason}


def test_on_the_cpu_it_is_not_even_imported() -> None:
    code = (
        "import sys, torch; from mx_autopatch import ops\n"
        "ops.nms(torch.ones(2, 4), torch.ones(2), 0.5)\n"
        "from mx_autopatch.ops.torchvision_kernels import decisions\n"
        "assert 'torchvision' not in sys.modules and not decisions"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_kernels_are_bound_for_cuda() -> None:
    for name in NAMES:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"mx_autopatch::{name}", "CUDA")


def test_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "decisions", {})
    cpu = torch.device("cpu")
    assert not any(kernels.is_used(binding, cpu) for binding in kernels.BINDINGS)
    assert set(kernels.decisions.values()) == {"torchvision is not installed"}

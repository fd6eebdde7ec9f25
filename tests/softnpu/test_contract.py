"""Functions on fake npu tensors, against the schemas and meta functions of the real torch_npu."""

from __future__ import annotations

import functools
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_npu
from helpers import environment, python
from torch import nn

import mx_autopatch
from mx_autopatch.softnpu.contract import TensorSpec, check
from mx_autopatch.softnpu.install import native_operators
from mx_autopatch.softnpu.operators import Where, where


@pytest.fixture(autouse=True)
def _nothing_on_stderr(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """torch logs what a meta function raises; it is in the result already."""
    yield
    assert "failed while attempting to run meta" not in capfd.readouterr().err


def spec(*shape: int, dtype: str = "float32", device: str = "npu:0") -> TensorSpec:
    return TensorSpec(shape, dtype, device)


# -- operators of torch_npu -----------------------------------------------------------


def test_rms_norm() -> None:
    result = mx_autopatch.check_contract(
        lambda x, g: torch_npu.npu_rms_norm(x, g, epsilon=1e-5), torch.ones(2, 8), torch.ones(8)
    )
    assert result.ok
    assert result.error is None
    assert result.output == (spec(2, 8), spec(2, 1))
    (call,) = result.calls
    assert (call.name, call.count, call.where) == ("npu::npu_rms_norm", 1, "native")
    assert call.arguments == (spec(2, 8), spec(8), 1e-5)
    assert call.keywords == {}
    assert call.verdict == "accepted"


def test_fusion_attention_and_its_derivative() -> None:
    def attend(q: Any, k: Any, v: Any) -> Any:
        return torch_npu.npu_fusion_attention(q, k, v, 2, "BSH", scale=0.5)[0]

    q = torch.ones(2, 16, 8, dtype=torch.float16, requires_grad=True)
    kv = torch.empty(2, 5, 8, dtype=torch.float16, device="meta")
    result = check(attend, q, kv, kv, backward=True)
    assert result.ok, result
    assert result.output == spec(2, 16, 8, dtype="float16")
    assert result["npu::npu_fusion_attention"].where == "native"
    assert "npu::npu_fusion_attention_grad" in result
    assert q.grad is None


def deformable(stride: list[int]) -> Any:
    return lambda x, w, o: torch_npu.npu_deformable_conv2d(
        x, w, o, None, kernel_size=[3, 3], stride=stride, padding=[1, 1, 1, 1]
    )


def test_deformable_conv2d() -> None:
    given = torch.ones(1, 3, 16, 16), torch.ones(4, 3, 3, 3), torch.ones(1, 27, 16, 16)
    result = check(deformable([1, 1, 1, 1]), *given)
    assert result.output == (spec(1, 4, 16, 16), spec(1, 3, 48, 48))

    result = check(deformable([1, 1]), *given)
    assert not result.ok
    call = result["npu::npu_deformable_conv2d"]
    assert call.refused_by == "meta"
    assert "stride must have at least 4 elements" in call.error
    assert result.output is None
    assert isinstance(result.error, RuntimeError)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, g: torch_npu.npu_rms_norm(x, g, eps=1e-5), "eps"),
        (lambda x, g: torch_npu.npu_rms_norm(x), "gamma"),
        (lambda x, g: torch_npu.npu_rms_norm(x, g, "small"), "epsilon"),
        (lambda x, g: torch.ops.npu.npu_rms_norm.default(x, 3), "gamma"),
    ],
)
def test_a_call_that_does_not_fit_the_schema(function: Any, message: str) -> None:
    result = check(function, torch.ones(2, 8), torch.ones(8))
    assert not result.ok
    (call,) = result.refused
    assert (call.name, call.refused_by) == ("npu::npu_rms_norm", "schema")
    assert message in call.error
    assert result.error is not None
    assert message in str(result.error)
    assert "npu::npu_rms_norm was refused (schema)" in str(result)


def test_an_error_that_the_function_catches_is_reported() -> None:
    def norm(x: Any, g: Any) -> Any:
        try:
            return torch_npu.npu_rms_norm(x, g, eps=1e-5)[0]
        except RuntimeError:
            return x * torch.rsqrt(x.square().mean(-1, keepdim=True)) * g

    result = check(norm, torch.ones(2, 8), torch.ones(8))
    assert result.error is None
    assert result.output == spec(2, 8)
    assert [call.name for call in result.refused] == ["npu::npu_rms_norm"]
    assert not result.ok


def test_a_type_that_a_meta_function_refuses() -> None:
    """The meta function of npu_quant_matmul looks at types; that of npu_rms_norm does not."""
    x = torch.ones(4, 8, dtype=torch.int8)
    right = check(torch_npu.npu_quant_matmul, x, x.t(), torch.ones(4), output_dtype=torch.float16)
    assert right.ok, right
    wrong = check(torch_npu.npu_quant_matmul, x, x.t(), torch.ones(4), output_dtype=torch.int64)
    assert not wrong.ok
    (call,) = wrong.refused
    assert (call.name, call.refused_by) == ("npu::npu_quant_matmul", "meta")
    assert "output dtype is torch.int64" in call.error


def test_an_operator_without_a_meta_function() -> None:
    result = check(lambda x: torch_npu.npu_format_cast(x, 2) + 1, torch.ones(2, 8))
    (call,) = result.calls
    assert (call.name, call.refused_by) == ("npu::npu_format_cast", "no meta")
    assert "register_fake('npu::npu_format_cast')" in call.error

    # As the message says.
    library = torch.library.Library("npu", "FRAGMENT")
    try:
        torch.library.register_fake(
            "npu::npu_format_cast", lambda x, form, *more: torch.empty_like(x), lib=library
        )
        result = check(lambda x: torch_npu.npu_format_cast(x, 2) + 1, torch.ones(2, 8))
    finally:
        library._destroy()
    assert result.ok, result
    assert result.output == spec(2, 8)


def test_what_writes_into_its_arguments_needs_no_meta_function() -> None:
    result = check(lambda x: torch.ops.npu.one_(x) * 2, torch.ones(2, 3))
    assert result.ok, result
    assert result.output == spec(2, 3)
    assert not result["npu::one_"].has_meta
    assert result["npu::one_"].verdict == "accepted by its schema; it has no meta function"


# -- torch's own operators ------------------------------------------------------------


def test_fallbacks_and_composites() -> None:
    result = check(
        lambda x: torch.digamma(x) + torch.mode(x).values + x.new_full((4,), 2.0), torch.ones(4)
    )
    assert result.ok
    assert {call.name for call in result.fallbacks} == {"aten::digamma", "aten::mode"}
    assert result["aten::new_full"].where == "composite"
    assert result["aten::add.Tensor"].where == "native"
    assert result["aten::add.Tensor"].count == 2


def test_every_operator_of_torch_npu_is_native() -> None:
    assert len(native_operators()) > 1400
    assert {where(name) for name in native_operators()} == {Where.NATIVE}


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x.sum().item(), "aten::_local_scalar_dense"),
        (lambda x: x.nonzero(), "aten::nonzero"),
        (lambda x: x[x > 0], "aten::index.Tensor"),
    ],
)
def test_what_depends_on_values(function: Any, name: str) -> None:
    result = check(function, torch.ones(3))
    assert result[name].refused_by == "values"
    assert "the host waits" in result[name].error
    assert not result.ok


def test_another_device_is_refused_as_on_an_npu() -> None:
    result = check(lambda x: x + torch.ones(3, 4), torch.ones(3, 4))
    assert result["aten::add.Tensor"].refused_by == "meta"
    assert "found at least two devices, npu:0 and cpu" in str(result.error)


def test_what_torch_refuses_before_an_operator() -> None:
    result = check(lambda x: torch.chunk(x, 0), torch.ones(4))
    (call,) = result.calls
    assert (call.name, call.refused_by) == ("torch.chunk", "call")
    assert "greater than 0" in call.error


def test_wrong_shapes() -> None:
    result = check(lambda x: x @ x, torch.ones(3, 8))
    assert [call.refused_by for call in result.refused] == ["meta"]
    assert "[3, 8] X [3, 8]" in str(result)


# -- modules and arguments ------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 2)
        self.tied = self.head

    def forward(self, x: Any) -> Any:
        return {"logits": self.tied(self.body(x).mean((2, 3)))}

    def loss(self, x: Any, weight: float = 1.0) -> Any:
        return self(x)["logits"].square().sum() * weight


def contents(net: nn.Module) -> list[Any]:
    return [*net.parameters(), *net.buffers()]


def test_a_module_forward_and_backward() -> None:
    net = Net()
    before = contents(net)
    result = check(net, torch.ones(2, 3, 8, 8), backward=True)
    assert result.ok, result
    assert result.output == {"logits": spec(2, 2)}
    for name in ("convolution", "convolution_backward", "native_batch_norm_backward"):
        assert result[f"aten::{name}"].where == "native"
    assert result["aten::convolution"].arguments[1] == spec(4, 3, 3, 3)
    assert all(one is other for one, other in zip(before, contents(net)))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not net.body[1].num_batches_tracked.item()


@pytest.mark.parametrize("kind", ["method", "closure", "partial", "argument", "attribute"])
def test_modules_that_a_function_uses(kind: str) -> None:
    class Trainer:
        def __init__(self, net: Net) -> None:
            self.net = net

        def step(self, x: Any) -> Any:
            return self.net.loss(x)

    net = Net()

    def step(x: Any) -> None:
        net.loss(x).backward()

    x = torch.ones(2, 3, 8, 8)
    function, args = {
        "method": (net.loss, (x,)),
        "closure": (step, (x,)),
        "partial": (functools.partial(net.loss, weight=2.0), (x,)),
        "argument": (lambda module, x: module.loss(x), (net, x)),
        "attribute": (Trainer(net).step, (x,)),
    }[kind]
    result = check(function, *args)
    assert result.ok, result
    assert result.output == (None if kind == "closure" else spec())
    assert ("aten::convolution_backward" in result) is (kind == "closure")
    assert all(parameter.device.type == "cpu" for parameter in net.parameters())


def test_what_arguments_may_be() -> None:
    class Sample:
        def __init__(self, boxes: Any) -> None:
            self.boxes = boxes

        def to(self, device: str) -> Sample:
            return Sample(self.boxes.to(device))

    def total(samples: Any, *, scale: Any, name: str) -> Any:
        return {name: sum(sample.boxes.sum() for sample in samples["all"]) * scale}

    result = check(
        total, {"all": [Sample(torch.ones(2, 4))] * 2}, scale=torch.ones(3).double(), name="x"
    )
    assert result.ok, result
    assert result.output == {"x": spec(3, dtype="float64")}
    strided = check(lambda x: x.stride(), torch.ones(4, 6).t())
    assert strided.output == (1, 6)


def test_an_error_of_the_function_itself() -> None:
    result = check(lambda x: {}["no"], torch.ones(1))
    assert isinstance(result.error, KeyError)
    assert (result.calls, result.refused, result.ok) == ((), (), False)
    assert "the function raised KeyError: 'no'" in str(result)
    assert isinstance(check(lambda x: x, torch.ones(1), backward=True).error, ValueError)


def test_the_table() -> None:
    result = check(lambda x: torch.mode(x * 2 * 3).values, torch.ones(4))
    lines = [" ".join(line.split()) for line in str(result).splitlines()]
    assert lines == [
        "count operator runs on verdict first call",
        "2 aten::mul.Tensor NPU accepted float32[4] npu:0, 2",
        "1 aten::mode CPU: falls back accepted float32[4] npu:0",
        "",
        "the function returned float32[] npu:0",
    ]


# -- device = "contract" --------------------------------------------------------------

CONTRACT = """
    import json

    import torch
    import torch_npu

    counted = torch.npu.device_count(), torch.npu.is_available()
    from mx_autopatch import check_contract
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.ones(2, 8, device="npu")
        normed = torch_npu.npu_rms_norm(fake, torch.ones(8, device="npu"))[0]

    # mmcv's and mmdet's own code, with torch_npu's own derivatives.
    from mmdet.models.backbones import ResNet

    net = ResNet(18, num_stages=2, out_indices=(0, 1), strides=(1, 2), dilations=(1, 1))
    result = check_contract(net, torch.ones(1, 3, 32, 32), backward=True)
    product = check_contract(
        torch.matmul, torch.ones(2, 4, requires_grad=True), torch.ones(4, 3), backward=True
    )
    try:
        real = torch.zeros(2, device="npu")
    except RuntimeError as error:
        real = str(error)
    print(json.dumps({
        "counted": counted,
        "normed": [str(normed.device), list(normed.shape)],
        "net": {call.name: [call.count, call.where, call.verdict] for call in result.calls},
        "output": result.output,
        "ok": [result.ok, product.ok],
        "product": [call.name for call in product.calls],
        "real": str(real),
    }))
    """


def test_without_a_device(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(CONTRACT))
    arguments = ("-m", "mx_autopatch", "--device", "contract", script)
    env = environment(OMP_NUM_THREADS="1")
    done = python(*arguments, cwd=tmp_path, env=env, warnings=False, timeout=120)
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["counted"] == [0, False]
    assert seen["normed"] == ["npu:0", [2, 8]]
    assert seen["ok"] == [True, True]
    assert seen["output"] == [
        [[1, 64, 8, 8], "float32", "npu:0"],
        [[1, 128, 4, 4], "float32", "npu:0"],
    ]
    for name in ("convolution", "convolution_backward", "native_batch_norm"):
        assert seen["net"][f"aten::{name}"] == [10, "native", "accepted"]
    assert seen["net"]["aten::max_pool2d_with_indices"] == [1, "native", "accepted"]
    # In one piece, forward and backward, as the hardware is given them.
    assert "aten::matmul" in seen["product"]
    assert "aten::mm" not in seen["product"]
    assert "out of memory" in seen["real"]

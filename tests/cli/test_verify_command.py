"""``verify``: which operators, on which device, and what it says; some of them in earnest."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterator

import pytest
from said import Cli, words

if importlib.util.find_spec("torch") is None:
    pytest.skip("verify computes with torch", allow_module_level=True)
if importlib.util.find_spec("torch_npu") is not None:
    pytest.skip("see tests/softnpu/test_verify.py", allow_module_level=True)

import torch
from torch import Tensor

from mx_autopatch import ops
from mx_autopatch.ops.fused_bias_leakyrelu import fused_bias_leakyrelu_op
from mx_autopatch.ops.tin_shift import tin_shift_op
from mx_autopatch.verify.cases import CHECKS

pytestmark = pytest.mark.usefixtures("_one_thread")


@pytest.fixture
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def wrong_kernel() -> Iterator[None]:
    """A kernel for the CPU that is off by a hundredth in half precision alone."""
    portable = fused_bias_leakyrelu_op._init_fn

    def kernel(input: Tensor, *rest: object) -> Tensor:
        return portable(input, *rest) * (1.01 if input.dtype == torch.float16 else 1)

    fused_bias_leakyrelu_op.register_kernel("cpu", kernel)
    yield
    # A kernel cannot be taken back: let it be the right one.
    fused_bias_leakyrelu_op._backend_fns["cpu"] = portable


def test_names_and_globs(cli: Cli) -> None:
    said = cli("verify", "nms", "psa_*", "mx_autopatch::nms", "--device", "cpu")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0].split() == [
        *("operator", "cases", "float32", "float16", "bfloat16", "kernel", "ms")
    ]
    assert [line.split()[0] for line in lines[1:3]] == ["nms", "psa_mask"]
    assert lines[1].split()[-3] == "portable"
    assert "2 operators, 48 cases on cpu, seed 0: all within tolerance" in said.out


def test_for_programs(cli: Cli) -> None:
    said = cli("--device", "cpu", "verify", "tin_shift", "--json", "--seed", "3")
    found = json.loads(said.out)
    assert (said.code, found["device"], found["seed"]) == (0, "cpu", 3)
    (operator,) = found["operators"]
    assert operator.pop("milliseconds") > 0
    assert operator == {
        "name": "tin_shift",
        "reference": "mx_autopatch.verify.references.convolution:tin_shift",
        "cases": 21,
        "errors": {"float32": 0.0, "float16": 0.0, "bfloat16": 0.0},
        "kernel": "portable",
        "failures": [],
    }


@pytest.mark.usefixtures("wrong_kernel")
def test_a_wrong_kernel_is_found(cli: Cli) -> None:
    said = cli("verify", "fused_bias_leakyrelu", "--device", "cpu")
    assert said.code == 1
    row = said.out.splitlines()[1].split()
    assert (row[0], row[3], row[-2:]) == ("fused_bias_leakyrelu", "1.1e-02", ["6", "failed"])
    assert "fused_bias_leakyrelu, float16, random: error 1.0e-02" in said.out
    assert "float32, " not in said.out
    assert "seed 0: 1 of them failed" in said.out


@pytest.fixture
def wrong_operator() -> Iterator[None]:
    """A kernel for the CPU that shifts the wrong way, whatever the dtype: a wrong formula."""
    portable = tin_shift_op._init_fn
    tin_shift_op.register_kernel("cpu", lambda input, shift: portable(input, -shift))
    yield
    tin_shift_op._backend_fns["cpu"] = portable


@pytest.mark.usefixtures("wrong_operator")
def test_a_wrong_operator_is_found(cli: Cli) -> None:
    said = cli("verify", "tin_shift", "corner_pool", "--device", "cpu")
    assert said.code == 1
    lines = said.out.splitlines()
    assert lines[1].split()[-1] == "failed"
    assert lines[2].split()[-1] == "ok"
    assert "tin_shift, float32, random: error " in said.out


def test_what_raises_is_found(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def function(input: Tensor, shift: Tensor) -> Tensor:
        if not input.numel():
            raise RuntimeError("nothing there\nat all")
        return ops.tin_shift(input, shift)

    check = dataclasses.replace(CHECKS["tin_shift"], function=function)
    monkeypatch.setitem(CHECKS, "tin_shift", check)
    said = cli("verify", "tin_shift", "--device", "cpu")
    assert said.code == 1
    assert "tin_shift, bfloat16, empty: RuntimeError: nothing there\n" in said.out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nmss",), "verify: unknown operator 'nmss'; did you mean 'nms'?"),
        (("zzz*",), "verify: unknown operator 'zzz*'; `verify` has them all"),
        (("--device", "gpu"), "verify: --device gpu: cannot be used here: "),
        (("--device", "meta"), "verify: --device meta: cannot be used here: "),
        (("--device", "contract"), "verify: --device contract: it computes nothing"),
        (("--device", "soft"), "it runs the real torch_npu, which is not installed"),
        (("--seed", "x"), "not a valid integer"),
    ],
)
def test_usage(cli: Cli, args: tuple[str, ...], message: str) -> None:
    said = cli("verify", *args)
    assert (said.code, said.out) == (2, "")
    assert message in words(said.err)

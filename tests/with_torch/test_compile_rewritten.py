"""Rewritten functions and matched classes in compiled and in scripted code."""

from __future__ import annotations

import importlib
import inspect
import warnings
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.model import Patch, Replace, Rewrite, Subclasses

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

LIBRARY = """
    import torch
    from torch import Tensor, nn

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            out = self.norm(x)
            out = out + x
            return torch.relu(out)

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

    def double(x):
        return Double.apply(x) + 1

    def summed(xs, start=0.0):
        total = start
        for x in xs:
            total = total + x
        return total
"""

RELU = Rewrite("*:forward", "$o = $o + $x\nreturn torch.relu($o)", "return relu_sum($o, $x)",
               names={"relu_sum": lambda a, b: torch.relu(a - b)})  # fmt: skip


@pytest.fixture
def library(write: Any) -> Any:
    """The import of a module with what torch can compile."""
    write({"rlib.py": LIBRARY})
    yield lambda: importlib.import_module("rlib")
    torch._dynamo.reset()


def compiled(function: Any) -> Any:
    return torch.compile(function, backend="eager", fullgraph=True)


def subclasses(base: str, match: Any, *edits: Any) -> Patch:
    return Patch("rlib.test", (Subclasses(base, match, edits),))


def test_a_rewritten_function(library: Any, engine: Any) -> None:
    x = torch.tensor([1.0, 2.0])
    edit = Rewrite("rlib:summed", "total + x", "total * total - x")
    engine(Patch("rlib.test", (edit,)))
    module = library()
    assert torch.equal(compiled(module.summed)([x, x]), (-x) * (-x) - x)
    torch._dynamo.reset()
    bootstrap.deactivate()
    assert torch.equal(compiled(module.summed)([x, x]), 2 * x)


def test_a_module_that_matched(library: Any, engine: Any) -> None:
    report = engine(
        subclasses("torch.nn.modules.module:Module", lambda c: c.__module__ == "rlib", RELU)
    )
    module = library().Residual()
    x = torch.randn(2, 4)
    expected = torch.relu(module.norm(x) - x)
    assert torch.equal(module(x), expected)
    assert torch.equal(compiled(module)(x), expected)
    (outcome,) = report()
    assert str(outcome.status) in ("APPLIED", "LATE")
    assert outcome.reason == "in rlib:Residual"
    bootstrap.deactivate()
    torch._dynamo.reset()
    assert torch.equal(compiled(module)(x), torch.relu(module.norm(x) + x))


def test_a_scripted_module(library: Any, engine: Any) -> None:
    """TorchScript reads the source, and every attribute of the class."""
    edit = Rewrite("*:forward", "$o = $o + $x", "$o = $o - 2.0 * $x")
    engine(subclasses("torch.nn.modules.module:Module", lambda c: c.__name__ == "Residual", edit))
    module = library().Residual()
    x = torch.randn(2, 4)
    expected = torch.relu(module.norm(x) - 2 * x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.9 and later call it deprecated
        scripted = torch.jit.script(module)
    assert torch.equal(scripted(x), expected)
    assert "2." in scripted.code


# What dynamo does to every Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_function_of_autograds(library: Any, engine: Any) -> None:
    """Both of its halves, for apply, for the class that FunctionMeta makes, and for dynamo."""
    edits = (
        Replace("*:forward", lambda ctx, x: 3 * x),
        Rewrite("*:backward", "2 * $g", "3 * $g"),
    )
    match = lambda cls: cls.__name__ == "Double" and "is Double"  # noqa: E731
    report = engine(subclasses("torch.autograd.function:Function", match, *edits))
    module = library()
    for function in (module.double, compiled(module.double)):
        x = torch.ones(2, requires_grad=True)
        y = function(x)
        y.sum().backward()
        assert y.tolist() == [4.0, 4.0]
        assert x.grad.tolist() == [3.0, 3.0]
    assert report().outcomes[0].reason.startswith("in rlib:Double (is Double)")


@pytest.mark.filterwarnings("ignore::ImportWarning")  # mmcv, of its own names
@pytest.mark.filterwarnings("ignore:.*use_reentrant:UserWarning")  # mmdet does not say
def test_the_block_of_mmdets_resnet(engine: Any) -> None:
    """Its sum and its activation in one, as patches do it; with checkpoints, and compiled."""
    names = {"add_relu": lambda a, b: torch.relu(a + b)}
    target = "mmdet.models.backbones.resnet:BasicBlock.forward"
    edits = (
        Rewrite(target, "out += identity", "out = add_relu(out, identity)", names=names),
        Rewrite(target, "out = self.relu(out)\n\nreturn out", "return out"),
    )
    patch = Patch("mmdet.test", edits)
    report = engine(patch, patches__only=["mmdet.test", "mmcv.version_gate", "mmcv.ext"])
    pytest.importorskip("mmdet")
    from mmdet.models.backbones.resnet import BasicBlock

    assert [str(o.status) for o in report() if o.patch == "mmdet.test"] == ["APPLIED"] * 2
    assert "return add_relu" not in inspect.getsource(BasicBlock.forward)
    assert "out = add_relu(out, identity)" in inspect.getsource(BasicBlock.forward)
    rewritten = BasicBlock.forward
    bootstrap.deactivate()
    for with_cp in (False, True):
        torch.manual_seed(0)
        block = BasicBlock(4, 4, with_cp=with_cp).eval()
        x = torch.randn(2, 4, 5, 5, requires_grad=True)
        results = []
        for forward in (BasicBlock.forward, rewritten, compiled(rewritten)):
            x.grad = None
            y = forward(block, x)
            y.square().sum().backward()
            results.append((y.detach(), x.grad))
        for y, grad in results[1:]:
            torch.testing.assert_close(y, results[0][0])
            torch.testing.assert_close(grad, results[0][1])

"""Under autocast the operators give what they give without it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mx_autopatch import ops
from mx_autopatch.verify.cases import CHECKS
from mx_autopatch.verify.source import Source


def results(check, autocast):
    """Of the arguments with which ``verify`` calls it, in float32, with gradients."""
    arguments = {
        key: value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in check.inputs(Source(0), check.size).items()
    }
    leaves = [arguments[key].requires_grad_() for key in check.grads if key in arguments]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = check.function(**arguments)
        outputs = output if isinstance(output, (tuple, list)) else (output,)
        floats = [t for t in outputs if isinstance(t, Tensor) and t.requires_grad]
        cotangents = [torch.ones_like(t) for t in floats]
        grads = torch.autograd.grad(floats, leaves, cotangents) if floats else ()
    return [*outputs, *grads]


@pytest.mark.parametrize("name", CHECKS)
def test_every_operator(name):
    got, want = (results(CHECKS[name], autocast) for autocast in (True, False))
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_every_operator_is_registered():
    """Those of sync_bn, which no one imports by name, too."""
    assert "sync_bn" in dir(ops)
    for name in ("sync_bn_var", "nms", "deform_conv2d_backward", "ms_deform_attn"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(
            f"mx_autopatch::{name}", "AutocastPrivateUse1"
        )


def test_compiled():
    def conv(x, offset, weight):
        return ops.deform_conv2d(x, offset, weight).sin() @ weight[0, 0]

    tensors = torch.randn(1, 2, 5, 5), torch.rand(1, 18, 3, 3), torch.randn(3, 2, 3, 3)
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        got, want = compiled(*tensors), conv(*tensors)
    assert want.dtype == torch.bfloat16  # of the product, as ever
    torch.testing.assert_close(got, want)

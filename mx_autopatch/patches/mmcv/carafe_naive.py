"""Gradients of carafe_naive for tensors that are not CUDA's.

Why: ``CARAFENaiveFunction.backward`` asserts ``grad_output.is_cuda``, whatever the extension
     offers: on the CPU and on NPUs a bare AssertionError. (``carafe`` does not.)
How: for such tensors, the gradients by mx_autopatch.ops. For CUDA tensors mmcv's own code runs.
Upstream: mmcv/ops/carafe.py, mmcv 1.3 - 2.2.
Remove when: mmcv drops the assertion.
"""

from typing import TYPE_CHECKING, Any

from mx_autopatch.model import Patch, Replace

if TYPE_CHECKING:
    from torch import Tensor


def backward(ctx: Any, grad_output: "Tensor") -> "tuple[Tensor, Tensor, None, None, None]":
    from mx_autopatch.ops.carafe import carafe_backward

    features, masks = ctx.saved_tensors
    sizes = ctx.kernel_size, ctx.group_size, ctx.scale_factor
    grads = carafe_backward(grad_output, features, masks, *sizes)
    return grads[0], grads[1], None, None, None


def _elsewhere(ctx: Any, grad_output: "Tensor") -> bool:
    return not grad_output.is_cuda


PATCHES = (
    Patch(
        name="mmcv.carafe_naive",
        edits=(
            Replace("mmcv.ops.carafe:CARAFENaiveFunction.backward", backward, guard=_elsewhere),
        ),
        requires=("module:torch",),
    ),
)

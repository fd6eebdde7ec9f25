"""Batch normalisation over several processes, in the extension's calling convention."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "sync_bn_backward_data",
    "sync_bn_backward_param",
    "sync_bn_forward_mean",
    "sync_bn_forward_output",
    "sync_bn_forward_var",
]


def _given(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None or not tensor.numel() else tensor


def sync_bn_forward_mean(input: Tensor, mean: Tensor) -> None:
    """Fill in ``mean``."""
    from mx_autopatch.ops.sync_bn import sync_bn_mean

    mean.copy_(sync_bn_mean(input))


def sync_bn_forward_var(input: Tensor, mean: Tensor, var: Tensor) -> None:
    """Fill in ``var``."""
    from mx_autopatch.ops.sync_bn import sync_bn_var

    var.copy_(sync_bn_var(input, mean))


def sync_bn_forward_output(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    norm: Tensor,
    std: Tensor,
    output: Tensor,
    eps: float,
    momentum: float | Tensor,
    group_size: int,
) -> None:
    """Fill in ``output``, ``norm`` and ``std``; update the running statistics.

    What is None or empty is not wanted.
    """
    from mx_autopatch.ops.sync_bn import sync_bn_output

    # In the compiled function weight and bias come together.
    bias = None if _given(weight) is None else bias
    results = sync_bn_output(input, mean, var, _given(weight), _given(bias), eps)
    for target, result in zip((output, norm, std), results):
        if _given(target) is not None:
            target.copy_(result)
    if running_mean is not None and running_var is not None and running_mean.numel():
        count = input.shape[0] * input.shape[2] * group_size
        unbiased = var * (count / (count - 1)) if count > 1 else var
        for running, new in ((running_mean, mean), (running_var, unbiased)):
            running.mul_(1 - momentum).add_(momentum * new)


def sync_bn_backward_param(
    grad_output: Tensor, norm: Tensor, grad_weight: Tensor, grad_bias: Tensor
) -> None:
    """Fill in ``grad_weight`` and ``grad_bias``."""
    from mx_autopatch.ops.sync_bn import sync_bn_backward_param

    grads = sync_bn_backward_param(grad_output, norm)
    for target, grad in zip((grad_weight, grad_bias), grads):
        target.copy_(grad)


def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
    grad_input: Tensor,
) -> None:
    """Fill in ``grad_input``."""
    from mx_autopatch.ops.sync_bn import sync_bn_backward_data

    statistics = weight, grad_weight, grad_bias
    grad_input.copy_(sync_bn_backward_data(grad_output, *statistics, norm, std))

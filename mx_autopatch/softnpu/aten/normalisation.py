"""The parts of batch normalisation that synchronised batch normalisation is made of.

torch has them for GPUs alone. With ``N`` the number of values of a channel on one device:
each device takes mean and 1/sqrt(var + eps) (``batch_norm_stats``), all of them together
the common ones (``batch_norm_gather_stats_with_counts``); each normalises its own values
(``batch_norm_elemt``); and backward each sums what the gradient of the statistics needs
(``batch_norm_backward_reduce``), which is added up over the devices, and computes its
share of the gradient (``batch_norm_backward_elemt``).

Statistics are float32 where the input is float16 or bfloat16, as on a GPU.
Source: torch/nn/modules/_functions.py, which calls them, and the derivative of
``(x - mean) * invstd * weight + bias``.
"""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch import Tensor

from mx_autopatch.softnpu.aten.outputs import into_out

__all__ = ["FUNCTIONS"]


def _statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    """Values of shape (C,) so that they go with ``like`` of shape (N, C, ...)."""
    return values.view(1, -1, *[1] * (like.dim() - 2))


def _without_channel(input: Tensor) -> list[int]:
    return [dim for dim in range(input.dim()) if dim != 1]


def batch_norm_stats(input: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1/sqrt(var + eps) of each channel; the variance is the biased one."""
    values = input.to(_statistics_dtype(input.dtype))
    var, mean = torch.var_mean(values, _without_channel(input), correction=0)
    return mean, torch.rsqrt(var + eps)


def batch_norm_gather_stats_with_counts(
    input: Tensor,
    mean: Tensor,
    invstd: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    counts: Tensor,
) -> tuple[Tensor, Tensor]:
    """The statistics of all devices together; the running ones are updated.

    Args:
        mean, invstd: (devices, C), each device's own.
        counts: (devices,), how many values each has of a channel.
    """
    weights = counts.to(mean.dtype).view(-1, 1)
    total = weights.sum()
    common = (mean * weights).sum(0) / total
    own = invstd.pow(-2) - eps
    var = ((own + (mean - common).square()) * weights).sum(0) / total
    if running_mean is not None:
        running_mean.mul_(1 - momentum).add_(common.to(running_mean.dtype), alpha=momentum)
    if running_var is not None:
        unbiased = var * (total / (total - 1))
        running_var.mul_(1 - momentum).add_(unbiased.to(running_var.dtype), alpha=momentum)
    return common, torch.rsqrt(var + eps)


def batch_norm_elemt(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    invstd: Tensor,
    eps: float,
) -> Tensor:
    """``(input - mean) * invstd * weight + bias`` in the dtype and layout of ``input``."""
    values = input.to(mean.dtype)
    result = (values - _per_channel(mean, input)) * _per_channel(invstd, input)
    if weight is not None:
        result = result * _per_channel(weight.to(mean.dtype), input)
    if bias is not None:
        result = result + _per_channel(bias.to(mean.dtype), input)
    return result.to(input.dtype)


def batch_norm_backward_reduce(
    grad_out: Tensor,
    input: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    input_g: bool,
    weight_g: bool,
    bias_g: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Sums over a channel: of grad, of grad * (input - mean); and grads of weight and bias."""
    dims = _without_channel(input)
    gradient = grad_out.to(mean.dtype)
    sum_dy = gradient.sum(dims)
    sum_dy_xmu = (gradient * (input.to(mean.dtype) - _per_channel(mean, input))).sum(dims)
    dtype = mean.dtype if weight is None else weight.dtype
    return (
        sum_dy if input_g else None,
        sum_dy_xmu if input_g else None,
        (sum_dy_xmu * invstd).to(dtype) if weight_g else None,
        sum_dy.to(dtype, copy=True) if bias_g else None,
    )


def batch_norm_backward_elemt(
    grad_out: Tensor,
    input: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    sum_dy: Tensor,
    sum_dy_xmu: Tensor,
    count: Tensor,
) -> Tensor:
    """The gradient of the input, given the sums over all devices.

    Args:
        count: How many values each device has of a channel.
    """
    total = count.sum().to(mean.dtype)
    centred = input.to(mean.dtype) - _per_channel(mean, input)
    slope = invstd.square() * sum_dy_xmu / total
    gradient = grad_out.to(mean.dtype) - _per_channel(sum_dy / total, input)
    gradient = (gradient - centred * _per_channel(slope, input)) * _per_channel(invstd, input)
    if weight is not None:
        gradient = gradient * _per_channel(weight.to(mean.dtype), input)
    return gradient.to(input.dtype)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "aten::batch_norm_stats": batch_norm_stats,
    "aten::batch_norm_gather_stats_with_counts": batch_norm_gather_stats_with_counts,
    "aten::batch_norm_elemt": batch_norm_elemt,
    "aten::batch_norm_elemt.out": into_out(batch_norm_elemt),
    "aten::batch_norm_backward_reduce": batch_norm_backward_reduce,
    "aten::batch_norm_backward_elemt": batch_norm_backward_elemt,
}

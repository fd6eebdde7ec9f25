"""The pieces of a batch normalisation over several processes.

Peng et al. 2018, "MegDet: A Large Mini-Batch Object Detector".
Upstream: ``mmcv.ops.SyncBatchNorm`` (compiled for CUDA only), mmcv 1.3 - 2.2, which sums up
the results over all processes between one piece and the next, and has the gradient. The
pieces themselves have none.

All take (N, C, L), statistics (C,), and calculate and return statistics in float32, or in
float64 for float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._check import check_same_device, check_tensor, compute_dtype

__all__ = [
    "sync_bn_backward_data",
    "sync_bn_backward_param",
    "sync_bn_mean",
    "sync_bn_output",
    "sync_bn_var",
]


def sync_bn_mean(input: Tensor) -> Tensor:
    """Mean of each channel."""
    check_tensor("sync_bn_mean", "input", input, ("N", "C", "L"))
    return sync_bn_mean_op(input)


def sync_bn_var(input: Tensor, mean: Tensor) -> Tensor:
    """Mean square of each channel's distance from ``mean``, which need not be its own."""
    _check("sync_bn_var", "input", input, mean=mean)
    return sync_bn_var_op(input, mean)


def sync_bn_output(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised input times weight plus bias; the normalised input; the deviation (C,).

    The first is in the dtype of ``input``, rounded once.
    """
    name = "sync_bn_output"
    _check(name, "input", input, mean=mean, var=var, weight=weight, bias=bias)
    return sync_bn_output_op(input, mean, var, weight, bias, float(eps))


def sync_bn_backward_param(grad_output: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients in weight and bias; ``norm`` is the normalised input."""
    name = "sync_bn_backward_param"
    _check(name, "grad_output", grad_output)
    check_tensor(name, "norm", norm, tuple(grad_output.shape))
    check_same_device(name, grad_output=grad_output, norm=norm)
    return sync_bn_backward_param_op(grad_output, norm)


def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
) -> Tensor:
    """Gradient in the input, in the dtype of ``grad_output``, through the statistics too."""
    name = "sync_bn_backward_data"
    statistics = {"weight": weight, "grad_weight": grad_weight, "grad_bias": grad_bias, "std": std}
    _check(name, "grad_output", grad_output, **statistics)
    check_tensor(name, "norm", norm, tuple(grad_output.shape))
    check_same_device(name, grad_output=grad_output, norm=norm)
    return sync_bn_backward_data_op(grad_output, weight, grad_weight, grad_bias, norm, std)


def _check(op: str, name: str, values: Tensor, **statistics: Tensor | None) -> None:
    check_tensor(op, name, values, ("N", "C", "L"))
    for key, tensor in statistics.items():
        if tensor is not None:
            check_tensor(op, key, tensor, (values.shape[1],))
    check_same_device(op, **{name: values}, **statistics)


def _wide(values: Tensor) -> Tensor:
    return values.to(compute_dtype(values.dtype))


@torch.library.custom_op(
    "mx_autopatch::sync_bn_mean", mutates_args=(), schema="(Tensor input) -> Tensor"
)
def sync_bn_mean_op(input: Tensor) -> Tensor:
    return _wide(input).mean((0, 2))


@torch.library.custom_op(
    "mx_autopatch::sync_bn_var", mutates_args=(), schema="(Tensor input, Tensor mean) -> Tensor"
)
def sync_bn_var_op(input: Tensor, mean: Tensor) -> Tensor:
    return (_wide(input) - mean[:, None]).square_().mean((0, 2))


@torch.library.custom_op(
    "mx_autopatch::sync_bn_output",
    mutates_args=(),
    schema="(Tensor input, Tensor mean, Tensor var, Tensor? weight, Tensor? bias, float eps)"
    " -> (Tensor output, Tensor norm, Tensor std)",
)
def sync_bn_output_op(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = compute_dtype(input.dtype)
    std = (var + eps).sqrt().to(dtype)
    norm = (_wide(input) - mean[:, None]).div_(std[:, None]).contiguous()
    output = norm
    if weight is not None:
        output = output * weight[:, None]
    if bias is not None:
        output = output + bias[:, None]
    return input.new_empty(input.shape).copy_(output), norm, std


@torch.library.custom_op(
    "mx_autopatch::sync_bn_backward_param",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor norm) -> (Tensor grad_weight, Tensor grad_bias)",
)
def sync_bn_backward_param_op(grad_output: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
    grad = _wide(grad_output)
    return (grad * norm).sum((0, 2)), grad.sum((0, 2))


@torch.library.custom_op(
    "mx_autopatch::sync_bn_backward_data",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor weight, Tensor grad_weight, Tensor grad_bias, "
    "Tensor norm, Tensor std) -> Tensor",
)
def sync_bn_backward_data_op(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
) -> Tensor:
    count = max(grad_output.shape[0] * grad_output.shape[2], 1)
    mean = (grad_weight[:, None] * norm + grad_bias[:, None]) / count
    grad = (_wide(grad_output) - mean) * (weight / std)[:, None]
    return grad_output.new_empty(grad_output.shape).copy_(grad)


@sync_bn_mean_op.register_fake
def _(input: Tensor) -> Tensor:
    return input.new_empty((input.shape[1],), dtype=compute_dtype(input.dtype))


@sync_bn_var_op.register_fake
def _(input: Tensor, mean: Tensor) -> Tensor:
    return input.new_empty((input.shape[1],), dtype=compute_dtype(input.dtype))


@sync_bn_output_op.register_fake
def _(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = compute_dtype(input.dtype)
    norm = input.new_empty(input.shape, dtype=dtype)
    return input.new_empty(input.shape), norm, norm.new_empty((input.shape[1],))


@sync_bn_backward_param_op.register_fake
def _(grad_output: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(grad_output.dtype)
    grad = grad_output.new_empty((grad_output.shape[1],), dtype=dtype)
    return grad, torch.empty_like(grad)


@sync_bn_backward_data_op.register_fake
def _(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
) -> Tensor:
    return grad_output.new_empty(grad_output.shape)


for _op in (
    sync_bn_mean_op,
    sync_bn_var_op,
    sync_bn_output_op,
    sync_bn_backward_param_op,
    sync_bn_backward_data_op,
):
    no_gradient(_op)

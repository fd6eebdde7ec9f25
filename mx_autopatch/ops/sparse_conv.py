"""Convolution and maximum over the pairs of a sparse convolution.

Upstream: ``mmcv.ops.SparseConv2d`` and its kin, ``SparseInverseConv3d`` and
``SparseMaxPool3d`` (spconv 1, CUDA only), mmcv 1.5 - 2.2; Graham and van der Maaten 2017,
"Submanifold Sparse Convolutional Networks".

One kernel element after the other: gather the inputs that meet an output under it,
multiply, add to the outputs. Under one element an output meets one input at most,
so that adding always rounds alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor, compute_dtype

__all__ = [
    "indice_conv",
    "indice_conv_backward",
    "indice_maxpool",
    "indice_maxpool_backward",
]


def indice_conv(
    features: Tensor,
    filters: Tensor,
    indice_pairs: Tensor,
    indice_pair_num: Tensor,
    num_out: int,
    inverse: bool = False,
    bias: Tensor | None = None,
) -> Tensor:
    """Sparse convolution.

    Args:
        features: (N, C) floating, one row an active input.
        filters: (k1, ..., kD, C, O) in the dtype of ``features``.
        indice_pairs: (K, 2, L) int32 and ``indice_pair_num`` (K,) int32, of
            get_indice_pairs, K = k1 * ... * kD.
        num_out: active outputs.
        inverse: the inverse of the convolution that the pairs are of: inputs take the
            place of outputs.
        bias: (O,) in the dtype of ``features``, or None.

    Returns:
        (num_out, O) in the dtype of ``features``. Half precision is calculated in
        float32 and rounded once. Differentiable once, in features, filters and bias.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    op = "indice_conv"
    check_tensor(op, "features", features, ("N", "C"))
    _check_filters(op, features, filters)
    _check_pairs(op, indice_pairs, indice_pair_num, filters.shape[:-2].numel())
    if bias is not None:
        check_tensor(op, "bias", bias, (filters.shape[-1],), features.dtype)
    check_same_device(op, features=features, filters=filters, bias=bias)
    check_same_device(op, features=features, pairs=indice_pairs, num=indice_pair_num)
    pairs = indice_pairs, indice_pair_num
    return indice_conv_op(features, filters, *pairs, num_out, bool(inverse), bias)


def indice_conv_backward(
    features: Tensor,
    filters: Tensor,
    grad: Tensor,
    indice_pairs: Tensor,
    indice_pair_num: Tensor,
    inverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Gradients of features and filters, of that (num_out, O) of the output."""
    op = "indice_conv_backward"
    check_tensor(op, "features", features, ("N", "C"))
    _check_filters(op, features, filters)
    check_tensor(op, "grad", grad, ("num_out", filters.shape[-1]))
    _check_pairs(op, indice_pairs, indice_pair_num, filters.shape[:-2].numel())
    check_same_device(op, features=features, filters=filters, grad=grad)
    check_same_device(op, features=features, pairs=indice_pairs, num=indice_pair_num)
    pairs = indice_pairs, indice_pair_num
    return indice_conv_backward_op(features, filters, grad, *pairs, bool(inverse))


def indice_maxpool(
    features: Tensor, indice_pairs: Tensor, indice_pair_num: Tensor, num_out: int
) -> Tensor:
    """Sparse maximum pooling.

    Args:
        features: (N, C) floating, one row an active input.
        indice_pairs, indice_pair_num: of get_indice_pairs.
        num_out: active outputs.

    Returns:
        (num_out, C) in the dtype of ``features``: the greatest input that an output
        meets, or 0 if that is greater: an empty cell counts as 0, as upstream.
        Differentiable once; every input that equals the output gets its gradient.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    op = "indice_maxpool"
    check_tensor(op, "features", features, ("N", "C"))
    _check_pairs(op, indice_pairs, indice_pair_num, None)
    check_same_device(op, features=features, pairs=indice_pairs, num=indice_pair_num)
    return indice_maxpool_op(features, indice_pairs, indice_pair_num, num_out)


def indice_maxpool_backward(
    features: Tensor, output: Tensor, grad: Tensor, indice_pairs: Tensor, indice_pair_num: Tensor
) -> Tensor:
    """Gradient of the features, of the output and its gradient."""
    op = "indice_maxpool_backward"
    check_tensor(op, "features", features, ("N", "C"))
    check_tensor(op, "output", output, ("num_out", features.shape[1]), features.dtype)
    check_tensor(op, "grad", grad, tuple(output.shape))
    _check_pairs(op, indice_pairs, indice_pair_num, None)
    check_same_device(op, features=features, output=output, grad=grad)
    check_same_device(op, features=features, pairs=indice_pairs, num=indice_pair_num)
    return indice_maxpool_backward_op(features, output, grad, indice_pairs, indice_pair_num)


def _check_filters(op: str, features: Tensor, filters: Tensor) -> None:
    dims = max(filters.dim(), 2) if isinstance(filters, Tensor) else 2
    kernel = tuple(f"k{d + 1}" for d in range(dims - 2))
    check_tensor(op, "filters", filters, (*kernel, features.shape[1], "O"), features.dtype)


def _check_pairs(op: str, pairs: Tensor, num: Tensor, elements: int | None) -> None:
    count: int | str = "K" if elements is None else elements
    check_tensor(op, "indice_pairs", pairs, (count, 2, "L"), torch.int32)
    check_tensor(op, "indice_pair_num", num, (pairs.shape[0],), torch.int32)


def _elements(
    pairs: Tensor, num: Tensor, inverse: bool = False
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Kernel elements that have pairs, and the rows of inputs and outputs that meet."""
    for k, count in enumerate(num.tolist()):
        if count:
            first, second = pairs[k, :, :count].long()
            yield (k, second, first) if inverse else (k, first, second)


@torch.library.custom_op(
    "mx_autopatch::indice_conv",
    mutates_args=(),
    schema="(Tensor features, Tensor filters, Tensor indice_pairs, Tensor indice_pair_num, "
    "SymInt num_out, bool inverse, Tensor? bias) -> Tensor",
)
def indice_conv_op(
    features: Tensor,
    filters: Tensor,
    indice_pairs: Tensor,
    indice_pair_num: Tensor,
    num_out: int,
    inverse: bool,
    bias: Tensor | None,
) -> Tensor:
    dtype = compute_dtype(features.dtype)
    weight = filters.to(dtype).reshape(-1, *filters.shape[-2:])
    rows = features.to(dtype)
    output = rows.new_zeros(num_out, filters.shape[-1])
    if bias is not None:
        output += bias
    for k, source, target in _elements(indice_pairs, indice_pair_num, inverse):
        output.index_add_(0, target, rows.index_select(0, source) @ weight[k])
    return output.to(features.dtype)


@torch.library.custom_op(
    "mx_autopatch::indice_conv_backward",
    mutates_args=(),
    schema="(Tensor features, Tensor filters, Tensor grad, Tensor indice_pairs, "
    "Tensor indice_pair_num, bool inverse) -> (Tensor, Tensor)",
)
def indice_conv_backward_op(
    features: Tensor,
    filters: Tensor,
    grad: Tensor,
    indice_pairs: Tensor,
    indice_pair_num: Tensor,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(features.dtype)
    weight = filters.to(dtype).reshape(-1, *filters.shape[-2:])
    rows, grad = features.to(dtype), grad.to(dtype)
    grad_features, grad_weight = torch.zeros_like(rows), torch.zeros_like(weight)
    for k, source, target in _elements(indice_pairs, indice_pair_num, inverse):
        pulled = grad.index_select(0, target)
        torch.mm(rows.index_select(0, source).T, pulled, out=grad_weight[k])
        grad_features.index_add_(0, source, pulled @ weight[k].T)
    return grad_features.to(features.dtype), grad_weight.view(filters.shape).to(filters.dtype)


@torch.library.custom_op(
    "mx_autopatch::indice_maxpool",
    mutates_args=(),
    schema="(Tensor features, Tensor indice_pairs, Tensor indice_pair_num, SymInt num_out) "
    "-> Tensor",
)
def indice_maxpool_op(
    features: Tensor, indice_pairs: Tensor, indice_pair_num: Tensor, num_out: int
) -> Tensor:
    output = features.new_zeros(num_out, features.shape[1])
    for _, source, target in _elements(indice_pairs, indice_pair_num):
        rows, best = features.index_select(0, source), output.index_select(0, target)
        # Not torch.maximum, which lets NaN through: to upstream NaN exceeds nothing.
        output[target] = torch.where(rows > best, rows, best)
    return output


@torch.library.custom_op(
    "mx_autopatch::indice_maxpool_backward",
    mutates_args=(),
    schema="(Tensor features, Tensor output, Tensor grad, Tensor indice_pairs, "
    "Tensor indice_pair_num) -> Tensor",
)
def indice_maxpool_backward_op(
    features: Tensor, output: Tensor, grad: Tensor, indice_pairs: Tensor, indice_pair_num: Tensor
) -> Tensor:
    grad = grad.to(compute_dtype(features.dtype))
    result = grad.new_zeros(features.shape)
    for _, source, target in _elements(indice_pairs, indice_pair_num):
        hit = features.index_select(0, source) == output.index_select(0, target)
        result.index_add_(0, source, torch.where(hit, grad.index_select(0, target), 0.0))
    return result.to(features.dtype)


@indice_conv_op.register_fake
def _(
    features: Tensor,
    filters: Tensor,
    indice_pairs: Tensor,
    indice_pair_num: Tensor,
    num_out: int,
    inverse: bool,
    bias: Tensor | None,
) -> Tensor:
    return features.new_empty((num_out, filters.shape[-1]))


@indice_conv_backward_op.register_fake
def _(
    features: Tensor,
    filters: Tensor,
    grad: Tensor,
    indice_pairs: Tensor,
    indice_pair_num: Tensor,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    return features.new_empty(features.shape), filters.new_empty(filters.shape)


@indice_maxpool_op.register_fake
def _(features: Tensor, indice_pairs: Tensor, indice_pair_num: Tensor, num_out: int) -> Tensor:
    return features.new_empty((num_out, features.shape[1]))


@indice_maxpool_backward_op.register_fake
def _(
    features: Tensor, output: Tensor, grad: Tensor, indice_pairs: Tensor, indice_pair_num: Tensor
) -> Tensor:
    return features.new_empty(features.shape)


def _conv_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, filters, pairs, num, _, ctx.inverse, bias = inputs
    ctx.with_bias = bias is not None
    ctx.save_for_backward(features, filters, pairs, num)


def _conv_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    features, filters, pairs, num = ctx.saved_tensors
    grads = indice_conv_backward_op(features, filters, grad, pairs, num, ctx.inverse)
    grad_bias = grad.sum(0) if ctx.with_bias and ctx.needs_input_grad[6] else None
    return *grads, None, None, None, None, grad_bias


def _maxpool_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, pairs, num, _ = inputs
    ctx.save_for_backward(features, output, pairs, num)


def _maxpool_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    features, output, pairs, num = ctx.saved_tensors
    return indice_maxpool_backward_op(features, output, grad, pairs, num), None, None, None


indice_conv_op.register_autograd(_conv_backward, setup_context=_conv_context)
indice_maxpool_op.register_autograd(_maxpool_backward, setup_context=_maxpool_context)

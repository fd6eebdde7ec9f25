"""Normalisations: RMS, layer and group, with what is fused to them.

Statistics are float32, one for each row that ``gamma`` spans, in dimensions of size one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import reference, widened

__all__: list[str] = []


def _spanned(gamma: Tensor) -> list[int]:
    return list(range(-gamma.dim(), 0))


def _rms(x: Tensor, gamma: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """``x / rms(x) * gamma`` and ``1 / rms(x)``, in at least float32."""
    x, gamma = widened(x), widened(gamma)
    rstd = (x.square().mean(_spanned(gamma), keepdim=True) + epsilon).rsqrt()
    return x * rstd * gamma, rstd


@reference("npu_rms_norm")
def npu_rms_norm(input: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    """``input / sqrt(mean(input ** 2) + epsilon) * gamma``, and the factor's inverse root."""
    y, rstd = _rms(input, gamma, epsilon)
    return y.to(input.dtype), rstd.float()


@reference("npu_rms_norm_backward")
def npu_rms_norm_backward(
    dy: Tensor, input: Tensor, gamma: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of the input, in its dtype, and of gamma, in float32."""
    x, g, r = widened(input), widened(gamma), rstd.to(widened(input).dtype)
    given = widened(dy)
    normed = x * r
    mean = (given * g * normed).mean(_spanned(gamma), keepdim=True)
    dx = (given * g - normed * mean) * r
    rows = list(range(input.dim() - gamma.dim()))
    dgamma = given * normed
    return dx.to(input.dtype), (dgamma.sum(rows) if rows else dgamma).float()


@reference("npu_gemma_rms_norm")
def npu_gemma_rms_norm(
    input: Tensor, gamma: Tensor, epsilon: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """RMS norm with the weight ``1 + gamma``."""
    y, rstd = _rms(input, 1 + widened(gamma), epsilon)
    return y.to(input.dtype), rstd.float()


@reference("npu_add_rms_norm")
def npu_add_rms_norm(
    x1: Tensor, x2: Tensor, gamma: Tensor, epsilon: float = 1e-6
) -> tuple[Tensor, Tensor, Tensor]:
    """RMS norm of the sum; the inverse root; the sum."""
    total = (widened(x1) + widened(x2)).to(x1.dtype)
    y, rstd = _rms(widened(x1) + widened(x2), gamma, epsilon)
    return y.to(x1.dtype), rstd.float(), total


@reference("npu_add_rms_norm_cast")
def npu_add_rms_norm_cast(
    x1: Tensor, x2: Tensor, gamma: Tensor, epsilon: float = 1e-6
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As ``npu_add_rms_norm``, the result in float32 and in the dtype of ``x1``."""
    y, rstd, total = npu_add_rms_norm(x1, x2, gamma, epsilon)
    return y.float(), y, rstd, total


@reference("npu_add_rms_norm_v2_functional")
def npu_add_rms_norm_v2_functional(
    x1: Tensor, x2: Tensor, gamma: Tensor, epsilon: float = 1e-6
) -> tuple[Tensor, Tensor, Tensor]:
    """The inverse root, the norm and the sum."""
    y, rstd, total = npu_add_rms_norm(x1, x2, gamma, epsilon)
    return rstd, y, total


@reference("npu_add_rms_norm_v2")
def npu_add_rms_norm_v2(x1: Tensor, x2: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Leaves the norm in ``x1`` and the sum in ``x2``, and returns the inverse root."""
    y, rstd, total = npu_add_rms_norm(x1, x2, gamma, epsilon)
    x1.copy_(y)
    x2.copy_(total)
    return rstd


@reference("npu_layer_norm_eval")
def npu_layer_norm_eval(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    return F.layer_norm(input, list(normalized_shape), weight, bias, eps)


@reference("npu_layernorm_grad")
def npu_layernorm_grad(
    grad_out: Tensor,
    input: Tensor,
    normalized_shape: Sequence[int],
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = list(normalized_shape)
    gamma = torch.ones(shape, dtype=input.dtype) if weight is None else weight
    beta = torch.zeros(shape, dtype=input.dtype) if bias is None else bias
    mask = [True, True, True]
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_layer_norm_backward(
        grad_out, input, shape, mean, rstd, gamma, beta, mask
    )
    return result


def _layer(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Layer norm, mean and inverse deviation of ``x``, which is wide already."""
    dims = _spanned(gamma)
    mean = x.mean(dims, keepdim=True)
    rstd = (x.var(dims, unbiased=False, keepdim=True) + epsilon).rsqrt()
    return (x - mean) * rstd * widened(gamma) + widened(beta), mean, rstd


@reference("npu_add_layer_norm")
def npu_add_layer_norm(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float = 1e-5,
    additional_output: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Layer norm of the sum; mean; inverse deviation; the sum."""
    dtype = x1.dtype if x1.dtype == x2.dtype else torch.float32
    total = widened(x1) + widened(x2)
    y, mean, rstd = _layer(total, gamma, beta, epsilon)
    return y.to(dtype), mean.float(), rstd.float(), total.to(dtype)


def _layer_backward(
    dy: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, gamma and beta, given the statistics of the forward pass."""
    given, gamma = widened(dy), widened(gamma)
    mean, rstd = mean.to(x.dtype), rstd.to(x.dtype)
    dims = _spanned(gamma)
    normed = (x - mean) * rstd
    inner = given * gamma
    dx = inner - inner.mean(dims, keepdim=True)
    dx = (dx - normed * (inner * normed).mean(dims, keepdim=True)) * rstd
    rows = list(range(x.dim() - gamma.dim()))
    sums = [(t.sum(rows) if rows else t).float() for t in (given * normed, given)]
    return dx, sums[0], sums[1]


@reference("npu_add_layer_norm_backward")
def npu_add_layer_norm_backward(
    dy_opt: Tensor | None,
    x1: Tensor,
    x2: Tensor,
    rstd: Tensor,
    mean: Tensor,
    gamma: Tensor,
    dsum_opt: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x1 and x2 (the same), and of gamma and beta in float32."""
    total = widened(x1) + widened(x2)
    dy = torch.zeros_like(total) if dy_opt is None else dy_opt
    dx, dgamma, dbeta = _layer_backward(dy, total, gamma, mean, rstd)
    if dsum_opt is not None:
        dx = dx + dsum_opt
    return dx.to(x1.dtype), dx.to(x1.dtype), dgamma, dbeta


@reference("npu_deep_norm")
def npu_deep_norm(
    x: Tensor,
    gx: Tensor,
    beta: Tensor,
    gamma: Tensor,
    alpha: float = 0.3,
    epsilon: float = 1e-6,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, inverse deviation and layer norm of ``alpha * x + gx``."""
    y, mean, rstd = _layer(widened(x) * alpha + widened(gx), gamma, beta, epsilon)
    return mean.float(), rstd.float(), y.to(x.dtype)


@reference("npu_deep_norm_backward")
def npu_deep_norm_backward(
    dy: Tensor,
    x: Tensor,
    gx: Tensor,
    gamma: Tensor,
    mean: Tensor,
    rstd: Tensor,
    alpha: float = 0.3,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, gx, beta and gamma, the last two in float32."""
    total = widened(x) * alpha + widened(gx)
    dgx, dgamma, dbeta = _layer_backward(dy, total, gamma, mean, rstd)
    return (dgx * alpha).to(x.dtype), dgx.to(gx.dtype), dbeta, dgamma


def _group(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Group norm, and mean and inverse deviation as ``(N, groups)``, all wide."""
    rows = widened(x).reshape(x.size(0), groups, -1)
    mean = rows.mean(2)
    rstd = (rows.var(2, unbiased=False) + eps).rsqrt()
    y = ((rows - mean.unsqueeze(2)) * rstd.unsqueeze(2)).reshape(x.shape)
    shape = [1, -1] + [1] * (x.dim() - 2)
    if weight is not None:
        y = y * widened(weight).view(shape)
    if bias is not None:
        y = y + widened(bias).view(shape)
    return y, mean, rstd


@reference("npu_group_norm_silu")
def npu_group_norm_silu(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    group: int,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """``silu(group_norm(input))``, mean and inverse deviation ``(N, group)``."""
    y, mean, rstd = _group(input, group, weight, bias, eps)
    dtype = input.dtype if weight is None or bias is None else weight.dtype
    return F.silu(y).to(input.dtype), mean.to(dtype), rstd.to(dtype)


@reference("npu_group_norm_swish")
def npu_group_norm_swish(
    input: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float | None = 1e-5,
    swish_scale: float | None = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """``y * sigmoid(swish_scale * y)`` of the group norm y, and its statistics."""
    y, mean, rstd = _group(input, num_groups, weight, bias, 1e-5 if eps is None else eps)
    y = y * torch.sigmoid(y * (1.0 if swish_scale is None else swish_scale))
    return y.to(input.dtype), mean.to(input.dtype), rstd.to(input.dtype)


@reference("npu_group_norm_swish_grad")
def npu_group_norm_swish_grad(
    grad: Tensor,
    input: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    grad_input_mask: Sequence[bool],
    swish_scale: float | None = 1.0,
) -> tuple[Any, ...]:
    """Gradients of input, weight and bias, as far as the mask asks for them."""
    scale = 1.0 if swish_scale is None else swish_scale
    statistics = [widened(t).unsqueeze(2) for t in (mean, rstd)]
    rows = widened(input).reshape(input.size(0), num_groups, -1)
    normed = ((rows - statistics[0]) * statistics[1]).reshape(input.shape)
    shape = [1, -1] + [1] * (input.dim() - 2)
    gain = widened(weight).view(shape)
    y = normed * gain + widened(bias).view(shape)
    gate = torch.sigmoid(scale * y)
    dy = widened(grad) * gate * (1 + scale * y * (1 - gate))
    inner = (dy * gain).reshape(rows.shape)
    unit = normed.reshape(rows.shape)
    dx = inner - inner.mean(2, keepdim=True) - unit * (inner * unit).mean(2, keepdim=True)
    channels = [0, *range(2, input.dim())]
    found = (
        (dx * statistics[1]).reshape(input.shape).to(input.dtype),
        (dy * normed).sum(channels).to(weight.dtype),
        dy.sum(channels).to(bias.dtype),
    )
    return tuple(g if wanted else None for g, wanted in zip(found, grad_input_mask))

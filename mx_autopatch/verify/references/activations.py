"""Activations, resampling, losses and batch statistics, by torch's own or by their formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .sampling import pair

__all__ = [
    "bias_act",
    "filtered_lrelu",
    "filtered_lrelu_act",
    "fused_bias_leakyrelu",
    "sigmoid_focal_loss",
    "softmax_focal_loss",
    "sync_bn_backward_data",
    "sync_bn_backward_param",
    "sync_bn_mean",
    "sync_bn_output",
    "sync_bn_var",
    "upfirdn2d",
]

_SCALE = float(F.selu(torch.ones((), dtype=torch.float64)))

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": F.elu,
    # Of several at 0, the derivative of the positive side.
    "selu": lambda x: torch.where(x >= 0, x * _SCALE, F.selu(x)),
    "softplus": F.softplus,
    "swish": F.silu,
}


def _limited(value: Tensor, clamp: float | None) -> Tensor:
    """At the limit itself, too, there is no gradient."""
    if clamp is None:
        return value
    return torch.where(value.abs() >= clamp, value.detach().clamp(-clamp, clamp), value)


def bias_act(
    input: Tensor,
    bias: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float = 0.2,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """By torch's activations."""
    if bias is not None:
        input = input + bias.view([-1 if n == dim % input.dim() else 1 for n in range(input.dim())])
    value = F.leaky_relu(input, alpha) if act == "lrelu" else ACTIVATIONS[act](input)
    value = value * ((2**0.5 if act in ("relu", "lrelu", "swish") else 1) if gain is None else gain)
    return _limited(value, clamp)


def fused_bias_leakyrelu(
    input: Tensor, bias: Tensor, negative_slope: float = 0.2, scale: float = 2**0.5
) -> Tensor:
    """By torch's activation."""
    bias = bias.view(-1, *[1] * (input.dim() - 2))
    return F.leaky_relu(input + bias, negative_slope) * scale


def upfirdn2d(
    input: Tensor,
    filter: Tensor,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: Sequence[int] = (0, 0, 0, 0),
    flip: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Zeros in between and around, then a window for each pixel that is kept."""
    (uy, ux), (dy, dx), (top, bottom, left, right) = pair(up), pair(down), padding
    batch, channels, height, width = input.shape
    large = input.new_zeros(batch, channels, height * uy, width * ux)
    large[:, :, ::uy, ::ux] = input
    framed = F.pad(large, (left, right, top, bottom))  # what is negative is cut off
    kernel = filter if flip else filter.flip(0, 1)
    kh, kw = kernel.shape
    rows = [
        torch.stack(
            [
                (framed[:, :, y : y + kh, x : x + kw] * kernel).sum((2, 3))
                for x in range(0, framed.shape[3] - kw + 1, dx)
            ],
            -1,
        )
        for y in range(0, framed.shape[2] - kh + 1, dy)
    ]
    return torch.stack(rows, -2) * gain


def filtered_lrelu(
    input: Tensor,
    filter_up: Tensor,
    filter_down: Tensor,
    bias: Tensor,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    gain: float = 2**0.5,
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
) -> Tensor:
    """By its parts: up, the activation, down."""
    sides = [padding] * 4 if isinstance(padding, int) else list(padding)
    left, right, top, bottom = sides if len(sides) == 4 else [sides[k] for k in (0, 0, 1, 1)]
    filters = [f if f.dim() == 2 else f[:, None] * f for f in (filter_up, filter_down)]
    value = input + bias[:, None, None]
    value = upfirdn2d(value, filters[0], up, 1, (top, bottom, left, right), flip_filter, up**2)
    value = value * gain
    # At 0, and of NaN, the derivative is that of the positive side.
    value = _limited(torch.where(value < 0, value * slope, value), clamp)
    return upfirdn2d(value, filters[1], 1, down, flip=flip_filter)


def filtered_lrelu_act(
    input: Tensor, gain: float, slope: float, clamp: float
) -> tuple[Tensor, Tensor]:
    """The activation, and what became of each pixel: 1 negative, 2 limited, four to a byte."""
    value = input * gain
    value = torch.where(value < 0, value * slope, value)
    marks = torch.where(value.abs() > clamp, 2, (value < 0).int())
    marks = F.pad(marks, (0, -input.shape[3] % 16)).unflatten(3, (-1, 4))
    packed = sum(marks[..., k] * 4**k for k in range(4))
    return value.clamp(-clamp, clamp), torch.as_tensor(packed, dtype=torch.uint8)


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
) -> Tensor:
    """Equations 4 and 5 of the paper, and a weight for the class of each row."""
    classes = input.shape[1]
    positive = target[:, None] == torch.arange(classes)
    # The logarithms of p_t and of 1 - p_t, which a certain answer would lose.
    log = torch.where(positive, F.logsigmoid(input), F.logsigmoid(-input))
    other = torch.where(positive, F.logsigmoid(-input), F.logsigmoid(input))
    alpha_t = torch.where(positive, input.new_tensor(alpha), input.new_tensor(1 - alpha))
    loss = -alpha_t * (gamma * other).exp() * log
    if weight is None:
        return loss
    known = (target >= 0) & (target < classes)
    rows = torch.cat((weight, weight.new_ones(1)))[torch.where(known, target, classes)]
    return loss * rows[:, None]


def softmax_focal_loss(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
) -> Tensor:
    """Row by row, by log_softmax."""
    rows = []
    for logits, own in zip(input, target.tolist()):
        if not 0 <= own < len(logits):
            rows.append(logits.new_zeros(()))
            continue
        log = logits.log_softmax(0)[own]
        factor = alpha if weight is None else alpha * weight[own]
        rows.append(-factor * (1 - log.exp()) ** gamma * log)
    return torch.stack(rows) if rows else input.new_zeros(0)


def sync_bn_mean(input: Tensor) -> Tensor:
    return torch.stack([input[:, c].mean() for c in range(input.shape[1])])


def sync_bn_var(input: Tensor, mean: Tensor) -> Tensor:
    return torch.stack([(input[:, c] - mean[c]).square().mean() for c in range(input.shape[1])])


def sync_bn_output(
    input: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """By batch_norm with these statistics."""
    output = F.batch_norm(input, mean, var, weight, bias, False, 0.0, eps)
    return output, F.batch_norm(input, mean, var, eps=eps), (var + eps).sqrt()


def sync_bn_backward_param(grad_output: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
    channels = range(norm.shape[1])
    weight = torch.stack([(grad_output[:, c] * norm[:, c]).sum() for c in channels])
    return weight, torch.stack([grad_output[:, c].sum() for c in channels])


def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
) -> Tensor:
    """Of each channel what its parameters' gradients leave of the output's."""
    number = norm.numel() / norm.shape[1]
    channels = [
        (grad_output[:, c] - (grad_bias[c] + norm[:, c] * grad_weight[c]) / number)
        * weight[c]
        / std[c]
        for c in range(norm.shape[1])
    ]
    return torch.stack(channels, 1)

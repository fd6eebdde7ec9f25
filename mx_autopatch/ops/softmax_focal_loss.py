"""Softmax focal loss (Lin et al. 2017, "Focal Loss for Dense Object Detection").

Upstream: ``mmcv.ops.softmax_focal_loss`` (compiled for CUDA only), mmcv 1.3 - 2.2.

With p the probability of the row's class, the row costs ``-alpha (1 - p)^gamma log(p)``. The
logarithm comes from log_softmax and ``1 - p`` from it by expm1, so that no digit is lost
however small or close to 1 the probability is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._check import compute_dtype
from .focal_loss import check_focal

__all__ = ["softmax_focal_loss", "softmax_focal_loss_backward"]


def softmax_focal_loss(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
) -> Tensor:
    """Focal loss of each row, not reduced.

    Args:
        input: (N, C) floating logits.
        target: (N,) int64, the class of each row; outside [0, C) a row costs nothing.
        gamma: exponent that plays down easy examples.
        alpha: factor of the loss.
        weight: (C,) in the dtype of ``input``, factors of the classes, or None.

    Returns:
        (N,) in the dtype of ``input``. Half precision is calculated in float32 and rounded
        once. Differentiable once, in ``input`` only.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    weight = check_focal("softmax_focal_loss", input, target, weight)
    return softmax_focal_loss_op(input, target, weight, float(gamma), float(alpha))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
) -> Tensor:
    """Derivatives (N, C) of each row's loss by its logits; arguments and errors as there."""
    weight = check_focal("softmax_focal_loss_backward", input, target, weight)
    return softmax_focal_loss_backward_op(input, target, weight, float(gamma), float(alpha))


def _own(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each row's class, within range; whether it is the target; all log-probabilities."""
    classes = input.shape[1]
    known = (target >= 0) & (target < classes)
    logs = input.to(compute_dtype(input.dtype)).log_softmax(1)
    return target.clamp(0, classes - 1)[:, None], known[:, None], logs


def _factor(own: Tensor, weight: Tensor | None, alpha: float, dtype: torch.dtype) -> Tensor | float:
    return alpha if weight is None else weight[own].to(dtype) * alpha


_SCHEMA = "(Tensor input, Tensor target, Tensor? weight, float gamma, float alpha) -> Tensor"


@torch.library.custom_op("mx_autopatch::softmax_focal_loss", mutates_args=(), schema=_SCHEMA)
def softmax_focal_loss_op(
    input: Tensor, target: Tensor, weight: Tensor | None, gamma: float, alpha: float
) -> Tensor:
    if not input.numel():
        return input.new_zeros(input.shape[:1])
    own, known, logs = _own(input, target)
    log = logs.gather(1, own)
    loss = -(-log.expm1()).pow(gamma) * log * _factor(own, weight, alpha, log.dtype)
    # What costs nothing does so even where the loss is infinite.
    return loss.masked_fill_(~known, 0).to(input.dtype)[:, 0]


@torch.library.custom_op(
    "mx_autopatch::softmax_focal_loss_backward", mutates_args=(), schema=_SCHEMA
)
def softmax_focal_loss_backward_op(
    input: Tensor, target: Tensor, weight: Tensor | None, gamma: float, alpha: float
) -> Tensor:
    if not input.numel():
        return input.new_zeros(input.shape)
    own, known, logs = _own(input, target)
    log = logs.gather(1, own)
    rest = -log.expm1()
    # (1 - p)^(gamma - 1) p log(p), which tends to 0 as p to 1, and as p to 0.
    drawn = rest.pow(gamma - 1) * log.exp() * log
    drawn = torch.where((rest > 0) & log.isfinite(), drawn, 0)
    slope = (gamma * drawn - rest.pow(gamma)) * _factor(own, weight, alpha, log.dtype)
    grad = -logs.exp()
    grad.scatter_add_(1, own, torch.ones_like(log))
    return grad.mul_(slope).masked_fill_(~known, 0).to(input.dtype)


@softmax_focal_loss_op.register_fake
def _(input: Tensor, target: Tensor, weight: Tensor | None, gamma: float, alpha: float) -> Tensor:
    return input.new_empty(input.shape[:1])


@softmax_focal_loss_backward_op.register_fake
def _(input: Tensor, target: Tensor, weight: Tensor | None, gamma: float, alpha: float) -> Tensor:
    return input.new_empty(input.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, target, weight, ctx.gamma, ctx.alpha = inputs
    ctx.save_for_backward(input, target, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    slopes = softmax_focal_loss_backward_op(*ctx.saved_tensors, ctx.gamma, ctx.alpha)
    return slopes * grad[:, None], None, None, None, None


softmax_focal_loss_op.register_autograd(_backward, setup_context=_setup_context)

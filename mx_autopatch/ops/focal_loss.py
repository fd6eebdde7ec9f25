"""Sigmoid focal loss (Lin et al. 2017, "Focal Loss for Dense Object Detection").

Upstream: ``mmcv.ops.sigmoid_focal_loss`` (compiled for CUDA only), mmcv 1.3 - 2.2.

With ``s`` the sigmoid and ``f(x) = s(x)^gamma * softplus(x)``, a logit x costs
``(1 - alpha) f(x)`` for a class that the row does not have and ``alpha f(-x)`` for
the one that it has; ``f'(x) = s(x)^gamma * (gamma s(-x) softplus(x) + s(x))``.
In this form nothing overflows and no difference cancels, whatever the logit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ._check import check_same_device, check_tensor, compute_dtype

__all__ = ["sigmoid_focal_loss", "sigmoid_focal_loss_backward"]


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
) -> Tensor:
    """Focal loss of each logit, not reduced.

    Args:
        input: (N, C) floating logits.
        target: (N,) int64, the class of each row. C, or any value outside
            [0, C), is background: the row has none of the classes.
        gamma: exponent that plays down easy examples.
        alpha: share of the positive examples.
        weight: (C,) in the dtype of ``input``, or None. A row is multiplied by
            the weight of its class; background rows have no entry and count 1
            (the CUDA kernel reads beyond the end there).

    Returns:
        (N, C) in the dtype of ``input``. Half precision is calculated in float32
        and rounded once. Differentiable once, in ``input`` only. For |x| > 87 the
        CUDA kernel's logarithm saturates in float32; this one stays exact.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    weight = check_focal("sigmoid_focal_loss", input, target, weight)
    return focal_op(input, target, weight, float(gamma), float(alpha))


def sigmoid_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
) -> Tensor:
    """Derivative of each element of the loss by its logit; arguments and errors as there."""
    weight = check_focal("sigmoid_focal_loss_backward", input, target, weight)
    return focal_backward_op(input, target, weight, float(gamma), float(alpha))


def check_focal(op: str, input: Tensor, target: Tensor, weight: Tensor | None) -> Tensor | None:
    """Check the arguments of either focal loss; the weights, or None for none."""
    check_tensor(op, "input", input, ("N", "C"))
    check_tensor(op, "target", target, (input.shape[0],), torch.int64)
    if weight is not None and weight.numel() == 0:
        weight = None  # how mmcv passes "no weight"
    if weight is not None:
        check_tensor(op, "weight", weight, (input.shape[1],), input.dtype)
    check_same_device(op, input=input, target=target, weight=weight)
    return weight


def _value(x: Tensor, gamma: float) -> Tensor:
    return torch.sigmoid(x).pow_(gamma).mul_(logsigmoid(-x).neg_())


def _slope(x: Tensor, gamma: float) -> Tensor:
    p = torch.sigmoid(x)
    return logsigmoid(-x).mul_(torch.sigmoid(-x)).mul_(-gamma).add_(p).mul_(p.pow(gamma))


def _by_class(negative: Tensor, positive: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """Put ``positive`` (N, 1) into the column of each row's class, then weigh the rows."""
    classes = negative.shape[1]
    own = target[:, None]
    known = (own >= 0) & (own < classes)
    own = own.clamp(0, classes - 1)
    positive = torch.where(known, positive, negative.gather(1, own))
    result = negative.scatter_(1, own, positive)
    if weight is not None:
        result *= torch.where(known, weight[own].to(result.dtype), 1.0)
    return result


def _own_logit(x: Tensor, target: Tensor) -> Tensor:
    return x.gather(1, target.clamp(0, x.shape[1] - 1)[:, None])


_SCHEMA = "(Tensor input, Tensor target, Tensor? weight, float gamma, float alpha) -> Tensor"


@torch.library.custom_op("mx_autopatch::sigmoid_focal_loss", mutates_args=(), schema=_SCHEMA)
def focal_op(
    input: Tensor, target: Tensor, weight: Tensor | None, gamma: float, alpha: float
) -> Tensor:
    if not input.numel():
        return torch.empty_like(input)
    x = input.to(compute_dtype(input.dtype))
    negative = _value(x, gamma).mul_(1 - alpha)
    positive = _value(-_own_logit(x, target), gamma).mul_(alpha)
    return _by_class(negative, positive, target, weight).to(input.dtype)


@torch.library.custom_op(
    "mx_autopatch::sigmoid_focal_loss_backward", mutates_args=(), schema=_SCHEMA
)
def focal_backward_op(
    input: Tensor, target: Tensor, weight: Tensor | None, gamma: float, alpha: float
) -> Tensor:
    if not input.numel():
        return torch.empty_like(input)
    x = input.to(compute_dtype(input.dtype))
    negative = _slope(x, gamma).mul_(1 - alpha)
    positive = _slope(-_own_logit(x, target), gamma).mul_(-alpha)
    return _by_class(negative, positive, target, weight).to(input.dtype)


@focal_op.register_fake
@focal_backward_op.register_fake
def _fake(
    input: Tensor, target: Tensor, weight: Tensor | None, gamma: float, alpha: float
) -> Tensor:
    return torch.empty_like(input)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, target, weight, ctx.gamma, ctx.alpha = inputs
    ctx.save_for_backward(input, target, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    grad_input = focal_backward_op(*ctx.saved_tensors, ctx.gamma, ctx.alpha) * grad
    return grad_input, None, None, None, None


focal_op.register_autograd(_backward, setup_context=_setup_context)

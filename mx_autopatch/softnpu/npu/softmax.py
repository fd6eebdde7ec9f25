"""Softmax with scale and mask, and losses made of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import reference, unsupported, vjp, widened

__all__: list[str] = []

#: What a masked logit becomes; a row that is masked as a whole stays uniform.
MASKED = -10000.0


@reference("npu_scaled_masked_softmax")
def npu_scaled_masked_softmax(
    x: Tensor, mask: Tensor, scale: float = 1, fixed_triu_mask: bool = False
) -> Tensor:
    """``softmax((x * scale).masked_fill(mask, -10000))`` over the last dimension."""
    if fixed_triu_mask:
        mask = torch.ones_like(mask, dtype=torch.bool).triu(1)
    return F.softmax((widened(x) * scale).masked_fill(mask, MASKED), -1).to(x.dtype)


@reference("npu_scaled_masked_softmax_backward")
def npu_scaled_masked_softmax_backward(
    y_grad: Tensor, y: Tensor, mask: Tensor, scale: float, fixed_triu_mask: bool
) -> Tensor:
    if fixed_triu_mask:
        mask = torch.ones_like(mask, dtype=torch.bool).triu(1)
    given, p = widened(y_grad), widened(y)
    dx = p * (given - (given * p).sum(-1, keepdim=True)) * scale
    return dx.masked_fill(mask, 0.0).to(y_grad.dtype)


@reference("npu_masked_softmax_with_rel_pos_bias")
def npu_masked_softmax_with_rel_pos_bias(
    x: Tensor,
    atten_mask: Tensor | None,
    relative_pos_bias: Tensor,
    scale_value: float = 1.0,
    inner_precision_mode: int = 0,
) -> Tensor:
    """``softmax(x * scale_value + atten_mask + relative_pos_bias)``, as Swin has it.

    Args:
        x: ``(batch, windows, heads, S, S)``, or ``(batch * windows, heads, S, S)``.
        atten_mask: What is added for each window: ``(windows, S, S)``, or with ones before.
        relative_pos_bias: ``(heads, S, S)``, or with ones before.
    """
    wide = widened(x) * scale_value
    windows = wide if x.dim() == 5 else wide.unsqueeze(0)
    if atten_mask is not None:
        mask = widened(atten_mask).reshape(-1, 1, *x.shape[-2:])
        windows = wide.reshape(-1, mask.size(0), *x.shape[-3:]) + mask
    total = windows + widened(relative_pos_bias).reshape(x.shape[-3:])
    return F.softmax(total, -1).reshape(x.shape).to(x.dtype)


@reference("npu_softmax_cross_entropy_with_logits")
def npu_softmax_cross_entropy_with_logits(input: Tensor, labels: Tensor) -> Tensor:
    """``-sum(labels * log_softmax(input))`` of each row."""
    return -(widened(labels) * F.log_softmax(widened(input), -1)).sum(-1).to(input.dtype)


@reference("npu_softmax_cross_entropy_with_logits_backward")
def npu_softmax_cross_entropy_with_logits_backward(
    grad: Tensor, input: Tensor, labels: Tensor
) -> Tensor:
    """``(softmax(input) - labels) * grad``, which takes it that labels sum to one."""
    slope = F.softmax(widened(input), -1) - widened(labels)
    return (slope * widened(grad).unsqueeze(-1)).to(input.dtype)


def _cross_entropy(
    log_prob: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> Tensor:
    """As torch's, from log probabilities, except that a mean or sum has shape ``(1,)``."""
    classes = log_prob.size(1)
    w = log_prob.new_ones(classes) if weight is None else weight.to(log_prob.dtype)
    # A negative index ignores nothing that could occur.
    kept = target != ignore_index
    index = target.clamp(0, classes - 1)
    each = torch.where(kept, w[index], w.new_zeros(()))
    loss = -each * log_prob.gather(1, index.unsqueeze(1)).squeeze(1)
    smooth = -torch.where(kept, (log_prob * w).sum(1), w.new_zeros(()))
    if reduction == "none":
        return (1 - label_smoothing) * loss + label_smoothing / classes * smooth
    total = (1 - label_smoothing) * loss.sum() + label_smoothing / classes * smooth.sum()
    if reduction == "mean":
        total = total / each.sum()
    return total.reshape(1)


def _no_zloss(lse_square_scale_for_zloss: float, return_zloss: bool) -> None:
    # torch_npu's documentation says of both that they are not supported yet.
    if lse_square_scale_for_zloss or return_zloss:
        unsupported("npu_cross_entropy_loss", "zloss")


@reference("npu_cross_entropy_loss")
def npu_cross_entropy_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    lse_square_scale_for_zloss: float = 0.0,
    return_zloss: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss, the log probabilities, and the two results for zloss, which are zeros."""
    _no_zloss(lse_square_scale_for_zloss, return_zloss)
    log_prob = F.log_softmax(widened(input), 1)
    loss = _cross_entropy(log_prob, target, weight, reduction, ignore_index, label_smoothing)
    loss = loss.to(input.dtype)
    return loss, log_prob.to(input.dtype), torch.zeros_like(loss), input.new_zeros(len(input))


@reference("npu_cross_entropy_loss_backward")
def npu_cross_entropy_loss_backward(
    grad_loss: Tensor,
    log_prob: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    grad_zloss: Tensor | None = None,
    lse_for_zloss: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    lse_square_scale_for_zloss: float = 0.0,
) -> Tensor:
    """The gradient of the logits, from the log probabilities."""
    _no_zloss(lse_square_scale_for_zloss, False)

    def forward(logits: Tensor) -> Tensor:
        # Log probabilities are logits too: their own log softmax is themselves.
        parts = F.log_softmax(logits, 1)
        return _cross_entropy(parts, target, weight, reduction, ignore_index, label_smoothing)

    gradient = vjp(forward, [widened(log_prob)], [grad_loss])[0]
    assert gradient is not None
    return gradient.to(log_prob.dtype)

"""Fused optimizer steps, and torch_npu's checks of gradients for silent faults."""

from __future__ import annotations

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import reference, unsupported

__all__: list[str] = []

_State = tuple[Tensor, Tensor, Tensor]


def _moments(grad: Tensor, m: Tensor, v: Tensor, beta1: float, beta2: float) -> None:
    m.mul_(beta1).add_(grad, alpha=1 - beta1)
    v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)


@reference("npu_apply_adam.out")
def npu_apply_adam(
    beta1_power: float,
    beta2_power: float,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    grad: Tensor,
    use_locking: bool | None,
    use_nesterov: bool | None,
    *,
    out: list[Tensor],
) -> _State:
    """One step of Adam, in place: ``out`` are the variable and its two moments.

    Args:
        beta1_power: ``beta1`` to the power of this step's number, from 1; so ``beta2_power``.
    """
    var, m, v = out
    _moments(grad, m, v, beta1, beta2)
    # In a tensor, since a power of one divides by zero: infinity, or nan, but no exception.
    rate = torch.tensor(lr * (1 - beta2_power) ** 0.5, dtype=torch.float64) / (1 - beta1_power)
    direction = m * beta1 + grad * (1 - beta1) if use_nesterov else m
    var.sub_(direction * rate.item() / (v.sqrt() + epsilon))
    return var, m, v


@reference("npu_apply_adam_w.out")
def npu_apply_adam_w(
    beta1_power: float,
    beta2_power: float,
    lr: float,
    weight_decay: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    grad: Tensor,
    max_grad_norm: Tensor | None,
    amsgrad: bool | None,
    maximize: bool | None,
    *,
    out: list[Tensor],
) -> _State:
    """One step of AdamW, in place: ``out`` are the variable and its two moments.

    Args:
        beta1_power: ``beta1`` to the power of the step before, so 1 at first; the operator
            multiplies it once more. So for ``beta2_power``.
        amsgrad: Not supported by the operator of the hardware either.
    """
    if amsgrad:
        unsupported("npu_apply_adam_w", "amsgrad=True")
    var, m, v = out
    _moments(-grad if maximize else grad, m, v, beta1, beta2)
    var.mul_(1 - lr * weight_decay)
    denominator = (v / (1 - beta2_power * beta2)).sqrt() + epsilon
    var.sub_(m * (lr / (1 - beta1_power * beta1)) / denominator)
    return var, m, v


@reference("npu_bert_apply_adam.out")
def npu_bert_apply_adam(
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    grad: Tensor,
    max_grad_norm: float,
    global_grad_norm: float,
    weight_decay: float,
    step_size: float | None = None,
    adam_mode: int = 0,
    *,
    out: list[Tensor],
) -> _State:
    """One step of BERT's Adam, which has no correction of bias; in place.

    Args:
        max_grad_norm: Gradients are scaled by ``max_grad_norm / global_grad_norm`` where that
            is less than one; not if it is not positive, and not in the second mode.
        step_size: What takes the place of ``lr`` in the second mode, except for the decay of
            weights; ``lr`` if not given.
        adam_mode: 0 for Adam, 1 for that of mBART.
    """
    var, m, v = out
    if not adam_mode and max_grad_norm > 0 and global_grad_norm > max_grad_norm:
        grad = grad * (max_grad_norm / global_grad_norm)
    _moments(grad, m, v, beta1, beta2)
    rate = lr if not adam_mode or step_size is None else step_size
    var.sub_(m / (v.sqrt() + epsilon) * rate + var * (weight_decay * lr))
    return var, m, v


# The checks compare gradients with statistics of steps before, to find what a broken chip
# computes without saying so. Memory of the host has none of that: nothing is ever found, and
# the statistics, which nobody else reads, stay as they are.


@reference("_npu_silent_check")
def _npu_silent_check(
    input_grad: Tensor,
    val: Tensor,
    pre_val: Tensor,
    min_val: Tensor,
    max_val: Tensor,
    val_counter: Tensor,
    c_min_steps: int,
    c_thresh_l1: float,
    c_coeff_l1: float,
    c_thresh_l2: float,
    c_coeff_l2: float,
) -> Tensor:
    """Zeros, int32: no fault."""
    return torch.zeros_like(val_counter, dtype=torch.int32)


@reference("_npu_silent_check_v2")
def _npu_silent_check_v2(
    val: Tensor,
    input_grad: Tensor,
    sfda: Tensor,
    step: Tensor,
    c_min_steps: int,
    c_thresh_l1: float,
    c_coeff_l1: float,
    c_thresh_l2: float,
    c_coeff_l2: float,
    npu_asd_detect: int,
) -> Tensor:
    """Zeros, int32: no fault."""
    step.add_(1)
    return torch.zeros_like(step, dtype=torch.int32)


@reference("_npu_silent_check_v3")
def _npu_silent_check_v3(
    val: Tensor,
    input_grad: Tensor,
    step: Tensor,
    max: Tensor,
    avg: Tensor,
    c_thresh_l1: float,
    c_thresh_l2: float,
    betal: float,
    npu_asd_detect: int,
) -> Tensor:
    """Zeros, int32: no fault."""
    step.add_(1)
    return torch.zeros_like(step, dtype=torch.int32)

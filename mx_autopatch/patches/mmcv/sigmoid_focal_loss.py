"""Sigmoid focal loss on NPUs.

Why: mmcv's extension has no kernel for NPUs unless it was compiled for them, and torch_npu
     offers none.
How: for tensors of the device npu, mx_autopatch.ops.sigmoid_focal_loss, a dozen elementwise
     operators. For other tensors mmcv's own code runs.
Upstream: mmcv/ops/focal_loss.py, mmcv 1.3 - 2.2.
Remove when: mmcv ships an extension for NPUs.
"""

from typing import TYPE_CHECKING, Any, Optional

from mx_autopatch.model import Patch
from mx_autopatch.patches.functions import computed_on_npu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def _operands(
    input: "Tensor",
    target: "Tensor",
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: "Optional[Tensor]" = None,
    reduction: str = "mean",
) -> "tuple[tuple[Any, ...], str]":
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(
            f"sigmoid_focal_loss: reduction: expected 'none', 'mean' or 'sum', got {reduction!r}"
        )
    weight = None if weight is None else weight.type_as(input)
    return (input, target, gamma, alpha, weight), reduction


def sigmoid_focal_loss(*args: Any) -> "Tensor":
    from mx_autopatch.ops import sigmoid_focal_loss as op

    given, reduction = _operands(*args)
    loss = op(*given)
    if reduction == "none":
        return loss
    return loss.sum() / loss.shape[0] if reduction == "mean" else loss.sum()


def gradients(needed: "Sequence[bool]", grad: "Tensor", *args: Any) -> "tuple[Tensor]":
    from mx_autopatch.ops.focal_loss import sigmoid_focal_loss_backward

    given, reduction = _operands(*args)
    slope = sigmoid_focal_loss_backward(*given) * grad
    return (slope / slope.shape[0] if reduction == "mean" else slope,)


PATCHES = (
    Patch(
        name="mmcv.sigmoid_focal_loss",
        edits=computed_on_npu(
            "mmcv.ops.focal_loss:SigmoidFocalLossFunction.", sigmoid_focal_loss, gradients
        ),
        requires=("module:torch", "device:npu"),
    ),
)

"""Sigmoid focal loss on NPUs.

Why: mmcv's extension has no kernel for NPUs unless it was compiled for them, and torch_npu
     offers none.
How: for tensors of the device npu, mx_autopatch.ops.sigmoid_focal_loss, a dozen elementwise
     operators. For other tensors mmcv's own code runs.
Upstream: mmcv/ops/focal_loss.py, mmcv 1.3 - 2.2.
Remove when: mmcv ships an extension for NPUs.
"""

from typing import TYPE_CHECKING, Any, Optional

from mx_autopatch.model import Patch, Replace

if TYPE_CHECKING:
    from torch import Tensor


def sigmoid_focal_loss(
    input: "Tensor",
    target: "Tensor",
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: "Optional[Tensor]" = None,
    reduction: str = "mean",
) -> "Tensor":
    from mx_autopatch.ops import sigmoid_focal_loss as op

    loss = op(input, target, gamma, alpha, None if weight is None else weight.type_as(input))
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction != "mean":
        raise ValueError(
            f"sigmoid_focal_loss: reduction: expected 'none', 'mean' or 'sum', got {reduction!r}"
        )
    return loss.sum() / input.shape[0]


def _apply(cls: type, *args: Any, **kwargs: Any) -> "Tensor":
    return sigmoid_focal_loss(*args, **kwargs)


def _on_npu(input: "Tensor", *args: Any, **kwargs: Any) -> bool:
    return input.device.type == "npu"


def _applied_on_npu(cls: type, *args: Any, **kwargs: Any) -> bool:
    return _on_npu(*args, **kwargs)


_MODULE = "mmcv.ops.focal_loss"

PATCHES = (
    Patch(
        name="mmcv.sigmoid_focal_loss",
        edits=(
            Replace(f"{_MODULE}:sigmoid_focal_loss", sigmoid_focal_loss, guard=_on_npu),
            Replace(f"{_MODULE}:SigmoidFocalLossFunction.apply", _apply, guard=_applied_on_npu),
        ),
        requires=("module:torch", "device:npu"),
    ),
)

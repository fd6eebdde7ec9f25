"""Gradients clipped by the optimizer that holds them, where it has a fused way to do it.

torch_npu's fused optimizers keep all gradients in one tensor, and have
``clip_grad_norm_fused_(max_norm, norm_type=2)``: one norm over that, in place of one for
each parameter. Whatever optimizer has such a method is taken at its word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["clip_fused"]

_OPTIONS = {"max_norm", "norm_type"}


def clip_fused(
    optimizer: Any, parameters: Iterable[Tensor], options: Mapping[str, Any]
) -> Tensor | None:
    """Clip by ``optimizer`` what ``torch.nn.utils.clip_grad_norm_(parameters, **options)`` would.

    Returns:
        The norm before clipping; None, and nothing is done, where the optimizer has no
        method for it, has other parameters with gradients than these, or there is an
        option that its method does not take.
    """
    clip = getattr(optimizer, "clip_grad_norm_fused_", None)
    if clip is None or not options.keys() <= _OPTIONS:
        return None
    held = {id(p) for group in optimizer.param_groups for p in group["params"] if _has_grad(p)}
    if not held or held != {id(p) for p in parameters if _has_grad(p)}:
        return None
    norm: Tensor = clip(**options)
    return norm


def _has_grad(parameter: Tensor) -> bool:
    return parameter.requires_grad and parameter.grad is not None

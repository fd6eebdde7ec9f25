"""What operators without a derivative tell autograd."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["no_gradient"]


def no_gradient(op: Any) -> None:
    """Mark all outputs of ``op`` as not differentiable, as upstream's are.

    Without this, an output of a tensor that requires a gradient would require one too.
    """

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.inputs = len(inputs)
        outputs = (output,) if isinstance(output, Tensor) else output
        ctx.mark_non_differentiable(*outputs)

    def backward(ctx: Any, *grads: Any) -> tuple[None, ...]:
        return (None,) * ctx.inputs

    op.register_autograd(backward, setup_context=setup_context)

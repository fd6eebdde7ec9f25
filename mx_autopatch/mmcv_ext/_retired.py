"""What only older releases asked for: corner pooling (until mmcv 1.5.2) and criss-cross
attention (until 1.3.12), in their calling convention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "bottom_pool_backward",
    "bottom_pool_forward",
    "ca_backward",
    "ca_forward",
    "ca_map_backward",
    "ca_map_forward",
    "left_pool_backward",
    "left_pool_forward",
    "right_pool_backward",
    "right_pool_forward",
    "top_pool_backward",
    "top_pool_forward",
]


def _pool(input: Tensor, direction: str) -> Tensor:
    from mx_autopatch.ops.corner_pool import corner_pool

    return corner_pool(input, direction)


def _pool_backward(input: Tensor, grad_output: Tensor, direction: str) -> Tensor:
    from mx_autopatch.ops.corner_pool import corner_pool_backward

    return corner_pool_backward(grad_output, input, direction)


def top_pool_forward(input: Tensor) -> Tensor:
    return _pool(input, "top")


def top_pool_backward(input: Tensor, grad_output: Tensor) -> Tensor:
    return _pool_backward(input, grad_output, "top")


def bottom_pool_forward(input: Tensor) -> Tensor:
    return _pool(input, "bottom")


def bottom_pool_backward(input: Tensor, grad_output: Tensor) -> Tensor:
    return _pool_backward(input, grad_output, "bottom")


def left_pool_forward(input: Tensor) -> Tensor:
    return _pool(input, "left")


def left_pool_backward(input: Tensor, grad_output: Tensor) -> Tensor:
    return _pool_backward(input, grad_output, "left")


def right_pool_forward(input: Tensor) -> Tensor:
    return _pool(input, "right")


def right_pool_backward(input: Tensor, grad_output: Tensor) -> Tensor:
    return _pool_backward(input, grad_output, "right")


def ca_forward(t: Tensor, f: Tensor, weight: Tensor) -> None:
    """Add the affinities to ``weight``."""
    from mx_autopatch.ops.criss_cross import criss_cross_affinity

    weight.add_(criss_cross_affinity(t, f))


def ca_backward(dw: Tensor, t: Tensor, f: Tensor, dt: Tensor, df: Tensor) -> None:
    """Add the gradients to ``dt`` and ``df``."""
    from mx_autopatch.ops.criss_cross import criss_cross_map, transposed_affinity

    dw = dw.to(t.dtype)  # which mmcv has in float32
    dt.add_(criss_cross_map(dw, f))
    df.add_(criss_cross_map(transposed_affinity(dw), t))


def ca_map_forward(weight: Tensor, g: Tensor, out: Tensor) -> None:
    """Add the sums to ``out``."""
    from mx_autopatch.ops.criss_cross import criss_cross_map

    out.add_(criss_cross_map(weight.to(g.dtype), g))


def ca_map_backward(dout: Tensor, weight: Tensor, g: Tensor, dw: Tensor, dg: Tensor) -> None:
    """Add the gradients to ``dw`` and ``dg``."""
    from mx_autopatch.ops.criss_cross import (
        criss_cross_affinity,
        criss_cross_map,
        transposed_affinity,
    )

    dw.add_(criss_cross_affinity(dout, g))
    dg.add_(criss_cross_map(transposed_affinity(weight.to(g.dtype)), dout))

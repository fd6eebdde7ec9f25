"""How an index is brought to the shape of what it sorts."""

from __future__ import annotations

from torch import Tensor

from ._groups import dimension, spread

__all__ = ["broadcast"]


def broadcast(src: Tensor, other: Tensor, dim: int) -> Tensor:
    """``src`` in the shape of ``other``: one-dimensional along ``dim``, else from the left."""
    return spread(src, other, dimension("broadcast", dim, other), "broadcast", "src")

"""What an attention is besides its tensors, and the checks of arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Form", "check_heads", "check_shape", "check_tensors", "make_form"]


class Form(NamedTuple):
    """Scale, window, bias and dropout.

    Query i sits at key ``i + keys - queries``: the last query at the last key. With
    ``upper_left`` it sits at key i, as before flash-attn 2.1.
    """

    function: str
    scale: float
    #: How many keys before and after its own a query sees; None for all.
    left: int | None = None
    right: int | None = None
    softcap: float = 0.0
    #: float32 (heads,) or (batch, heads): ALiBi's slopes.
    slopes: Tensor | None = None
    dropout: float = 0.0
    upper_left: bool = False

    def shift(self, queries: Any, keys: Any) -> Any:
        """The key at which query 0 sits."""
        return keys * 0 if self.upper_left else keys - queries

    def within(self, queries: int, keys: int) -> Form:
        """The same without the limits that hide nothing in a sequence of these lengths."""
        shift = self.shift(queries, keys)
        left, right = self.left, self.right
        if left is not None and left >= queries - 1 + shift:
            left = None
        if right is not None and right >= keys - 1 - shift:
            right = None
        return self._replace(left=left, right=right)

    def blind(self, queries: int, keys: int) -> int:
        """How many queries, the first ones, see no key at all."""
        if keys == 0:
            return queries
        if self.right is None:
            return 0
        return int(min(queries, max(0, -self.shift(queries, keys) - self.right)))


def make_form(
    function: str,
    q: Tensor,
    *,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    batch: int | None = None,
    upper_left: bool = False,
) -> Form:
    """The form that the arguments of a public function ask for.

    Args:
        q: The query, (..., heads, width).
        batch: Number of sequences, if it is not the first dimension of ``q``.
    """
    if not 0 <= dropout_p < 1:
        raise ValueError(f"{function}: dropout_p: expected a number in [0, 1), got {dropout_p}")
    sizes = tuple(window_size)
    if len(sizes) != 2:
        raise ValueError(f"{function}: window_size: expected (left, right), got {window_size}")
    left, right = (None if size < 0 else int(size) for size in sizes)
    if causal:
        right = 0
    if alibi_slopes is not None:
        heads = q.size(-2)
        allowed = [(heads,), (q.size(0) if batch is None else batch, heads)]
        if not isinstance(alibi_slopes, Tensor) or tuple(alibi_slopes.shape) not in allowed:
            got = getattr(alibi_slopes, "shape", alibi_slopes)
            raise ValueError(
                f"{function}: alibi_slopes: expected shape {allowed[0]} or {allowed[1]}, got {got}"
            )
        alibi_slopes = alibi_slopes.to(q.device).view(-1, heads, 1, 1)
    scale = q.size(-1) ** -0.5 if softmax_scale is None else float(softmax_scale)
    cap = max(float(softcap), 0.0)
    slopes = alibi_slopes
    return Form(function, scale, left, right, cap, slopes, float(dropout_p), upper_left)


def check_tensors(function: str, rank: int, **tensors: Any) -> None:
    """Raise unless all are floating tensors of that rank, alike in dtype and device."""
    (first, reference), *_ = tensors.items()
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise TypeError(f"{function}: {name}: expected a torch.Tensor, got {kind}")
        if not tensor.is_floating_point():
            raise TypeError(f"{function}: {name}: expected a floating dtype, got {tensor.dtype}")
        if tensor.dim() != rank:
            raise ValueError(
                f"{function}: {name}: expected {rank} dimensions, got shape {tuple(tensor.shape)}"
            )
        if tensor.dtype != reference.dtype:
            raise TypeError(
                f"{function}: {name}: expected {reference.dtype} as {first}, got {tensor.dtype}"
            )
        if tensor.device != reference.device:
            raise ValueError(
                f"{function}: {name}: expected device {reference.device} as {first}, "
                f"got {tensor.device}"
            )


def check_shape(function: str, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{function}: {name}: expected shape {shape}, got {tuple(tensor.shape)}")


def check_heads(function: str, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raise unless (..., heads, width) of the three go together."""
    check_shape(function, "v", v, tuple(k.shape))
    heads, width = q.shape[-2:]
    key_heads, key_width = k.shape[-2:]
    if key_width != width:
        raise ValueError(f"{function}: k: expected width {width} as q, got {key_width}")
    if key_heads == 0 or heads % key_heads:
        raise ValueError(
            f"{function}: k: expected a number of heads that divides the {heads} of q, "
            f"got {key_heads}"
        )


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype for what is not left to a fused kernel."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype

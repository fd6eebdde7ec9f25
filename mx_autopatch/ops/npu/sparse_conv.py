"""Whole layers of sparse convolution in 3D by mx_driving; torch_npu has no operator for it.

mx_driving's layers find the pairs of inputs and outputs themselves, and keep them in a form
of their own. So they are no kernel under ``indice_conv``, which is given pairs, but functions
beside it. Each returns None where mx_driving is not installed or does not cover the call.

Of its documented layers SparseInverseConv3d is left out: the documentation has its weights
as (..., out, in), its code as (..., in, out).
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from .._check import compute_dtype
from ._mx_driving import mx_driving

__all__ = ["sparse_conv3d", "subm_conv3d"]

# The first is documented, the others are in its code: channels, and cells that it numbers in
# int32, sorting the numbers as if they were float32, of which the last are NaN.
_MOST_KERNEL = 3
_MULTIPLE, _MOST_CHANNELS = 16, 1024
_MOST_CELLS, _MOST_SORTED_CELLS = 2**31, 0x7F800000

_KEY = "pairs"


def subm_conv3d(
    features: Tensor,
    indices: Tensor,
    weight: Tensor,
    spatial_shape: Sequence[int],
    batch_size: int,
    pairs: Tensor | None = None,
) -> tuple[Tensor, Tensor] | None:
    """Submanifold convolution without bias, stride and dilation 1.

    Args:
        features: (N, C) floating, one row an active cell.
        indices: (N, 4) int32, batch and cell, no two alike.
        weight: (k, k, k, C, O) in the dtype of ``features``.
        pairs: what an earlier call with the same indices and kernel has returned.

    Returns:
        (N, O), differentiable in features and weight; and ``pairs``.
    """
    padded = [size + kernel - 1 for size, kernel in zip(spatial_shape, weight.shape)]
    covered = (
        mx_driving("SubMConv3d") is not None
        and _covered(features, indices, weight)
        and tuple(weight.shape[:3]) == (_MOST_KERNEL,) * 3
        and batch_size * math.prod(padded) < _MOST_CELLS
    )
    if not covered:
        return None
    known = {} if pairs is None else {_KEY: pairs}
    layer = _layer("SubMConv3d", tuple(weight.shape), (1, 1, 1), (0, 0, 0))
    output, known = _call(layer, features, indices, weight, spatial_shape, batch_size, known)
    return output.features.to(features.dtype), known[_KEY]


def sparse_conv3d(
    features: Tensor,
    indices: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    spatial_shape: Sequence[int],
    batch_size: int,
) -> tuple[Tensor, Tensor] | None:
    """Convolution without bias, dilation 1; arguments as of ``subm_conv3d``.

    Returns:
        (M, O), differentiable in features and weight; and (M, 4) int32, batch and cell of
        each output, in lexicographic order.
    """
    kernel, channels = tuple(weight.shape[:3]), weight.shape[3:]
    out_shape = [
        (size + 2 * p - k) // s + 1 for size, p, k, s in zip(spatial_shape, padding, kernel, stride)
    ]
    covered = (
        mx_driving("SparseConv3d") is not None
        and _covered(features, indices, weight)
        and max(kernel) <= _MOST_KERNEL
        and all(c % _MULTIPLE == 0 and c <= _MOST_CHANNELS for c in channels)
        and min(out_shape) > 0
        and batch_size * math.prod(out_shape) < _MOST_SORTED_CELLS
        and _any_output(indices, kernel, stride, padding, out_shape)
    )
    if not covered:
        return None
    layer = _layer("SparseConv3d", tuple(weight.shape), tuple(stride), tuple(padding))
    output, _ = _call(layer, features, indices, weight, spatial_shape, batch_size, {})
    return output.features.to(features.dtype), output.indices


def _covered(features: Tensor, indices: Tensor, weight: Tensor) -> bool:
    return (
        features.device.type == "npu"
        and indices.dtype == torch.int32
        and features.dtype == weight.dtype
        and compute_dtype(features.dtype) == torch.float32
        and weight.dim() == 5
        and min(features.numel(), weight.numel()) > 0
    )


def _any_output(
    indices: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    out_shape: Sequence[int],
) -> bool:
    """Whether any input meets an output: for none it raises."""
    k, s, p, size = (indices.new_tensor(list(v)) for v in (kernel, stride, padding, out_shape))
    last = indices[:, 1:] + p
    first = (last - k).div(s, rounding_mode="floor") + 1
    last = last.div(s, rounding_mode="floor")
    meets = first.clamp(min=0) <= torch.minimum(last, size - 1)
    return bool(meets.all(1).any())


def _layer(
    name: str, shape: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> Any:
    return _made(mx_driving(name), shape, stride, padding, threading.get_ident())


@functools.lru_cache(maxsize=256)
def _made(
    kind: Any, shape: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], _: int
) -> Any:
    """A layer to be called with the weights of others; one a thread, since they are put in."""
    sizes = list(shape[:3]), list(stride), list(padding)
    with torch.random.fork_rng(devices=[]):  # it draws weights
        layer = kind(*shape[3:], *sizes, bias=False, indice_key=_KEY)
    return layer.to("meta")


def _call(
    layer: Any,
    features: Tensor,
    indices: Tensor,
    weight: Tensor,
    spatial_shape: Sequence[int],
    batch_size: int,
    known: dict[str, Any],
) -> tuple[Any, dict[str, Any]]:
    """The layer's result, and what is known of pairs after it."""
    make: Any = mx_driving("SparseConvTensor")
    # Half precision in float32, as everywhere: rounded once.
    shape = [int(size) for size in spatial_shape]
    scene = make(features.float().contiguous(), indices.contiguous(), shape, batch_size)
    scene.indice_dict = known
    return functional_call(layer, {"weight": weight.float()}, (scene,)), known

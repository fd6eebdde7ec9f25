"""Which inputs of a sparse convolution meet which outputs, under which kernel element.

Upstream: the ``get_indice_pairs`` functions behind ``mmcv.ops.SparseConv2d`` and its kin
(spconv 1, CUDA only), mmcv 1.5 - 2.2. Sorted cell numbers take the place of upstream's
table of all cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ._autograd import no_gradient
from ._check import check_tensor

__all__ = ["get_indice_pairs"]


def get_indice_pairs(
    indices: Tensor,
    batch_size: int,
    out_shape: Sequence[int],
    ksize: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    subm: bool = False,
    transpose: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of active inputs and outputs.

    Args:
        indices: (N, D + 1) int32, batch and cell of each active input, no two alike.
        batch_size: of the batch.
        out_shape: D sizes of the output.
        ksize, stride, padding, dilation: of the convolution, D each.
        subm: a submanifold convolution: outputs are active where inputs are, stride
            is 1, and the kernel lies with its centre on the output (so does a dilated
            one, other than upstream's, which is shifted).
        transpose: a transposed convolution.

    Returns:
        outids (M, D + 1) int32, batch and cell of each active output, in lexicographic
        order (submanifold: those of the inputs, in theirs); pairs (K, 2, N) int32, of
        each kernel element, the last dimension running fastest, the inputs and the
        outputs that meet under it, -1 after the last; and how many (K,) int32. Not
        differentiable.

    M depends on the values; for ``torch.compile`` see ``nms``.

    Raises:
        TypeError: ``indices`` is no tensor or not int32.
        ValueError: wrong shape, or sizes that are too few or too small.
    """
    op = "get_indice_pairs"
    check_tensor(op, "indices", indices, ("N", "D + 1"), torch.int32)
    dims = indices.shape[1] - 1
    options = {
        "out_shape": (out_shape, 0),
        "ksize": (ksize, 1),
        "stride": (stride, 1),
        "padding": (padding, 0),
        "dilation": (dilation, 1),
    }
    for name, (sizes, least) in options.items():
        if len(sizes) != dims or min(sizes, default=least) < least:
            raise ValueError(f"{op}: {name}: expected {dims} sizes >= {least}, got {list(sizes)}")
    lists = [list(sizes) for sizes, _ in options.values()]
    return get_indice_pairs_op(indices, batch_size, *lists, subm, transpose)


def _meetings(
    indices: Tensor,
    out_shape: list[int],
    ksize: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transpose: bool,
) -> tuple[Tensor, Tensor]:
    """Number of the output cell (K, N) that each input meets, and whether there is one."""
    # An axis at a time: few combinations of kernel elements and inputs.
    cell = indices[:, 0].long()
    valid = torch.ones_like(cell, dtype=torch.bool)
    cell, valid = cell[None], valid[None]
    for d, size in enumerate(out_shape):
        at = indices[:, d + 1].long()
        element = torch.arange(ksize[d], device=at.device)[:, None] * dilation[d]
        if transpose:
            out = at * stride[d] - padding[d] + element
            hits = (out >= 0) & (out < size)
        else:
            out = at + padding[d] - element
            hits = (out >= 0) & (out < size * stride[d]) & (out % stride[d] == 0)
            out = out.div(stride[d], rounding_mode="floor")
        cell = (cell[:, None] * size + out[None]).flatten(0, 1)
        valid = (valid[:, None] & hits[None]).flatten(0, 1)
    return cell, valid


@torch.library.custom_op(
    "mx_autopatch::get_indice_pairs",
    mutates_args=(),
    schema="(Tensor indices, int batch_size, int[] out_shape, int[] ksize, int[] stride, "
    "int[] padding, int[] dilation, bool subm, bool transpose) -> (Tensor, Tensor, Tensor)",
)
def get_indice_pairs_op(
    indices: Tensor,
    batch_size: int,
    out_shape: list[int],
    ksize: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    subm: bool,
    transpose: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if subm:
        stride = [1] * len(ksize)
        padding = [k // 2 * d for k, d in zip(ksize, dilation)]
        transpose = False
    cell, valid = _meetings(indices, out_shape, ksize, stride, padding, dilation, transpose)
    if subm:
        outids = indices.clone()
        known, order = _numbers(indices, out_shape).sort()
        place = torch.searchsorted(known, cell).clamp_(max=max(len(known) - 1, 0))
        if len(known):
            valid = valid & (known[place] == cell)
            place = order[place]
        element, source = valid.nonzero(as_tuple=True)
        target = place[element, source]
    else:
        element, source = valid.nonzero(as_tuple=True)
        known, target = cell[element, source].unique(return_inverse=True)
        outids = _cells(known, out_shape)
    count = valid.sum(1)
    place = torch.arange(len(element), device=element.device) - (count.cumsum(0) - count)[element]
    pairs = indices.new_full((len(valid), 2, len(indices)), -1)
    pairs[element, 0, place] = source.int()
    pairs[element, 1, place] = target.int()
    return outids, pairs, count.int()


def _numbers(indices: Tensor, shape: list[int]) -> Tensor:
    """(N,) int64, of batches and cells (N, D + 1)."""
    number = indices[:, 0].long()
    for d, size in enumerate(shape):
        number = number * size + indices[:, d + 1]
    return number


def _cells(number: Tensor, shape: list[int]) -> Tensor:
    """The inverse of _numbers, int32."""
    columns = []
    for size in reversed(shape):
        columns.append(number % max(size, 1))
        number = number.div(max(size, 1), rounding_mode="floor")
    return torch.stack([number, *reversed(columns)], 1).int()


@get_indice_pairs_op.register_fake
def _(
    indices: Tensor,
    batch_size: int,
    out_shape: list[int],
    ksize: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    subm: bool,
    transpose: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    elements = prod(ksize)
    active = indices.shape[0] if subm else torch.library.get_ctx().new_dynamic_size()
    return (
        indices.new_empty((active, indices.shape[1])),
        indices.new_empty((elements, 2, indices.shape[0])),
        indices.new_empty((elements,)),
    )


no_gradient(get_indice_pairs_op)

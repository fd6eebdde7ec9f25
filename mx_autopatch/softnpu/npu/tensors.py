"""Operators that move elements: views made real, slices, padding, packing.

Memory formats of the hardware (NZ, NC1HWC0, ...) do not exist on the soft NPU: everything
stays ND, whose number ``get_npu_format`` goes on to report.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import reference, unsupported

__all__: list[str] = []

#: What one unit of channels is on the hardware: StrideAdd counts in these.
_C0 = 16


@reference("npu_transpose", "npu_transpose.out")
def npu_transpose(input: Tensor, perm: Sequence[int], require_contiguous: bool = True) -> Tensor:
    """``input.permute(*perm)`` as a tensor of its own."""
    return input.permute(*perm).contiguous()


@reference("npu_reshape", "npu_reshape.out")
def npu_reshape(input: Tensor, shape: Sequence[int], can_refresh: bool = False) -> Tensor:
    return input.reshape(shape)


@reference("npu_broadcast", "npu_broadcast.out")
def npu_broadcast(input: Tensor, size: Sequence[int]) -> Tensor:
    return input.expand(size).contiguous()


@reference("npu_slice", "npu_slice.out")
def npu_slice(input: Tensor, offsets: Sequence[int], size: Sequence[int]) -> Tensor:
    """``size[i]`` elements from ``offsets[i]`` of each dimension; -1 for all that follow."""
    for dim, (start, length) in enumerate(zip(offsets, size)):
        input = input.narrow(dim, start, input.size(dim) - start if length == -1 else length)
    return input.contiguous()


@reference("npu_indexing", "npu_indexing.out")
def npu_indexing(
    input: Tensor,
    begin: Sequence[int],
    end: Sequence[int],
    strides: Sequence[int],
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
) -> Tensor:
    """``input[begin:end:stride, ...]``; a bit of a mask lets that bound be ignored.

    torch_npu allocates the result from ``begin`` and ``end`` alone, so the masks that change
    the number of dimensions are refused.
    """
    if ellipsis_mask or new_axis_mask or shrink_axis_mask:
        unsupported("npu_indexing", "ellipsis_mask, new_axis_mask or shrink_axis_mask")
    for dim, (first, last, step) in enumerate(zip(begin, end, strides)):
        start = None if begin_mask >> dim & 1 else first
        stop = None if end_mask >> dim & 1 else last
        chosen = range(input.size(dim))[start:stop:step]
        input = input.index_select(dim, torch.tensor(chosen, dtype=torch.long).to(input.device))
    return input


@reference("npu_pad")
def npu_pad(input: Tensor, paddings: Sequence[int]) -> Tensor:
    """Zeros around; ``paddings`` are before and after, of the first dimension first."""
    pairs = [paddings[i : i + 2] for i in range(0, len(paddings), 2)]
    if len(pairs) != input.dim():
        raise RuntimeError(
            f"npu_pad: expected {2 * input.dim()} paddings for {input.dim()} dimensions, "
            f"got {len(paddings)}"
        )
    return torch.nn.functional.pad(input, [n for pair in reversed(pairs) for n in pair])


@reference("npu_one_hot")
def npu_one_hot(
    input: Tensor,
    num_classes: int = -1,
    depth: int = 1,
    on_value: float = 1,
    off_value: float = 0,
) -> Tensor:
    """``(*, depth)`` float32, ``on_value`` where the index of the last axis is the input's.

    ``num_classes`` is the axis that is filled, which must be the last. An index outside of
    ``[0, depth)`` has ``off_value`` everywhere.
    """
    if num_classes not in (-1, input.dim()):
        unsupported("npu_one_hot", f"num_classes (the axis to fill) = {num_classes}, not the last,")
    hit = input.long().unsqueeze(-1) == torch.arange(depth, device=input.device)
    on = torch.tensor(float(on_value), device=input.device)
    return torch.where(hit, on, torch.tensor(float(off_value), device=input.device))


@reference("npu_sort_v2", "npu_sort_v2.out")
def npu_sort_v2(input: Tensor, dim: int = -1, descending: bool = False) -> Tensor:
    return input.sort(dim=dim, descending=descending).values


@reference("npu_masked_fill_range")
def npu_masked_fill_range(
    input: Tensor, start: Tensor, end: Tensor, value: Tensor, axis: int = -1
) -> Tensor:
    """``value[i]`` in ``[start[i, j], end[i, j])`` of ``axis``.

    Along the last axis of several, j is the row of the first axis that is filled; along
    another, every row is.

    Args:
        start: ``(loops, rows)`` int32, as ``end``.
        value: ``(loops,)`` of the dtype of ``input``.
    """
    axis = axis % input.dim()
    by_row = 0 < axis == input.dim() - 1
    place = torch.arange(input.size(axis), device=input.device)
    trailing = [1] * (input.dim() - axis - 1)
    result = input.clone()
    for i in range(start.size(0)):
        for j in range(start.size(1)):
            hit = ((place >= start[i, j]) & (place < end[i, j])).reshape(-1, *trailing)
            target = result[j] if by_row else result
            target.copy_(torch.where(hit, value[i], target))
    return result


@reference("npu_sign_bits_pack")
def npu_sign_bits_pack(input: Tensor, size: int) -> Tensor:
    """Eight signs a byte, the first in the lowest bit; 1 for what is not negative."""
    count = (input.numel() + 7) // 8
    bits = torch.zeros(count * 8, dtype=torch.uint8, device=input.device)
    bits[: input.numel()] = (input >= 0).to(torch.uint8)
    packed = (bits.view(count, 8) << torch.arange(8, device=input.device)).sum(1)
    return packed.to(torch.uint8).view(size, count // size)


@reference("npu_sign_bits_unpack")
def npu_sign_bits_unpack(input: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """1 and -1 for the bits of each byte, the lowest first: ``(size, bits / size)``."""
    bits = (input.unsqueeze(1) >> torch.arange(8, device=input.device)) & 1
    return (bits.to(dtype) * 2 - 1).view(size, -1)


@reference("npu_stride_add")
def npu_stride_add(input: Tensor, other: Tensor, offset1: int, offset2: int, c1_len: int) -> Tensor:
    """The sum of two ranges of channels, offsets and length in units of 16 channels."""
    length = int(c1_len) * _C0

    def channels(tensor: Tensor, offset: int) -> Tensor:
        part = tensor[:, int(offset) * _C0 :][:, :length]
        missing = part.new_zeros(part.size(0), length - part.size(1), *part.shape[2:])
        return torch.cat((part, missing), 1)

    return channels(input, offset1) + channels(other, offset2)


@reference("npu_stride_copy", "npu_stride_copy.out")
def npu_stride_copy(
    input: Tensor, shape: Sequence[int], stride: Sequence[int], storage_offset: int
) -> Tensor:
    return input.as_strided(shape, stride, int(storage_offset)).clone().view(tuple(shape))


@reference("npu_view_copy")
def npu_view_copy(input: Tensor, other: Tensor, non_blocking: bool) -> Tensor:
    return input.copy_(other)


@reference("npu_scatter")
def npu_scatter(input: Tensor, indices: Tensor, updates: Tensor, dim: int) -> Tensor:
    """``updates`` put where ``indices`` say along ``dim``, one for each place beside it."""
    return input.scatter(dim, indices.long().unsqueeze(dim), updates.unsqueeze(dim))


@reference("npu_confusion_transpose")
def npu_confusion_transpose(
    input: Tensor, perm: Sequence[int], shape: Sequence[int], transpose_first: bool
) -> Tensor:
    """A permutation and a change of shape, in this order if ``transpose_first``."""
    if transpose_first:
        return input.permute(*perm).reshape(shape)
    return input.reshape(shape).permute(*perm).contiguous()


@reference("npu_confusion_transpose_backward")
def npu_confusion_transpose_backward(
    grad: Tensor, perm: Sequence[int], shape: Sequence[int], transpose_first: bool
) -> Tensor:
    """The way back to ``shape``; ``transpose_first`` is the opposite of the forward's."""
    inverse = sorted(range(len(perm)), key=lambda i: perm[i])
    if transpose_first:
        return grad.permute(*inverse).reshape(shape)
    return grad.reshape([shape[p] for p in perm]).permute(*inverse).contiguous()


@reference("npu_max.dim")
def npu_max(input: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Values, and their indices in int32."""
    values, indices = input.max(dim, keepdim)
    return values, indices.int()


@reference("npu_min.dim")
def npu_min(input: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    values, indices = input.min(dim, keepdim)
    return values, indices.int()


@reference("npu_max_backward", "npu_min_backward")
def npu_max_backward(
    grad: Tensor, dim: int, indices: Tensor, sizes: Sequence[int], keepdim: bool
) -> Tensor:
    if not keepdim and len(sizes):
        grad, indices = grad.unsqueeze(dim), indices.unsqueeze(dim)
    return grad.new_zeros(sizes).scatter_(dim, indices.long(), grad)


@reference("npu_gather_backward")
def npu_gather_backward(
    grad: Tensor, self_size: Sequence[int], dim: int, index: Tensor, sparse_grad: bool
) -> Tensor:
    if sparse_grad:
        unsupported("npu_gather_backward", "sparse_grad=True")
    if not len(self_size):
        return grad
    return grad.new_zeros(self_size).scatter_add_(dim, index.long(), grad)


@reference("npu_gather_sparse_index")
def npu_gather_sparse_index(input: Tensor, index: Tensor) -> Tensor:
    """Rows of ``input`` by index: ``(*index.shape, *input.shape[1:])``."""
    return input[index.long()]


@reference("npu_gather_sparse_index_backward")
def npu_gather_sparse_index_backward(
    grad: Tensor, self_sizes: Sequence[int], index: Tensor
) -> Tensor:
    whole = grad.new_zeros(self_sizes)
    rows = grad.reshape(index.numel(), *self_sizes[1:])
    return whole.index_add_(0, index.reshape(-1).long(), rows)


@reference("_npu_index_add")
def npu_index_add(input: Tensor, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    return input.index_add(0, index.long(), source, alpha=alpha)


@reference("_npu_index_add_")
def npu_index_add_(input: Tensor, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    return input.index_add_(0, index.long(), source, alpha=alpha)


@reference("one_")
def one_(input: Tensor) -> Tensor:
    return input.fill_(1)


@reference(
    "npu_random_choice_with_mask",
    random=lambda given: not (given.get("seed") or given.get("seed2")),
)
def npu_random_choice_with_mask(
    x: Tensor, count: int = 256, seed: int = 0, seed2: int = 0
) -> tuple[Tensor, Tensor]:
    """``count`` true places of ``x`` in random order, int32, and which of them are real.

    Where there are fewer, zeros and False fill up; a count of 0 asks for all. The seeds,
    when given, decide alone.
    """
    places = x.nonzero()
    count = count or len(places)
    generator: torch.Generator | None = None
    if seed or seed2:
        generator = torch.Generator().manual_seed(seed * 0x9E3779B1 + seed2)
    order = torch.randperm(len(places), generator=generator).to(x.device)[:count]
    chosen = x.new_zeros((count, x.dim()), dtype=torch.int32)
    chosen[: len(order)] = places[order].int()
    return chosen, torch.arange(count, device=x.device) < len(order)


@reference("npu_sim_exponential_")
def npu_sim_exponential_(
    input: Tensor, lambd: float = 1.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """Draws of the exponential distribution, in place."""
    return input.exponential_(lambd, generator=generator)

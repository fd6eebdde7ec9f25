"""Voxels of points, and sparse convolution by dictionaries of cells."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .sampling import largest

__all__ = [
    "dynamic_scatter",
    "dynamic_voxelize",
    "get_indice_pairs",
    "hard_voxelize",
    "indice_conv",
    "indice_maxpool",
]

Cell = tuple[int, ...]


def dynamic_voxelize(
    points: Tensor, voxel_size: Sequence[float], coors_range: Sequence[float]
) -> Tensor:
    """By division; numbers along z, y and x, or -1."""
    low, high = coors_range[:3], coors_range[3:]
    grid = [round((b - a) / size) for a, b, size in zip(low, high, voxel_size)]
    rows = []
    for point in points.tolist():
        number = [(p - a) / size for p, a, size in zip(point, low, voxel_size)]
        there = all(0 <= n < g for n, g in zip(number, grid))  # NaN is not
        rows.append([math.floor(n) for n in number[::-1]] if there else [-1] * 3)
    return torch.tensor(rows, dtype=torch.int32).view(-1, 3)


def hard_voxelize(
    points: Tensor,
    voxel_size: Sequence[float],
    coors_range: Sequence[float],
    max_points: int,
    max_voxels: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Point by point into a dictionary of voxels, which keeps the order they came in."""
    voxels: dict[Cell, list[int]] = {}
    for n, cell in enumerate(dynamic_voxelize(points, voxel_size, coors_range).tolist()):
        key = tuple(cell)
        if min(key) >= 0 and (key in voxels or len(voxels) < max_voxels):
            own = voxels.setdefault(key, [])
            if len(own) < max_points:
                own.append(n)
    rows = points.new_zeros(len(voxels), max_points, points.shape[1])
    for row, own in zip(rows, voxels.values()):
        row[: len(own)] = points[own]
    where = torch.tensor(list(voxels), dtype=torch.int32).view(-1, 3)
    return rows, where, torch.tensor([len(own) for own in voxels.values()], dtype=torch.int32)


def dynamic_scatter(
    feats: Tensor, coors: Tensor, reduce_type: str = "max"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Voxel by voxel, in order; of equal maxima the first gets the gradient."""
    cells = [tuple(cell) for cell in coors.tolist()]
    keys = sorted({cell for cell in cells if min(cell) >= 0})
    owner = [keys.index(cell) if min(cell) >= 0 else -1 for cell in cells]
    rows = []
    for n in range(len(keys)):
        own = [feats[i] for i, key in enumerate(owner) if key == n]
        if reduce_type == "max":
            rows.append(largest(own))
        else:
            total = torch.stack(own).sum(0)
            rows.append(total / len(own) if reduce_type == "mean" else total)
    return (
        torch.stack(rows) if rows else feats.new_zeros(0, feats.shape[1]),
        torch.tensor(keys, dtype=coors.dtype).view(-1, coors.shape[1]),
        torch.tensor(owner, dtype=torch.int32),
        torch.tensor([owner.count(n) for n in range(len(keys))], dtype=torch.int32),
    )


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
    """Which output each input meets under each element of the kernel."""
    inputs = [tuple(row) for row in indices.tolist()]
    elements = list(itertools.product(*map(range, ksize)))
    if subm:
        stride = [1] * len(ksize)
        padding = [k // 2 * d for k, d in zip(ksize, dilation)]
    met: list[list[tuple[int, Cell]]] = [[] for _ in elements]
    for found, element in zip(met, elements):
        for n, (batch, *cell) in enumerate(inputs):
            output = []
            for c, e, s, p, d, size in zip(cell, element, stride, padding, dilation, out_shape):
                place = c * s - p + e * d if transpose else c + p - e * d
                fits = transpose or place % s == 0
                output.append(place if transpose else place // s)
                if not (fits and 0 <= output[-1] < size):
                    break
            else:
                found.append((n, (batch, *output)))
    outputs = inputs if subm else sorted({cell for found in met for _, cell in found})
    pairs = torch.full((len(elements), 2, len(inputs)), -1, dtype=torch.int32)
    numbers = []
    for found, own in zip(met, pairs):
        active = [(n, outputs.index(cell)) for n, cell in found if cell in outputs]
        numbers.append(len(active))
        for k, pair in enumerate(active):
            own[:, k] = torch.tensor(pair)
    outids = torch.tensor(outputs, dtype=torch.int32).view(-1, indices.shape[1])
    return outids, pairs, torch.tensor(numbers, dtype=torch.int32)


def _pairs(indice_pairs: Tensor, indice_pair_num: Tensor) -> Iterator[tuple[int, int, int]]:
    """Element of the kernel, input and output."""
    for k, (pair, number) in enumerate(zip(indice_pairs.tolist(), indice_pair_num.tolist())):
        for source, target in zip(*(row[:number] for row in pair)):
            yield k, source, target


def indice_conv(
    features: Tensor,
    filters: Tensor,
    indice_pairs: Tensor,
    indice_pair_num: Tensor,
    num_out: int,
    inverse: bool = False,
    bias: Tensor | None = None,
) -> Tensor:
    """Pair by pair, an input times its element of the kernel added to its output."""
    kernel = filters.flatten(0, -3)
    rows = [features.new_zeros(filters.shape[-1]) for _ in range(num_out)]
    for k, source, target in _pairs(indice_pairs, indice_pair_num):
        if inverse:
            source, target = target, source
        rows[target] = rows[target] + features[source] @ kernel[k]
    output = torch.stack(rows) if rows else features.new_zeros(0, filters.shape[-1])
    return output if bias is None else output + bias


def indice_maxpool(
    features: Tensor, indice_pairs: Tensor, indice_pair_num: Tensor, num_out: int
) -> Tensor:
    """The greatest of what an output meets and 0; each of equals gets the gradient."""
    met: list[list[int]] = [[] for _ in range(num_out)]
    for _, source, target in _pairs(indice_pairs, indice_pair_num):
        met[target].append(source)
    rows = [_GreatestOfAll.apply(features[own]) for own in met]
    return torch.stack(rows) if rows else features.new_zeros(0, features.shape[1])


class _GreatestOfAll(torch.autograd.Function):
    """The greatest row and 0, of which every equal row gets the whole gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        output = rows.amax(0).clamp(min=0)
        ctx.save_for_backward(rows == output)
        return output

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        (equal,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad * equal

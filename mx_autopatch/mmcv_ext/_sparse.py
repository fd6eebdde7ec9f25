"""Sparse convolution of the extension, in its calling convention.

The functions for two, three and four dimensions differ in name only. Those called
backward are handed a table of cells to work in, which is left as it is, empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "fused_indice_conv_forward",
    "get_indice_pairs_2d_backward",
    "get_indice_pairs_2d_forward",
    "get_indice_pairs_3d_backward",
    "get_indice_pairs_3d_forward",
    "get_indice_pairs_4d_forward",
    "indice_conv_backward",
    "indice_conv_forward",
    "indice_maxpool_backward",
    "indice_maxpool_forward",
]


def _get_indice_pairs_forward(
    indices: Tensor,
    batchSize: int,
    outSpatialShape: list[int],
    spatialShape: list[int],
    kernelSize: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    outPadding: list[int],
    _subM: int,
    _transpose: int,
) -> tuple[Tensor, Tensor, Tensor]:
    from mx_autopatch.ops.sparse_pairs import get_indice_pairs

    return get_indice_pairs(
        indices,
        batchSize,
        # mmcv's sizes may be numpy's.
        [int(size) for size in outSpatialShape],
        kernelSize,
        stride,
        padding,
        dilation,
        bool(_subM),
        bool(_transpose),
    )


def _get_indice_pairs_backward(
    indices: Tensor,
    gridOut: Tensor,
    batchSize: int,
    outSpatialShape: list[int],
    spatialShape: list[int],
    kernelSize: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    outPadding: list[int],
    _subM: int,
    _transpose: int,
) -> tuple[Tensor, Tensor, Tensor]:
    shapes = outSpatialShape, spatialShape
    options = kernelSize, stride, padding, dilation, outPadding
    return _get_indice_pairs_forward(indices, batchSize, *shapes, *options, _subM, _transpose)


get_indice_pairs_2d_forward = _get_indice_pairs_forward
get_indice_pairs_3d_forward = _get_indice_pairs_forward
get_indice_pairs_4d_forward = _get_indice_pairs_forward
get_indice_pairs_2d_backward = _get_indice_pairs_backward
get_indice_pairs_3d_backward = _get_indice_pairs_backward


def indice_conv_forward(
    features: Tensor,
    filters: Tensor,
    indicePairs: Tensor,
    indiceNum: Tensor,
    numActOut: int,
    _inverse: int,
    _subM: int,
) -> Tensor:
    from mx_autopatch.ops.sparse_conv import indice_conv

    filters = _first(filters, indicePairs)
    return indice_conv(features, filters, indicePairs, indiceNum, numActOut, bool(_inverse))


def _first(filters: Tensor, pairs: Tensor) -> Tensor:
    """The elements of the kernel that there are pairs of.

    Layers of mmdet3d's Cylinder3D share the pairs of one that has a smaller kernel. The
    compiled function takes as many elements as it finds pairs of, and weights were trained
    with that.
    """
    count = pairs.shape[0]
    return filters.flatten(0, -3)[:count] if count < filters.shape[:-2].numel() else filters


def fused_indice_conv_forward(
    features: Tensor,
    filters: Tensor,
    bias: Tensor,
    indicePairs: Tensor,
    indiceNum: Tensor,
    numActOut: int,
    _inverse: int,
    _subM: int,
) -> Tensor:
    from mx_autopatch.ops.sparse_conv import indice_conv

    pairs, filters = (indicePairs, indiceNum), _first(filters, indicePairs)
    return indice_conv(features, filters, *pairs, numActOut, bool(_inverse), bias)


def indice_conv_backward(
    features: Tensor,
    filters: Tensor,
    outGrad: Tensor,
    indicePairs: Tensor,
    indiceNum: Tensor,
    _inverse: int,
    _subM: int,
) -> tuple[Tensor, Tensor]:
    from mx_autopatch.ops.sparse_conv import indice_conv_backward

    tensors = features, _first(filters, indicePairs), outGrad, indicePairs, indiceNum
    of_features, found = indice_conv_backward(*tensors, bool(_inverse))
    of_filters = filters.new_zeros(filters.shape)
    of_filters.flatten(0, -3)[: indicePairs.shape[0]] = found.flatten(0, -3)
    return of_features, of_filters


def indice_maxpool_forward(
    features: Tensor, indicePairs: Tensor, indiceNum: Tensor, numAct: int
) -> Tensor:
    from mx_autopatch.ops.sparse_conv import indice_maxpool

    return indice_maxpool(features, indicePairs, indiceNum, numAct)


def indice_maxpool_backward(
    features: Tensor, outFeatures: Tensor, outGrad: Tensor, indicePairs: Tensor, indiceNum: Tensor
) -> Tensor:
    from mx_autopatch.ops.sparse_conv import indice_maxpool_backward

    return indice_maxpool_backward(features, outFeatures, outGrad, indicePairs, indiceNum)

"""Voxels and sparse convolution."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mx_autopatch import ops
from mx_autopatch.verify.check import Arguments, Check
from mx_autopatch.verify.references import voxels as plain
from mx_autopatch.verify.source import Source

__all__ = ["CHECKS"]

_SHAPE = (4, 4, 4)


def _points(source: Source, n: int) -> Arguments:
    return {"points": source.values(n, 4), "voxel_size": (0.5, 0.5, 1.0),
            "coors_range": (-2.0, -2.0, -2.0, 2.0, 2.0, 2.0)}  # fmt: skip


def _hard(source: Source, n: int) -> Arguments:
    return {**_points(source, n), "max_points": 2, "max_voxels": max(n // 2, 1)}


def _scatter(source: Source, n: int) -> Arguments:
    return {"feats": source.values(n, 4), "coors": source.whole(4, n, 3) - 1}


def _cells(source: Source, n: int) -> Tensor:
    """(n, 4) int32, no two alike: batch, z, y, x; at most all 128 of them."""
    number = source.order(2 * 64)[:n]
    z, y = number // 16 % 4, number // 4 % 4
    return torch.stack((number // 64, z, y, number % 4), 1).int()


def _indices(source: Source, n: int) -> Arguments:
    return {"indices": _cells(source, n), "batch_size": 2, "out_shape": _SHAPE,
            "ksize": (3, 3, 3), "stride": (1, 1, 1), "padding": (1, 1, 1),
            "dilation": (1, 1, 1)}  # fmt: skip


def _sparse(source: Source, n: int, convolution: bool = True) -> Arguments:
    outputs, pairs, number = ops.get_indice_pairs(**_indices(source, n))
    arguments = {"features": source.values(len(pairs[0, 0]), 3), "indice_pairs": pairs,
                 "indice_pair_num": number, "num_out": len(outputs)}  # fmt: skip
    if convolution:
        arguments["filters"] = source.values(3, 3, 3, 3, 5)
        arguments["bias"] = source.values(5)
    return arguments


CHECKS = (
    Check("dynamic_voxelize", ops.dynamic_voxelize, plain.dynamic_voxelize,
          _points, special=("points",), size=30,
          typical=20_000),
    Check("hard_voxelize", ops.hard_voxelize, plain.hard_voxelize,
          _hard, huge=("points",), size=30, typical=20_000),
    Check("dynamic_scatter", ops.dynamic_scatter, plain.dynamic_scatter,
          _scatter, ("feats",), huge=("feats",),
          variants=({"reduce_type": "mean"}, {"reduce_type": "sum"}), size=30, typical=20_000),
    Check("get_indice_pairs", ops.get_indice_pairs, plain.get_indice_pairs,
          _indices, size=20, typical=128,
          variants=({"subm": True}, {"transpose": True})),
    Check("indice_conv", ops.indice_conv, plain.indice_conv,
          _sparse, ("features", "filters", "bias"),
          ("features",), size=20, typical=128),
    Check("indice_maxpool", ops.indice_maxpool, plain.indice_maxpool,
          partial(_sparse, convolution=False),
          ("features",), huge=("features",), size=20, typical=128),
)  # fmt: skip

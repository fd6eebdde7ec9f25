"""Convolution, attention and whatever else goes over whole maps of features."""

from __future__ import annotations

import torch

from mx_autopatch import ops
from mx_autopatch.verify.check import Arguments, Check
from mx_autopatch.verify.references import attention, convolution, text
from mx_autopatch.verify.source import Source

__all__ = ["CHECKS"]


def _deform(source: Source, n: int) -> Arguments:
    return {"input": source.values(2, 4, n, 4), "offset": source.between(2, 36, n, 4),
            "weight": source.values(6, 2, 3, 3), "padding": 1, "groups": 2,
            "deform_groups": 2}  # fmt: skip


def _modulated(source: Source, n: int) -> Arguments:
    return {**_deform(source, n), "mask": source.unit(2, 18, n, 4), "bias": source.values(6)}


def _attention(source: Source, n: int) -> Arguments:
    shapes = torch.tensor([[4, 6], [2, 3]])
    return {"value": source.values(2, 30, 2, 8), "spatial_shapes": shapes,
            "level_start_index": torch.tensor([0, 24]),
            "sampling_locations": source.inside(2, n, 2, 2, 3, 2),
            "attention_weights": source.unit(2, n, 2, 2, 3)}  # fmt: skip


def _aggregation(source: Source, n: int) -> Arguments:
    return {"feature_maps": source.values(2, 60, 8),
            "spatial_shape": torch.tensor([[[4, 6], [2, 3]]] * 2),
            "scale_start_index": torch.tensor([[0, 24], [30, 54]]),
            "sampling_location": source.inside(2, n, 3, 2, 2),
            "weights": source.unit(2, n, 3, 2, 2, 4)}  # fmt: skip


def _bev(source: Source, n: int) -> Arguments:
    coords = torch.stack([source.whole(size, n) for size in (3, 4, 2, 2)], 1)
    return {"feats": source.values(n, 4), "coords": coords, "B": 2, "D": 2, "H": 3, "W": 4}


def _bev_v2(source: Source, n: int) -> Arguments:
    return {"depth": source.unit(1, 2, 3, 4, 5), "feat": source.values(1, 2, 4, 5, 6),
            "ranks_depth": source.whole(120, n), "ranks_feat": source.whole(40, n),
            "ranks_bev": source.whole(24, n), "bev_feat_shape": (1, 2, 3, 4, 6)}  # fmt: skip


def _carafe(source: Source, n: int) -> Arguments:
    return {"features": source.values(2, 4, n, 3), "masks": source.unit(2, 18, 2 * n, 6),
            "kernel_size": 3, "group_size": 2, "scale_factor": 2}  # fmt: skip


def _two_images(source: Source, n: int) -> Arguments:
    return {"input1": source.values(2, 4, n, 6), "input2": source.values(2, 4, n, 6)}


def _affinity(source: Source, n: int) -> Arguments:
    return {"query": source.values(2, 3, n, 5), "key": source.values(2, 3, n, 5)}


def _map(source: Source, n: int) -> Arguments:
    return {"weight": source.values(2, n + 4, n, 5), "value": source.values(2, 3, n, 5)}


def _masks(source: Source, n: int) -> Arguments:
    return {"input": source.values(2, 15, n, 4), "psa_type": "collect", "mask_size": (5, 3)}


def _corner(source: Source, n: int) -> Arguments:
    return {"input": source.values(2, 3, n, 6), "direction": "top"}


def _rotations(source: Source, n: int) -> Arguments:
    places = torch.stack([source.order(72) + 1 for _ in range(4)], -1).reshape(8, 3, 3, 4)
    return {"input": source.values(n, 2, 8, 3, 3), "indices": places}


def _shifted(source: Source, n: int) -> Arguments:
    return {"input": source.values(2, 4, 6, n), "shift": source.whole(7, 2, 3) - 3}


def _windows(source: Source, n: int) -> Arguments:
    return {"image": source.values(1, 3, 6, 7), "y": source.whole(6, n), "x": source.whole(7, n),
            "kernel_size": 3, "padding": 1}  # fmt: skip


def _columns(source: Source, n: int) -> Arguments:
    pixel = source.order(max(64, n))[:n]
    size = max(8, n // 8 + 1)
    return {"columns": source.values(3, n), "y": pixel // 8, "x": pixel % 8, "size": (size, 8)}


def _kernels(source: Source, n: int) -> Arguments:
    label = torch.zeros(n, 6, dtype=torch.int32)
    label[:1, :2], label[:1, 4:] = 1, 2
    return {"score": source.unit(n, 6), "mask": source.unit(n, 6) > 0.25,
            "embedding": source.values(n, 6, 4) / 4, "kernel_label": label,
            "kernel_contour": (label > 0).byte(), "kernel_region_num": 3,
            "distance_threshold": 0.8}  # fmt: skip


def _contours(source: Source, n: int) -> Arguments:
    label = torch.zeros(n, 6, dtype=torch.int32)
    label[:1, :2], label[:1, 4:] = 1, 2
    masks = torch.stack([source.unit(n, 6) > share for share in (0.2, 0.4, 0.6)]).byte()
    return {"kernel_mask": masks, "internal_kernel_label": label, "min_kernel_area": 1,
            "kernel_num": 2}  # fmt: skip


_WEIGHTED = ("value", "sampling_locations", "attention_weights")
_AGGREGATED = ("feature_maps", "sampling_location", "weights")

CHECKS = (
    Check("deform_conv2d", ops.deform_conv2d, convolution.deform_conv2d,
          _deform, ("input", "offset", "weight"),
          ("offset",), huge=("input",), smallest=1, size=4, typical=64),
    Check("modulated_deform_conv2d", ops.modulated_deform_conv2d,
          convolution.modulated_deform_conv2d, _modulated,
          ("input", "offset", "mask", "weight", "bias"), ("offset",), huge=("input",),
          smallest=1, size=4, typical=64),
    Check("ms_deform_attn", ops.ms_deform_attn, attention.ms_deform_attn, _attention, _WEIGHTED,
          ("sampling_locations",), huge=("value",)),
    Check("deformable_aggregation", ops.deformable_aggregation, attention.deformable_aggregation,
          _aggregation, _AGGREGATED,
          ("sampling_location",), huge=("feature_maps",)),
    Check("bev_pool", ops.bev_pool, attention.bev_pool,
          _bev, ("feats",), ("feats",), size=30, typical=20_000),
    Check("bev_pool_v2", ops.bev_pool_v2, attention.bev_pool_v2,
          _bev_v2, ("depth", "feat"), ("feat",), size=30,
          typical=20_000),
    Check("carafe", ops.carafe, convolution.carafe,
          _carafe, ("features", "masks"), ("features",), typical=64),
    Check("correlation", ops.correlation, convolution.correlation,
          _two_images, ("input1", "input2"), ("input1",),
          variants=({"kernel_size": 3, "stride": 2}, {"dilation_patch": 2}), smallest=1,
          typical=64),
    Check("criss_cross_affinity", ops.criss_cross_affinity, attention.criss_cross_affinity,
          _affinity, ("query", "key"),
          ("query",), smallest=1, typical=64),
    Check("criss_cross_map", ops.criss_cross_map, attention.criss_cross_map,
          _map, ("weight", "value"), ("value",),
          smallest=1, typical=64),
    Check("psa_mask", ops.psa_mask, convolution.psa_mask, _masks, ("input",), ("input",),
          variants=({"psa_type": "distribute"},), typical=64),
    Check("corner_pool", ops.corner_pool, convolution.corner_pool,
          _corner, ("input",), huge=("input",),
          variants=tuple({"direction": d} for d in ("bottom", "left", "right"))),
    Check("active_rotated_filter", ops.active_rotated_filter, convolution.active_rotated_filter,
          _rotations, ("input",),
          ("input",), typical=64),
    Check("tin_shift", ops.tin_shift, convolution.tin_shift, _shifted, ("input",), ("input",)),
    Check("masked_im2col", ops.masked_im2col, convolution.masked_im2col,
          _windows, ("image",), ("image",)),
    Check("masked_col2im", ops.masked_col2im, convolution.masked_col2im,
          _columns, ("columns",), ("columns",)),
    Check("pixel_group", ops.pixel_group, text.pixel_group, _kernels, typical=64),
    Check("contour_expand", ops.contour_expand, text.contour_expand, _contours, typical=64),
)  # fmt: skip

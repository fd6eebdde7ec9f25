"""Features of points pooled in the voxels of 3D boxes (Shi et al. 2020, Part-A2).

Upstream: ``mmcv.ops.RoIAwarePool3d`` (CUDA only), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor, compute_dtype
from ._coordinates import ranks_in_groups
from .points_in_boxes import inside_boxes, local_coordinates

__all__ = ["roiaware_pool3d", "roiaware_pool3d_backward"]

_MODES = ("max", "avg")


def roiaware_pool3d(
    rois: Tensor,
    pts: Tensor,
    pts_feature: Tensor,
    out_size: int | Sequence[int],
    max_pts_per_voxel: int = 128,
    mode: str = "max",
) -> tuple[Tensor, Tensor, Tensor]:
    """Maximum or mean of the features of the points in each voxel of each box.

    Args:
        rois: (N, 7) floating, boxes as in points_in_boxes.
        pts: (P, 3) in the dtype of ``rois``, ``x, y, z``.
        pts_feature: (P, C) floating.
        out_size: voxels of a box, X, Y, Z along its own axes, or one number.
        max_pts_per_voxel: length of the list kept of each voxel, counter included:
            the first ``max_pts_per_voxel - 1`` points count.
        mode: "max" or "avg".

    Returns:
        features (N, X, Y, Z, C) in the dtype of ``pts_feature``, 0 where there is no
        point; the point (N, X, Y, Z, C) int32 that each maximum came from, or -1 (in
        "avg" mode all -1); and the lists (N, X, Y, Z, max_pts_per_voxel) int32: how
        many points, then which. Half precision is calculated in float32 and rounded
        once. Differentiable once, in ``pts_feature``; of equal maxima the first point
        gets the gradient.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, sizes, mode, or different devices.
    """
    op = "roiaware_pool3d"
    check_tensor(op, "rois", rois, ("N", 7))
    check_tensor(op, "pts", pts, ("P", 3), rois.dtype)
    check_tensor(op, "pts_feature", pts_feature, (pts.shape[0], "C"))
    check_same_device(op, rois=rois, pts=pts, pts_feature=pts_feature)
    size = [out_size] * 3 if isinstance(out_size, int) else list(out_size)
    if len(size) != 3 or min(size) < 1:
        raise ValueError(f"{op}: out_size: expected one or three sizes >= 1, got {out_size}")
    if max_pts_per_voxel < 1:
        raise ValueError(f"{op}: max_pts_per_voxel: expected >= 1, got {max_pts_per_voxel}")
    if mode not in _MODES:
        raise ValueError(f"{op}: mode: expected one of {_MODES}, got {mode!r}")
    return roiaware_pool3d_op(rois, pts, pts_feature, size, max_pts_per_voxel, mode)


def roiaware_pool3d_backward(
    grad: Tensor, argmax: Tensor, pts_idx_of_voxels: Tensor, num_pts: int, mode: str
) -> Tensor:
    """Gradient (num_pts, C) of the features, of that of the output and what came with it."""
    op = "roiaware_pool3d_backward"
    check_tensor(op, "grad", grad, ("N", "X", "Y", "Z", "C"))
    check_tensor(op, "argmax", argmax, tuple(grad.shape), torch.int32)
    voxels = tuple(grad.shape[:4])
    check_tensor(op, "pts_idx_of_voxels", pts_idx_of_voxels, (*voxels, "max_pts"), torch.int32)
    check_same_device(op, grad=grad, argmax=argmax, pts_idx_of_voxels=pts_idx_of_voxels)
    return roiaware_pool3d_backward_op(grad, argmax, pts_idx_of_voxels, num_pts, mode)


def _lists(rois: Tensor, pts: Tensor, size: list[int], length: int) -> tuple[Tensor, ...]:
    """Points and voxels of those that count, and the lists (V, length) of all voxels."""
    roi, point = inside_boxes(pts[None], rois[None])[0].T.nonzero(as_tuple=True)
    dtype = compute_dtype(rois.dtype)
    box = rois.to(dtype)[roi].unbind(1)
    x, y, z = local_coordinates(pts.to(dtype)[point].unbind(1), box)
    voxel = roi
    for local, extent, bins in zip((x + box[3] / 2, y + box[4] / 2, z), box[3:6], size):
        number = (local / (extent / bins)).nan_to_num(0.0).long()
        voxel = voxel * bins + number.clamp(0, bins - 1)
    voxels = len(rois) * size[0] * size[1] * size[2]
    count = torch.bincount(voxel, minlength=voxels)
    place = ranks_in_groups(voxel, count)
    counts = place < length - 1
    point, voxel, place = point[counts], voxel[counts], place[counts]
    lists = point.new_zeros(voxels, length, dtype=torch.int32)
    lists[:, 0] = count.clamp(max=length - 1)
    lists[voxel, place + 1] = point.int()
    return point, voxel, lists


@torch.library.custom_op(
    "mx_autopatch::roiaware_pool3d",
    mutates_args=(),
    schema="(Tensor rois, Tensor pts, Tensor pts_feature, int[] out_size, int max_pts_per_voxel, "
    "str mode) -> (Tensor, Tensor, Tensor)",
)
def roiaware_pool3d_op(
    rois: Tensor,
    pts: Tensor,
    pts_feature: Tensor,
    out_size: list[int],
    max_pts_per_voxel: int,
    mode: str,
) -> tuple[Tensor, Tensor, Tensor]:
    point, voxel, lists = _lists(rois, pts, out_size, max_pts_per_voxel)
    values = pts_feature.to(compute_dtype(pts_feature.dtype))[point]
    index = voxel[:, None].expand_as(values)
    pooled = values.new_zeros(len(lists), values.shape[1])
    argmax = torch.full_like(pooled, -1, dtype=torch.int64)
    if mode == "avg":
        pooled = pooled.scatter_add(0, index, values) / lists[:, :1].clamp(min=1)
    else:
        # A NaN is greater than nothing.
        values = torch.where(values.isnan(), -torch.inf, values)
        top = pooled.fill_(-torch.inf).scatter_reduce(0, index, values, "amax")
        taken = (values == top[voxel]) & (values > -torch.inf)
        source = torch.where(taken, point[:, None], len(pts))
        first = argmax.fill_(len(pts)).scatter_reduce(0, index, source, "amin")
        found = first < len(pts)
        pooled, argmax = torch.where(found, top, 0.0), torch.where(found, first, -1)
    shape = len(rois), *out_size
    pooled = pooled.to(pts_feature.dtype).view(*shape, pts_feature.shape[1])
    return pooled, argmax.int().view(pooled.shape), lists.view(*shape, max_pts_per_voxel)


@torch.library.custom_op(
    "mx_autopatch::roiaware_pool3d_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor argmax, Tensor pts_idx_of_voxels, SymInt num_pts, str mode) "
    "-> Tensor",
)
def roiaware_pool3d_backward_op(
    grad: Tensor, argmax: Tensor, pts_idx_of_voxels: Tensor, num_pts: int, mode: str
) -> Tensor:
    channels = grad.shape[-1]
    flat = grad.reshape(-1, channels).to(compute_dtype(grad.dtype))
    # One row more for what comes from no point.
    result = flat.new_zeros(num_pts + 1, channels)
    if mode == "max":
        source = argmax.reshape(-1, channels).long()
        result.scatter_add_(0, torch.where(source < 0, num_pts, source), flat)
    else:
        lists = pts_idx_of_voxels.flatten(0, 3)
        count = lists[:, :1]
        voxel, place = (torch.arange(lists.shape[1] - 1, device=lists.device) < count).nonzero(
            as_tuple=True
        )
        share = flat / count.clamp(min=1)
        result.index_add_(0, lists[voxel, place + 1].long(), share[voxel])
    return result[:-1].to(grad.dtype)


@roiaware_pool3d_op.register_fake
def _(
    rois: Tensor,
    pts: Tensor,
    pts_feature: Tensor,
    out_size: list[int],
    max_pts_per_voxel: int,
    mode: str,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = rois.shape[0], *out_size
    pooled = pts_feature.new_empty((*shape, pts_feature.shape[1]))
    lists = pts_feature.new_empty((*shape, max_pts_per_voxel), dtype=torch.int32)
    return pooled, torch.empty_like(pooled, dtype=torch.int32), lists


@roiaware_pool3d_backward_op.register_fake
def _(grad: Tensor, argmax: Tensor, pts_idx_of_voxels: Tensor, num_pts: int, mode: str) -> Tensor:
    return grad.new_empty((num_pts, grad.shape[-1]))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, pts, _, _, _, ctx.mode = inputs
    ctx.num_pts = pts.shape[0]
    ctx.save_for_backward(output[1], output[2])
    ctx.mark_non_differentiable(output[1], output[2])


def _backward(ctx: Any, grad: Tensor, *others: Any) -> tuple[Any, ...]:
    grad_feature = roiaware_pool3d_backward_op(grad, *ctx.saved_tensors, ctx.num_pts, ctx.mode)
    return None, None, grad_feature, None, None, None


roiaware_pool3d_op.register_autograd(_backward, setup_context=_setup_context)

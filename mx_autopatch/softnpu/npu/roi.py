"""Pooling of regions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import reference, unsupported, vjp, widened
from mx_autopatch.softnpu.npu.sampling import bilinear

__all__: list[str] = []


def _borders(roi: Tensor, scale: float, mode: int) -> tuple[Tensor, Tensor]:
    """Upper left corner and size of a region in pixels of the features."""
    aligned = mode >= 2
    shift = 0.5 if aligned else 0.0
    start = roi[1:3] * scale - shift
    end = (roi[3:5] + (1 if mode == 1 else 0)) * scale - shift
    # A region that is not aligned to pixel centres has at least one pixel.
    size = end - start if aligned else (end - start).clamp(min=1.0)
    return start, size


def _points(start: Tensor, size: Tensor, bins: int, samples: int) -> Tensor:
    step = torch.arange(bins * samples, dtype=start.dtype, device=start.device) + 0.5
    return start + step * (size / bins / samples)


def _pooled(
    features: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sample_num: int,
    mode: int,
) -> Tensor:
    channels, height, width = features.shape[1:]
    results = []
    for roi in rois:
        (x0, y0), (w, h) = _borders(roi, spatial_scale, mode)
        rows = sample_num or max(1, math.ceil(float(h) / pooled_height))
        columns = sample_num or max(1, math.ceil(float(w) / pooled_width))
        y, x = torch.meshgrid(
            _points(y0, h, pooled_height, rows),
            _points(x0, w, pooled_width, columns),
            indexing="ij",
        )
        inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
        points = [p.reshape(1, -1) for p in (y.clamp(0, height - 1), x.clamp(0, width - 1))]
        image = features[int(roi[0])].unsqueeze(0)
        values = bilinear(image, *points) * inside.reshape(1, 1, -1)
        shape = (channels, pooled_height, rows, pooled_width, columns)
        results.append(values.view(shape).mean((2, 4)))
    if not results:
        return features.new_zeros(0, channels, pooled_height, pooled_width)
    return torch.stack(results)


def _checked(mode: int, operator: str) -> int:
    if mode not in (0, 1, 2, 3):
        unsupported(operator, f"roi_end_mode {mode}")
    return mode


@reference("npu_roi_align")
def npu_roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sample_num: int,
    roi_end_mode: int,
) -> Tensor:
    """The mean of bilinear samples in each bin, ``(len(rois), C, pooled_h, pooled_w)``.

    Args:
        input: ``(N, C, H, W)``.
        rois: ``(K, 5)``: index of the image, x1, y1, x2, y2.
        sample_num: Samples a bin in each direction; 0 for one a pixel.
        roi_end_mode: 0 for the corners as given, 2 and 3 for pixel centres at halves, which
            is called aligned: mmcv passes 2 for that, torch_npu's own module 3. 1 is refused:
            CANN's description of it is not that of the operator's gradient.
    """
    mode = _checked(roi_end_mode, "npu_roi_align")
    if mode == 1:
        unsupported("npu_roi_align", "roi_end_mode 1")
    features, boxes = widened(input), widened(rois)
    pooled = _pooled(features, boxes, spatial_scale, pooled_height, pooled_width, sample_num, mode)
    return pooled.to(input.dtype)


@reference("npu_roi_alignbk")
def npu_roi_alignbk(
    input: Tensor,
    rois: Tensor,
    xdiff_shape: Sequence[int],
    pooled_width: int,
    pooled_height: int,
    spatial_scale: float,
    sample_num: int,
    roi_end_mode: int | None = None,
) -> Tensor:
    """The gradient of the features, ``xdiff_shape``; ``input`` is that of the result.

    Width comes before height, other than forward.

    Args:
        roi_end_mode: As forward; 1, which it is unless given, for corners that belong to the
            region (x2 + 1).
    """
    mode = _checked(1 if roi_end_mode is None else roi_end_mode, "npu_roi_alignbk")
    given, boxes = widened(input), widened(rois)

    def forward(features: Tensor) -> Tensor:
        return _pooled(
            features, boxes, spatial_scale, pooled_height, pooled_width, sample_num, mode
        )

    gradient = vjp(forward, [given.new_zeros(xdiff_shape)], [given])[0]
    assert gradient is not None
    return gradient.to(input.dtype)


def _position_sensitive(
    features: Tensor, rois: Tensor, spatial_scale: float, group_size: int, output_dim: int
) -> Tensor:
    height, width = features.shape[2:]
    maps = features.unflatten(1, (output_dim, group_size, group_size))
    results = []
    for roi in rois.transpose(1, 2).reshape(-1, 5):
        # Whole pixels first, of which the last belongs to the region; then the scale.
        batch, x1, y1, x2, y2 = roi.round().tolist()
        bins = []
        for first, last, most in ((y1, y2, height), (x1, x2, width)):
            start = first * spatial_scale
            step = max((last + 1) * spatial_scale - start, 0.1) / group_size
            edges = [start + step * i for i in range(group_size + 1)]
            bins.append(
                [
                    slice(*(min(max(int(e), 0), most) for e in (math.floor(a), math.ceil(b))))
                    for a, b in zip(edges, edges[1:])
                ]
            )
        for i, rows in enumerate(bins[0]):
            for j, columns in enumerate(bins[1]):
                if rows.stop <= rows.start or columns.stop <= columns.start:
                    results.append(features.new_zeros(output_dim))
                else:
                    results.append(maps[int(batch), :, i, j, rows, columns].mean((1, 2)))
    if not results:
        return features.new_zeros(0, output_dim, group_size, group_size)
    grid = torch.stack(results).view(-1, group_size, group_size, output_dim)
    return grid.permute(0, 3, 1, 2).contiguous()


@reference("npu_ps_roi_pooling")
def npu_ps_roi_pooling(
    input: Tensor, rois: Tensor, spatial_scale: float, group_size: int, output_dim: int
) -> Tensor:
    """The mean of each bin, from the channels of its own: ``(B * R, output_dim, G, G)``.

    Args:
        input: ``(B, output_dim * G * G, H, W)``, G for ``group_size``; the bin is the last
            part of the number of a channel.
        rois: ``(B, 5, R)``: index of the image, x1, y1, x2, y2.
    """
    features = widened(input)
    pooled = _position_sensitive(features, widened(rois), spatial_scale, group_size, output_dim)
    return pooled.to(input.dtype)


@reference("npu_ps_roi_pooling_backward")
def npu_ps_roi_pooling_backward(
    output_grad: Tensor,
    rois: Tensor,
    spatial_scale: float,
    group_size: int,
    output_dim: int,
    input_size: Sequence[int],
) -> Tensor:
    """The gradient of the features; ``input_size`` is their height and width."""
    given = widened(output_grad)
    shape = rois.size(0), output_dim * group_size**2, *input_size

    def forward(features: Tensor) -> Tensor:
        return _position_sensitive(features, widened(rois), spatial_scale, group_size, output_dim)

    gradient = vjp(forward, [given.new_zeros(shape)], [given])[0]
    assert gradient is not None
    return gradient.to(output_grad.dtype)

"""RoIAlign (He et al. 2017, "Mask R-CNN"): bilinear samples of a box, pooled in bins.

Upstream: ``mmcv.ops.roi_align`` (the compiled operator), mmcv 1.3 - 2.2.

Average pooling is linear and its weights are a product of one factor along y and
one along x. So per RoI and axis the weights of a bin on the pixel lines are summed
up first (samples that share a pixel meet here), only the lines that are touched
are kept, and a bin becomes a bag of pixels with the products as weights. Forward
is one weighted gather over all bags (``embedding_bag``, channels innermost);
backward is the same gather with the roles of bins and pixels exchanged, and
therefore as deterministic as the forward.

Max pooling gathers each sample on its own and lets them compete.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._bilinear import pixel_rows, weighted_bags
from ._check import check_same_device, check_tensor, compute_dtype
from ._roi_grid import bag_cost, bags, roi_axes, split
from ._roi_max import max_pool, max_pool_backward

__all__ = ["roi_align", "roi_align_backward", "roi_align_forward"]


def roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> Tensor:
    """Pool each RoI to a grid of bins.

    Args:
        input: (B, C, H, W) floating.
        rois: (R, 5) floating, ``image index, x1, y1, x2, y2`` in image coordinates.
        output_size: bins ``(height, width)``, or one number for both.
        spatial_scale: factor from image to ``input`` coordinates.
        sampling_ratio: samples a bin along each axis; 0 (or less) takes
            ``ceil(RoI size / bins)``, for each RoI and axis on its own.
        pool_mode: "avg" or "max" of the samples of a bin.
        aligned: pixel centres lie at half-integers (True), or the legacy of
            mmdet 1.x: at integers, and RoIs are at least one pixel wide (False).

    Returns:
        (R, C, height, width) in the dtype of ``input``, differentiable once, in
        ``input`` only. A sample more than a pixel outside the image is 0; a bin
        without samples (an empty RoI with ``sampling_ratio=0``) is 0. Half precision
        is calculated in float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor or not floating.
        ValueError: wrong shape, option or size, different devices, or (found on
            the CPU only, elsewhere undefined) an image index out of range.
    """
    size = (output_size, output_size) if isinstance(output_size, int) else output_size
    output, _, _ = roi_align_forward(
        input, rois, size, spatial_scale, sampling_ratio, pool_mode, aligned
    )
    return output


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: str,
    aligned: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """``roi_align`` with the coordinates of the maxima, as its backward wants them.

    Returns:
        output; argmax_y and argmax_x, in "max" mode shaped as output, the
        coordinates in ``input`` of the sample that won (the first of equals), -1
        where a bin has none; in "avg" mode empty. Their dtype is float32, or
        float64 for a float64 input.
    """
    check_tensor("roi_align", "input", input, ("B", "C", "H", "W"))
    check_tensor("roi_align", "rois", rois, ("R", 5))
    check_same_device("roi_align", input=input, rois=rois)
    _check_mode("roi_align", pool_mode)
    if len(output_size) != 2 or min(output_size) < 1:
        raise ValueError(f"roi_align: output_size: expected two sizes >= 1, got {output_size}")
    return roi_align_op(
        input,
        rois,
        list(output_size),
        float(spatial_scale),
        int(sampling_ratio),
        pool_mode,
        bool(aligned),
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    input_shape: tuple[int, ...],
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: str,
    aligned: bool,
) -> Tensor:
    """Gradient in ``input`` of shape ``input_shape``; the other arguments as forward had them."""
    name = "roi_align_backward"
    check_tensor(name, "grad_output", grad_output, ("R", "C", "height", "width"))
    check_tensor(name, "rois", rois, (grad_output.shape[0], 5))
    check_same_device(name, grad_output=grad_output, rois=rois)
    _check_mode(name, pool_mode)
    if len(input_shape) != 4 or input_shape[1] != grad_output.shape[1]:
        raise ValueError(
            f"{name}: input_shape: expected (B, {grad_output.shape[1]}, H, W), "
            f"got {tuple(input_shape)}"
        )
    if pool_mode == "max":
        for key, argmax in (("argmax_y", argmax_y), ("argmax_x", argmax_x)):
            check_tensor(name, key, argmax, tuple(grad_output.shape))
            check_same_device(name, **{"grad_output": grad_output, key: argmax})
    return roi_align_backward_op(
        grad_output,
        rois,
        argmax_y,
        argmax_x,
        list(input_shape),
        float(spatial_scale),
        int(sampling_ratio),
        pool_mode,
        bool(aligned),
    )


def _check_mode(op: str, pool_mode: str) -> None:
    if pool_mode not in ("avg", "max"):
        raise ValueError(f"{op}: pool_mode: expected 'avg' or 'max', got {pool_mode!r}")


_OPTIONS = "float spatial_scale, int sampling_ratio, str pool_mode, bool aligned"


@torch.library.custom_op(
    "mx_autopatch::roi_align",
    mutates_args=(),
    schema=f"(Tensor input, Tensor rois, SymInt[] output_size, {_OPTIONS})"
    " -> (Tensor output, Tensor argmax_y, Tensor argmax_x)",
)
def roi_align_op(
    input: Tensor,
    rois: Tensor,
    output_size: list[int],
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: str,
    aligned: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    images, channels, *sizes = input.shape
    dtype = compute_dtype(input.dtype)
    shape = (rois.shape[0], *output_size, channels)
    output = input.new_zeros(shape, dtype=dtype)
    argmax = output.new_full((2, *shape) if pool_mode == "max" else (2, 0, 0, 0, 0), -1)
    if output.numel() and input.numel():
        image = _images(rois, images)
        y, x = roi_axes(_wide(rois), output_size, sizes, spatial_scale, sampling_ratio, aligned)
        pixels = pixel_rows(input).to(dtype)
        if pool_mode == "max":
            max_pool(pixels, image, y, x, output, argmax)
        else:
            for part in split(bag_cost(y, x)):
                _, pixel, weight, count = bags(image[part], y[part], x[part])
                pooled = weighted_bags(pixels, pixel, weight.to(dtype), count)
                output[part] = pooled.view(-1, *shape[1:])
    # Copies in any case, because outputs of an operator must not share memory.
    output, argmax_y, argmax_x = (
        t.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
        for t in (output.to(input.dtype), *argmax)
    )
    if pool_mode == "max":
        return output, argmax_y, argmax_x
    return output, argmax_y.flatten(), argmax_x.flatten()


def _images(rois: Tensor, images: int) -> Tensor:
    image = rois[:, 0].long()
    # Elsewhere looking at the values would make the host wait for the device.
    if image.device.type == "cpu" and not 0 <= int(image.amin()) <= int(image.amax()) < images:
        raise ValueError(
            f"roi_align: rois: expected an image index in [0, {images}) in column 0, "
            f"got {int(image.amin())} to {int(image.amax())}"
        )
    return image


def _wide(rois: Tensor) -> Tensor:
    return rois.to(compute_dtype(rois.dtype))


@torch.library.custom_op(
    "mx_autopatch::roi_align_backward",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor rois, Tensor argmax_y, Tensor argmax_x, "
    f"SymInt[] input_shape, {_OPTIONS}) -> Tensor",
)
def roi_align_backward_op(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    input_shape: list[int],
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: str,
    aligned: bool,
) -> Tensor:
    images, channels, *sizes = input_shape
    dtype = compute_dtype(grad_output.dtype)
    if not (grad_output.numel() and min(input_shape)):
        return grad_output.new_zeros(input_shape)
    image = _images(rois, images)
    if pool_mode == "max":
        grad_input = grad_output.new_zeros(input_shape, dtype=dtype)
        max_pool_backward(grad_output, image, argmax_y, argmax_x, grad_input)
        return grad_input.to(grad_output.dtype)
    bins = list(grad_output.shape[2:])
    y, x = roi_axes(_wide(rois), bins, sizes, spatial_scale, sampling_ratio, aligned)
    grads = pixel_rows(grad_output).to(dtype).view(rois.shape[0], -1, channels)
    pixels: Tensor | None = None
    for part in split(bag_cost(y, x)):
        bin, pixel, weight, _ = bags(image[part], y[part], x[part])
        # The same entries ordered by pixel: now bins are gathered for each pixel.
        order = pixel.argsort(stable=True)
        count = pixel.bincount(minlength=images * sizes[0] * sizes[1])
        rows = grads[part].flatten(0, 1)
        more = weighted_bags(rows, bin[order], weight[order].to(dtype), count)
        pixels = more if pixels is None else pixels.add_(more)
    assert pixels is not None  # as there are RoIs
    grad_input = grad_output.new_empty(input_shape)
    # Image by image: torch transposes a matrix in blocks, twice as fast as it permutes.
    for plane, rows in zip(grad_input.flatten(2), pixels.chunk(images)):
        plane.copy_(rows.T)
    return grad_input


@roi_align_op.register_fake
def _(
    input: Tensor,
    rois: Tensor,
    output_size: list[int],
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: str,
    aligned: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    output = input.new_empty((rois.shape[0], input.shape[1], *output_size))
    shape = output.shape if pool_mode == "max" else (0,)
    dtype = compute_dtype(input.dtype)
    return output, output.new_empty(shape, dtype=dtype), output.new_empty(shape, dtype=dtype)


@roi_align_backward_op.register_fake
def _(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    input_shape: list[int],
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: str,
    aligned: bool,
) -> Tensor:
    return grad_output.new_empty(input_shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    input, rois, _, *ctx.options = inputs
    ctx.input_shape = input.shape
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(rois, *output[1:])


def _backward(ctx: Any, grad: Tensor | None, *unused: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is not None:
        grad = roi_align_backward_op(grad, *ctx.saved_tensors, ctx.input_shape, *ctx.options)
    return grad, None, None, None, None, None, None


roi_align_op.register_autograd(_backward, setup_context=_setup_context)

"""Multi-scale deformable attention.

Zhu et al. 2021, "Deformable DETR: Deformable Transformers for End-to-End Object Detection".
Upstream: ``mmcv.ops.MultiScaleDeformableAttnFunction`` (compiled), mmcv 1.4 - 2.2.

A head of a query is one weighted gather: four pixels for each of its points on all
levels, weighted by bilinear weight times attention. Queries are taken some at a
time, so that indices and weights stay in the cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._attended import Maps, Points, query_parts
from ._check import check_same_device, check_tensor
from ._sampling import sampled, scattered

__all__ = ["ms_deform_attn", "ms_deform_attn_backward"]

_POINTS = 1 << 15  # at a time


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sum samples of feature maps, weighted by attention.

    Args:
        value: (B, S, heads, D) floating; the levels' maps one after another, each
            flattened in rows.
        spatial_shapes: (levels, 2) int64, height and width.
        level_start_index: (levels,) int64, where in S each level begins.
        sampling_locations: (B, Q, heads, levels, points, 2) floating, ``x, y`` with the
            map from 0 to 1. Beyond it a map is 0; NaN is beyond.
        attention_weights: (B, Q, heads, levels, points) floating.

    Returns:
        (B, Q, heads * D) in the dtype of ``value``, differentiable once in ``value``,
        ``sampling_locations`` and ``attention_weights``. Half precision is calculated
        in float32 and rounded once; locations may be float32 beside a half ``value``.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, different devices, or a level that reaches beyond ``value``.

    The host reads the sizes of the levels, and waits for the device to have them.
    """
    tensors = value, spatial_shapes, level_start_index, sampling_locations, attention_weights
    _check("ms_deform_attn", *tensors)
    return ms_deform_attn_op(*tensors)


def ms_deform_attn_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in ``value``, ``sampling_locations`` and ``attention_weights``."""
    name = "ms_deform_attn_backward"
    tensors = value, spatial_shapes, level_start_index, sampling_locations, attention_weights
    _check(name, *tensors)
    shape = (*sampling_locations.shape[:2], value.shape[2] * value.shape[3])
    check_tensor(name, "grad_output", grad_output, shape)
    check_same_device(name, value=value, grad_output=grad_output)
    return ms_deform_attn_backward_op(grad_output, *tensors, [True, True, True])


def _check(
    op: str,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> None:
    check_tensor(op, "value", value, ("B", "S", "heads", "D"))
    check_tensor(op, "spatial_shapes", spatial_shapes, ("levels", 2), torch.int64)
    batch, _, heads, _ = value.shape
    levels = spatial_shapes.shape[0]
    check_tensor(op, "level_start_index", level_start_index, (levels,), torch.int64)
    shape = (batch, "Q", heads, levels, "points", 2)
    check_tensor(op, "sampling_locations", sampling_locations, shape)
    check_tensor(op, "attention_weights", attention_weights, tuple(sampling_locations.shape[:5]))
    check_same_device(
        op,
        value=value,
        spatial_shapes=spatial_shapes,
        level_start_index=level_start_index,
        sampling_locations=sampling_locations,
        attention_weights=attention_weights,
    )


_TENSORS = (
    "Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
    "Tensor sampling_locations, Tensor attention_weights"
)


@torch.library.custom_op(
    "mx_autopatch::ms_deform_attn", mutates_args=(), schema=f"({_TENSORS}) -> Tensor"
)
def ms_deform_attn_op(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    batch, queries, heads, levels, points = attention_weights.shape
    output = value.new_zeros((batch, queries, heads * value.shape[3]))
    if not (output.numel() and value.numel() and attention_weights.numel()):
        return output
    maps = Maps(value, spatial_shapes, level_start_index)
    locations, attention = sampling_locations.flatten(0, 1), attention_weights.flatten(0, 1)
    flat = output.view(batch * queries, heads, -1)
    for part, image in query_parts(sampling_locations, _POINTS):
        some = Points(maps, locations[part], attention[part], image, spatial_shapes)
        sums = sampled(maps.rows, some.row, some.weight(), 4 * levels * points)
        flat[part] = sums.view(-1, *flat.shape[1:])
    return output


@torch.library.custom_op(
    "mx_autopatch::ms_deform_attn_backward",
    mutates_args=(),
    schema=f"(Tensor grad_output, {_TENSORS}, bool[] needed) -> (Tensor, Tensor, Tensor)",
)
def ms_deform_attn_backward_op(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = value, sampling_locations, attention_weights
    grad_value, grad_locations, grad_attention = (
        t.new_zeros(t.shape if want else (0,)) for t, want in zip(tensors, needed)
    )
    if not (grad_output.numel() and value.numel() and attention_weights.numel()):
        return grad_value, grad_locations, grad_attention
    maps = Maps(value, spatial_shapes, level_start_index)
    locations, attention = sampling_locations.flatten(0, 1), attention_weights.flatten(0, 1)
    # Contiguous, as the gradient of a sum is not; products of such matrices are slow.
    grad = grad_output.reshape(-1, *value.shape[2:]).to(maps.rows.dtype).contiguous()
    entries: list[tuple[Tensor, Tensor]] = []
    for part, image in query_parts(sampling_locations, _POINTS // 4):
        some = Points(maps, locations[part], attention[part], image, spatial_shapes)
        if needed[0]:
            entries.append((some.row.flatten(), some.weight().flatten()))
        if needed[1] or needed[2]:
            slopes, samples = some.gradients(maps, grad[part], spatial_shapes)
            if needed[1]:
                grad_locations.view(-1, *slopes.shape[1:])[part] = slopes
            if needed[2]:
                grad_attention.view(-1, *samples.shape[1:])[part] = samples
    if needed[0]:
        row, weight = (torch.cat(t) for t in zip(*entries))
        size = row.numel() // (grad.shape[0] * maps.heads)
        grads = scattered(grad.view(-1, maps.channels), row, weight, maps.rows.shape[0], size)
        maps.add_to_value(grads, grad_value)
    return grad_value, grad_locations, grad_attention


@ms_deform_attn_op.register_fake
def _(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    batch, queries = sampling_locations.shape[:2]
    return value.new_empty((batch, queries, value.shape[2] * value.shape[3]))


@ms_deform_attn_backward_op.register_fake
def _(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = value, sampling_locations, attention_weights
    grads = [t.new_empty(t.shape if want else (0,)) for t, want in zip(tensors, needed)]
    return grads[0], grads[1], grads[2]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needed = [ctx.needs_input_grad[i] for i in (0, 3, 4)]
    grads: list[Tensor | None] = [None] * 3
    if any(needed):
        results = ms_deform_attn_backward_op(grad, *ctx.saved_tensors, needed)
        grads = [g if want else None for g, want in zip(results, needed)]
    return grads[0], None, None, grads[1], grads[2]


ms_deform_attn_op.register_autograd(_backward, setup_context=_setup_context)

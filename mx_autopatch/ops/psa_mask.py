"""The mask of point-wise spatial attention.

Zhao et al. 2018, "PSANet: Point-wise Spatial Attention Network for Scene Parsing".
Upstream: ``mmcv.ops.psa_mask`` (compiled), mmcv 1.3 - 2.2.

Each output element is one input element or 0, so both directions are a gather.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ._check import check_tensor

__all__ = ["psa_mask", "psa_mask_backward"]

_TYPES = ("collect", "distribute")


def psa_mask(input: Tensor, psa_type: str, mask_size: tuple[int, int]) -> Tensor:
    """Spread masks relative to each pixel over the whole map.

    Args:
        input: (B, mh * mw, H, W) floating, for each pixel a mask centred on it.
        psa_type: "collect": the channel is the pixel that the mask points to, the place is
            the mask's own; "distribute": the other way round.
        mask_size: (mh, mw).

    Returns:
        (B, H * W, H, W) in the dtype of ``input``, 0 where a mask does not reach;
        differentiable.

    Raises:
        TypeError: ``input`` is no tensor or not floating.
        ValueError: wrong shape, or an unknown type.
    """
    mask = _check("psa_mask", psa_type, mask_size)
    check_tensor("psa_mask", "input", input, ("B", mask[0] * mask[1], "H", "W"))
    return psa_mask_op(input, psa_type, mask)


def psa_mask_backward(grad_output: Tensor, psa_type: str, mask_size: tuple[int, int]) -> Tensor:
    """Gradient in ``input``."""
    name = "psa_mask_backward"
    mask = _check(name, psa_type, mask_size)
    check_tensor(name, "grad_output", grad_output, ("B", "H * W", "H", "W"))
    _, channels, height, width = grad_output.shape
    if channels != height * width:
        raise ValueError(f"{name}: grad_output: expected {height * width} channels, got {channels}")
    return psa_mask_backward_op(grad_output, psa_type, mask)


def _check(op: str, psa_type: str, mask_size: tuple[int, int]) -> list[int]:
    if psa_type not in _TYPES:
        raise ValueError(f"{op}: psa_type: expected 'collect' or 'distribute', got {psa_type!r}")
    if len(mask_size) != 2 or min(mask_size) < 1:
        raise ValueError(f"{op}: mask_size: expected two sizes >= 1, got {mask_size}")
    return [int(size) for size in mask_size]


def _gather(source: Tensor, index: Tensor) -> Tensor:
    """Of ``source`` (B, N, H, W) the channels ``index`` (M, H, W); 0 for N."""
    source = pad(source, (0, 0, 0, 0, 0, 1))
    return source.gather(1, index.expand(source.shape[0], *index.shape))


def _transposed(output: Tensor) -> Tensor:
    """Channel and place exchanged."""
    return output.flatten(2).transpose(1, 2).contiguous().view(output.shape)


def _distances(size: int, reach: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """From each pixel (size,) to each pixel, and to each line of its mask (reach,)."""
    line = torch.arange(size, device=device)
    number = torch.arange(reach, device=device)
    return line[:, None] - line, (number - (reach - 1) // 2)[:, None] + line


@torch.library.custom_op(
    "mx_autopatch::psa_mask",
    mutates_args=(),
    schema="(Tensor input, str psa_type, SymInt[] mask_size) -> Tensor",
)
def psa_mask_op(input: Tensor, psa_type: str, mask_size: list[int]) -> Tensor:
    _, channels, height, width = input.shape
    (y, _), (x, _) = (
        _distances(size, reach, input.device) for size, reach in zip((height, width), mask_size)
    )
    # Lines of the mask: of the pixel that is pointed to, relative to the mask's own.
    y, x = y + (mask_size[0] - 1) // 2, x + (mask_size[1] - 1) // 2
    index = y[:, None, :, None] * mask_size[1] + x[None, :, None, :]
    inside = ((y >= 0) & (y < mask_size[0]))[:, None, :, None]
    inside = inside & ((x >= 0) & (x < mask_size[1]))[None, :, None, :]
    index = torch.where(inside, index, channels).flatten(0, 1)
    output = _gather(input, index)
    return output if psa_type == "collect" else _transposed(output)


@torch.library.custom_op(
    "mx_autopatch::psa_mask_backward",
    mutates_args=(),
    schema="(Tensor grad_output, str psa_type, SymInt[] mask_size) -> Tensor",
)
def psa_mask_backward_op(grad_output: Tensor, psa_type: str, mask_size: list[int]) -> Tensor:
    _, channels, height, width = grad_output.shape
    if psa_type == "distribute":
        grad_output = _transposed(grad_output)
    (_, y), (_, x) = (
        _distances(size, reach, grad_output.device)
        for size, reach in zip((height, width), mask_size)
    )
    index = y[:, None, :, None] * width + x[None, :, None, :]
    inside = ((y >= 0) & (y < height))[:, None, :, None]
    inside = inside & ((x >= 0) & (x < width))[None, :, None, :]
    return _gather(grad_output, torch.where(inside, index, channels).flatten(0, 1))


@psa_mask_op.register_fake
def _(input: Tensor, psa_type: str, mask_size: list[int]) -> Tensor:
    batch, _, height, width = input.shape
    return input.new_empty((batch, height * width, height, width))


@psa_mask_backward_op.register_fake
def _(grad_output: Tensor, psa_type: str, mask_size: list[int]) -> Tensor:
    batch, _, height, width = grad_output.shape
    return grad_output.new_empty((batch, mask_size[0] * mask_size[1], height, width))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, *ctx.options = inputs


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return psa_mask_backward_op(grad, *ctx.options), None, None


def _backward_of_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return psa_mask_op(grad, *ctx.options), None, None


# Linear, so the transpose's transpose is the operator again.
psa_mask_op.register_autograd(_backward, setup_context=_setup_context)
psa_mask_backward_op.register_autograd(_backward_of_backward, setup_context=_setup_context)

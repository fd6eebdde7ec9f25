"""Options, sizes and argument checks of deformable convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import pad

from ._check import check_same_device, check_tensor, pair

__all__ = ["beginning", "check_arguments", "of_beginning", "options_of", "output_size"]

# Stride, padding, dilation, groups, deform_groups.
Options = tuple[list[int], list[int], list[int], int, int]


def options_of(
    op: str,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    groups: int,
    deform_groups: int,
) -> Options:
    for key, value in (("groups", groups), ("deform_groups", deform_groups)):
        if value < 1:
            raise ValueError(f"{op}: {key}: expected at least 1, got {value}")
    pairs = pair(op, "stride", stride, 1), pair(op, "padding", padding, 0)
    return *pairs, pair(op, "dilation", dilation, 1), int(groups), int(deform_groups)


def output_size(
    input: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int]
) -> list[int]:
    sizes = zip(input.shape[2:], weight.shape[2:], stride, padding, dilation)
    return [(size + 2 * p - d * (kernel - 1) - 1) // s + 1 for size, kernel, s, p, d in sizes]


def beginning(tensor: Tensor, size: Sequence[int]) -> Tensor:
    """What mmcv's compiled operator reads of offsets or masks that are larger than the output.

    It takes each image's elements one after the other as if they had the output's height and
    width. mmdet's DyHead calls it so, with the offsets of a finer level, and weights were
    trained with that (microsoft/DynamicHead#25).
    """
    count = tensor.shape[1] * size[0] * size[1] if tensor.dim() == 4 else 0
    if tensor.dim() != 4 or tensor.shape[2:] == tuple(size) or tensor[:1].numel() < count:
        return tensor  # right, or to be complained about by the operator
    return tensor.flatten(1)[:, :count].reshape(*tensor.shape[:2], *size)


def of_beginning(grad: Tensor, tensor: Tensor) -> Tensor:
    """Gradient in ``tensor`` of that in its ``beginning``."""
    if grad.shape == tensor.shape:
        return grad
    rest = tensor[:1].numel() - grad[:1].numel()
    return pad(grad.flatten(1), (0, rest)).view(tensor.shape)


def check_arguments(
    op: str,
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    deform_groups: int,
) -> tuple[int, ...]:
    """Raise for a bad argument; return the shape of the output."""
    check_tensor(op, "input", input, ("B", "C", "H", "W"))
    batch, channels = input.shape[:2]
    for key, value in (("groups", groups), ("deform_groups", deform_groups)):
        if channels % value:
            raise ValueError(
                f"{op}: {key}: expected a divisor of the {channels} channels of input, got {value}"
            )
    check_tensor(op, "weight", weight, ("O", channels // groups, "kh", "kw"), input.dtype)
    out_channels, _, *kernel = weight.shape
    if out_channels % groups:
        raise ValueError(
            f"{op}: groups: expected a divisor of the {out_channels} filters of weight, "
            f"got {groups}"
        )
    size = output_size(input, weight, stride, padding, dilation)
    if min(size) < 1 or min(kernel) < 1:
        raise ValueError(
            f"{op}: input: expected a size that the kernel {tuple(kernel)} fits into, "
            f"got {tuple(input.shape[2:])}"
        )
    taps = deform_groups * kernel[0] * kernel[1]
    check_tensor(op, "offset", offset, (batch, 2 * taps, *size), input.dtype)
    if mask is not None:
        check_tensor(op, "mask", mask, (batch, taps, *size), input.dtype)
    if bias is not None:
        check_tensor(op, "bias", bias, (out_channels,), input.dtype)
    check_same_device(op, input=input, offset=offset, mask=mask, weight=weight, bias=bias)
    return batch, out_channels, *size

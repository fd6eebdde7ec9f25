"""Dropout, with masks of bits or of bytes.

A mask of bits is uint8, the first element in the lowest bit, 1 for what is kept, as long as
a multiple of 128 elements. The numbers are the CPU's, from the state of the npu's generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import reference, widened

__all__ = ["keep", "packed", "unpacked"]

_ALIGNED = 128


def keep(count: int, probability: float, seed: int, offset: int) -> Tensor:
    """``count`` booleans, true with this probability, the same for the same seed and offset."""
    generator = torch.Generator().manual_seed((seed * 0x9E3779B1 + offset) & ((1 << 63) - 1))
    return torch.rand(count, generator=generator) < probability


def packed(kept: Tensor) -> Tensor:
    """A mask of bits of booleans."""
    length = -(-kept.numel() // _ALIGNED) * _ALIGNED
    bits = torch.zeros(length, dtype=torch.uint8, device=kept.device)
    bits[: kept.numel()] = kept.reshape(-1)
    weights = 2 ** torch.arange(8, device=kept.device)
    return (bits.view(-1, 8) * weights).sum(1).to(torch.uint8)


def unpacked(mask: Tensor, shape: Sequence[int]) -> Tensor:
    """The booleans of a mask of bits."""
    bits = (mask.unsqueeze(1) >> torch.arange(8, device=mask.device)) & 1
    return bits.reshape(-1)[: torch.Size(shape).numel()].bool().reshape(tuple(shape))


def _applied(input: Tensor, kept: Tensor, p: float) -> Tensor:
    if p == 1:
        return torch.zeros_like(input)
    return torch.where(kept, widened(input) / (1 - p), 0.0).to(input.dtype)


def _seed() -> int:
    """A seed of the generator that is drawn from."""
    return int(torch.randint(1 << 62, ()))


def _checked(p: float) -> None:
    if not 0 <= p <= 1:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p}")


def _draws(given: dict[str, Any]) -> bool:
    return 0 < float(given["p"]) < 1


@reference("_npu_dropout", random=_draws)
def _npu_dropout(input: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """The input with elements dropped, the rest scaled up; and the mask of bits."""
    _checked(p)
    kept = keep(input.numel(), 1 - p, _seed() if 0 < p < 1 else 0, 0).view(input.shape)
    return _applied(input, kept, p), packed(kept)


@reference("npu_dropout_backward")
def npu_dropout_backward(grad_output: Tensor, mask: Tensor, p: float) -> Tensor:
    return _applied(grad_output, unpacked(mask, grad_output.shape), p)


@reference("npu_dropout_do_mask")
def npu_dropout_do_mask(input: Tensor, mask: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """The input under a mask of bits, scaled up, and the mask."""
    return _applied(input, unpacked(mask, input.shape), p), mask


@reference("npu_dropout_gen_mask", random=_draws)
def npu_dropout_gen_mask(
    size: Sequence[int],
    p: float,
    *,
    dtype: torch.dtype | None = None,
    layout: torch.layout | None = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
) -> Tensor:
    """A mask of bits for a tensor of this size."""
    _checked(p)
    return packed(keep(torch.Size(size).numel(), 1 - p, _seed() if 0 < p < 1 else 0, 0))


@reference("_npu_dropout_gen_mask.Tensor")
def _npu_dropout_gen_mask(
    input: Tensor,
    size: Sequence[int],
    p: float,
    seed: int,
    offset: int,
    *,
    parallel: bool | None = True,
    sync: bool | None = None,
) -> Tensor:
    """A mask of bits that seed and offset determine, on the device of ``input``."""
    return packed(keep(torch.Size(size).numel(), 1 - p, seed, offset)).to(input.device)


@reference("_dropout_with_byte_mask", random=_draws)
def _dropout_with_byte_mask(input: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """As ``_npu_dropout``; the mask has a byte an element, in the shape of the input."""
    _checked(p)
    kept = keep(input.numel(), 1 - p, _seed() if 0 < p < 1 else 0, 0).view(input.shape)
    return _applied(input, kept, p), kept.to(torch.uint8)


@reference("_dropout_with_byte_mask_backward")
def _dropout_with_byte_mask_backward(grad_output: Tensor, mask: Tensor, p: float) -> Tensor:
    return _applied(grad_output, mask.bool(), p)


def _softmax(input: Tensor, x1: Tensor, alpha: float, dim: int) -> Tensor:
    return torch.softmax(widened(x1) + widened(input) * alpha, dim)


@reference(
    "npu_dropout_with_add_softmax",
    random=lambda given: 0 < float(given["prob"]) < 1,
)
def npu_dropout_with_add_softmax(
    input: Tensor, x1: Tensor, alpha: float, prob: float, dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    """``dropout(softmax(input * alpha + x1))``, after its mask (bytes) and the softmax."""
    _checked(prob)
    softmax = _softmax(input, x1, alpha, dim).to(input.dtype)
    kept = keep(softmax.numel(), 1 - prob, _seed() if 0 < prob < 1 else 0, 0)
    result = _applied(softmax, kept.view(softmax.shape), prob)
    return kept.to(torch.uint8), softmax, result


@reference("npu_dropout_with_add_softmax_backward")
def npu_dropout_with_add_softmax_backward(
    grad: Tensor, mask: Tensor, softmax_out: Tensor, alpha: float, prob: float, dim: int
) -> tuple[Tensor, Tensor]:
    """Gradients of input and x1."""
    given = widened(_applied(grad, mask.bool().view(grad.shape), prob))
    p = widened(softmax_out)
    dx = p * (given - (given * p).sum(dim, keepdim=True))
    return (dx * alpha).to(grad.dtype), dx.to(grad.dtype)

"""Gradients that torch_npu gives torch's own operators, under names of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mx_autopatch.softnpu.aten.normalisation import batch_norm_gather_stats_with_counts
from mx_autopatch.softnpu.npu.reference import reference, vjp

__all__: list[str] = []

#: torch's numbers of reductions.
_REDUCTIONS = ("none", "mean", "sum")


@reference("npu_binary_cross_entropy_with_logits_backward")
def npu_binary_cross_entropy_with_logits_backward(
    grad_output: Tensor,
    input: Tensor,
    target: Tensor,
    weight_opt: Tensor | None,
    pos_weight_opt: Tensor | None,
    reduction: int,
) -> Any:
    def forward(x: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            x, target, weight_opt, reduction=_REDUCTIONS[reduction], pos_weight=pos_weight_opt
        )

    return vjp(forward, [input], [grad_output])[0]


def _kl_div(input: Tensor, target: Tensor, reduction: int, log_target: bool) -> Tensor:
    result: Tensor = torch.kl_div(input, target, reduction, log_target=log_target)
    return result


@reference("kl_div_backward")
def kl_div_backward(
    grad_output: Tensor,
    input: Tensor,
    target: Tensor,
    reduction: int = 1,
    *,
    log_target: bool = False,
) -> Any:
    return vjp(lambda x: _kl_div(x, target, reduction, log_target), [input], [grad_output])[0]


@reference("kl_div_target_backward")
def kl_div_target_backward(
    grad_output: Tensor,
    input: Tensor,
    target: Tensor,
    reduction: int = 1,
    *,
    log_target: bool = False,
) -> Any:
    return vjp(lambda t: _kl_div(input, t, reduction, log_target), [target], [grad_output])[0]


@reference("l1_loss_backward")
def l1_loss_backward(grad_output: Tensor, input: Tensor, target: Tensor, reduction: int) -> Any:
    def forward(x: Tensor) -> Tensor:
        return F.l1_loss(x, target, reduction=_REDUCTIONS[reduction])

    return vjp(forward, [input], [grad_output])[0]


@reference("npu_renorm_backward")
def npu_renorm_backward(grad: Tensor, input: Tensor, p: float, dim: int, maxnorm: float) -> Any:
    return vjp(lambda x: torch.renorm(x, p, dim, maxnorm), [input], [grad])[0]


@reference("repeat_interleave_backward_int")
def repeat_interleave_backward_int(
    grad: Tensor, input: Tensor, repeats: int, dim: int | None = None
) -> Any:
    return vjp(lambda x: torch.repeat_interleave(x, int(repeats), dim), [input], [grad])[0]


@reference("repeat_interleave_backward_tensor")
def repeat_interleave_backward_tensor(
    grad: Tensor, input: Tensor, repeats: Tensor, dim: int | None = None
) -> Any:
    return vjp(lambda x: torch.repeat_interleave(x, repeats, dim), [input], [grad])[0]


@reference("stft_backward")
def stft_backward(
    grad_output: Tensor,
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
) -> Any:
    def forward(x: Tensor) -> Tensor:
        return torch.stft(
            *(x, n_fft, hop_length, win_length, window),
            center=False,
            normalized=normalized,
            onesided=onesided,
            return_complex=return_complex,
        )

    return vjp(forward, [input], [grad_output])[0]


@reference("fft_r2c_backward")
def fft_r2c_backward(
    grad: Tensor, dim: Sequence[int], normalization: int, onesided: bool, last_dim_size: int
) -> Any:
    """``last_dim_size`` is the size that the real input has in the last of ``dim``."""
    shape = list(grad.shape)
    shape[dim[-1]] = last_dim_size
    x = torch.zeros(shape, dtype=grad.real.dtype, device=grad.device)

    def forward(real: Tensor) -> Any:
        return torch.ops.aten._fft_r2c(real, dim, normalization, onesided)

    return vjp(forward, [x], [grad])[0]


@reference("fft_c2r_backward")
def fft_c2r_backward(grad: Tensor, dim: Sequence[int], normalization: int) -> Tensor:
    """The half of the spectrum that a real result came from: what is twice in it counts twice."""
    result: Tensor = torch.ops.aten._fft_r2c(grad, dim, normalization, True)
    size = grad.size(dim[-1])
    twice = result.size(dim[-1]) - (2 if size % 2 == 0 else 1)
    if twice > 0:
        result.narrow(dim[-1], 1, twice).mul_(2)
    return result


@reference("batch_norm_reduce")
def batch_norm_reduce(input: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Sums of values and of squares for each channel, float32."""
    dims = [0, *range(2, input.dim())]
    wide = input.float()
    return wide.sum(dims), wide.square().sum(dims)


# torch_npu's name for the statistics of all ranks, from those of each.
reference("batch_norm_gather_stats_update")(batch_norm_gather_stats_with_counts)


@reference("scatter_update")
def scatter_update(input: Tensor, indices: Tensor, updates: Tensor, axis: int) -> Tensor:
    """A copy, in which a piece of each row is replaced: see ``scatter_update_``."""
    return scatter_update_(input.clone(), indices, updates, axis)


@reference("scatter_update_")
def scatter_update_(input: Tensor, indices: Tensor, updates: Tensor, axis: int) -> Tensor:
    """``updates[b]`` put into ``input[b]`` at ``indices[b]`` along ``axis``, in place.

    Args:
        indices: ``(B,)``; or ``(B, 2)``: the row of ``input`` and the place in it.
    """
    for b, place in enumerate(indices.tolist()):
        row, start = (b, place) if indices.dim() == 1 else place
        axis_of_row = axis % input.dim() - 1
        input[row].narrow(axis_of_row, start, updates.size(axis)).copy_(updates[b])
    return input


@reference("npu_scatter_nd_update")
def npu_scatter_nd_update(input: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    return npu_scatter_nd_update_(input.clone(), indices, updates)


@reference("npu_scatter_nd_update_")
def npu_scatter_nd_update_(input: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """``input[indices[i]] = updates[i]``, in place; the last axis of indices is a place."""
    input[tuple(indices.long().unbind(-1))] = updates
    return input

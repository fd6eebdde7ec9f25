"""Features of neighbours, weighted by scores over a bank of matrices.

Xu et al. 2021, "PAConv: Position Adaptive Convolution with Dynamic Kernel Assembling on
Point Clouds".
Upstream: ``mmcv.ops.assign_score_withk`` (compiled for CUDA only), mmcv 1.3.17 - 2.2.

A neighbour is a bag of its M feature rows, weighted by its scores, and of the M rows of the
centre, weighted by the scores negated: one weighted gather.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._check import check_same_device, check_tensor, compute_dtype
from ._sampling import sampled, scattered, with_zero_row

__all__ = ["assign_score_withk", "assign_score_withk_backward"]

_ELEMENTS = 1 << 20  # of gathered features at a time, in the gradient of the scores


def assign_score_withk(
    scores: Tensor, point_features: Tensor, center_features: Tensor, knn_idx: Tensor
) -> Tensor:
    """Sum ``scores * (point_features of the neighbour - center_features of the centre)``.

    Args:
        scores: (B, n, K, M) floating.
        point_features, center_features: (B, N, M, O) in the dtype of ``scores``.
        knn_idx: (B, n, K) int64, neighbours; the first of each row is the centre. A
            neighbour outside [0, N), or of a centre that is, gives 0.

    Returns:
        (B, O, n, K) in the dtype of ``scores``, summed over M; differentiable once, in all
        but ``knn_idx``. Half precision is calculated in float32 and rounded once. Upstream
        takes ``aggregate`` as well, and ignores it.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    _check("assign_score_withk", scores, point_features, center_features, knn_idx)
    return assign_score_withk_op(scores, point_features, center_features, knn_idx)


def assign_score_withk_backward(
    grad_output: Tensor,
    scores: Tensor,
    point_features: Tensor,
    center_features: Tensor,
    knn_idx: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in ``scores``, ``point_features`` and ``center_features``."""
    name = "assign_score_withk_backward"
    tensors = scores, point_features, center_features, knn_idx
    _check(name, *tensors)
    batch, number, neighbours, _ = scores.shape
    shape = (batch, point_features.shape[3], number, neighbours)
    check_tensor(name, "grad_output", grad_output, shape, scores.dtype)
    check_same_device(name, scores=scores, grad_output=grad_output)
    return assign_score_withk_backward_op(grad_output, *tensors)


def _check(op: str, scores: Tensor, points: Tensor, centers: Tensor, knn_idx: Tensor) -> None:
    check_tensor(op, "scores", scores, ("B", "n", "K", "M"))
    batch, number, neighbours, matrices = scores.shape
    shape = (batch, "N", matrices, "O")
    check_tensor(op, "point_features", points, shape, scores.dtype)
    check_tensor(op, "center_features", centers, tuple(points.shape), scores.dtype)
    check_tensor(op, "knn_idx", knn_idx, (batch, number, neighbours), torch.int64)
    check_same_device(
        op, scores=scores, point_features=points, center_features=centers, knn_idx=knn_idx
    )


class _Bags:
    """Rows of all points' features, then of all centres'; one bag of 2 M rows a neighbour."""

    def __init__(self, scores: Tensor, points: Tensor, centers: Tensor, knn_idx: Tensor) -> None:
        batch, number, matrices, channels = points.shape
        dtype = compute_dtype(scores.dtype)
        self.matrices = matrices
        rows = torch.cat((points.reshape(-1, channels), centers.reshape(-1, channels)))
        self.rows = with_zero_row(rows.to(dtype))
        known = (knn_idx >= 0) & (knn_idx < number)
        known = known & known[:, :, :1]
        image = torch.arange(batch, device=knn_idx.device)[:, None, None] * number
        # A centre's rows come as far behind as there are points' rows.
        center = knn_idx[:, :, :1].expand(knn_idx.shape) + batch * number
        both = torch.stack((knn_idx, center), -1) + image[..., None]
        number_of = torch.arange(matrices, device=knn_idx.device)
        row = both[..., None] * matrices + number_of
        self.row = row.masked_fill_(~known[..., None, None], -1).reshape(-1, 2 * matrices)
        # Zero in place of whatever the score is, which may be infinite.
        weight = scores.to(dtype).masked_fill(~known[..., None], 0)
        self.weight = torch.cat((weight, -weight), -1).reshape(-1, 2 * matrices)


@torch.library.custom_op(
    "mx_autopatch::assign_score_withk",
    mutates_args=(),
    schema="(Tensor scores, Tensor point_features, Tensor center_features, Tensor knn_idx)"
    " -> Tensor",
)
def assign_score_withk_op(
    scores: Tensor, point_features: Tensor, center_features: Tensor, knn_idx: Tensor
) -> Tensor:
    batch, number, neighbours, _ = scores.shape
    channels = point_features.shape[3]
    output = scores.new_zeros((batch, channels, number, neighbours))
    if output.numel() and point_features.numel():
        bags = _Bags(scores, point_features, center_features, knn_idx)
        sums = sampled(bags.rows, bags.row, bags.weight, 2 * bags.matrices)
        output.copy_(sums.view(batch, number, neighbours, channels).permute(0, 3, 1, 2))
    return output


@torch.library.custom_op(
    "mx_autopatch::assign_score_withk_backward",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor scores, Tensor point_features, Tensor center_features, "
    "Tensor knn_idx) -> (Tensor, Tensor, Tensor)",
)
def assign_score_withk_backward_op(
    grad_output: Tensor,
    scores: Tensor,
    point_features: Tensor,
    center_features: Tensor,
    knn_idx: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = scores, point_features, center_features
    grads = [t.new_zeros(t.shape) for t in tensors]
    if grad_output.numel() and point_features.numel():
        bags = _Bags(*tensors, knn_idx)
        matrices, channels = point_features.shape[2:]
        grad = grad_output.to(bags.rows.dtype).permute(0, 2, 3, 1).reshape(-1, channels)
        rows = bags.rows.shape[0] - 1
        features = scattered(grad, bags.row, bags.weight, rows, 2 * matrices)
        for target, half in zip(grads[1:], features.chunk(2)):
            target.copy_(half.view(target.shape))
        flat = grads[0].view(-1, matrices)
        step = max(_ELEMENTS // (2 * matrices * channels), 1)
        for begin in range(0, flat.shape[0], step):
            part = slice(begin, begin + step)
            row = bags.row[part].flatten()
            taps = bags.rows.index_select(0, row.where(row >= 0, bags.rows.shape[0] - 1))
            taps = taps.view(-1, 2 * matrices, channels).transpose(1, 2)
            dots = torch.bmm(grad[part, None], taps)[:, 0]
            flat[part] = dots[:, :matrices] - dots[:, matrices:]
    return grads[0], grads[1], grads[2]


@assign_score_withk_op.register_fake
def _(scores: Tensor, point_features: Tensor, center_features: Tensor, knn_idx: Tensor) -> Tensor:
    batch, number, neighbours, _ = scores.shape
    return scores.new_empty((batch, point_features.shape[3], number, neighbours))


@assign_score_withk_backward_op.register_fake
def _(
    grad_output: Tensor,
    scores: Tensor,
    point_features: Tensor,
    center_features: Tensor,
    knn_idx: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    tensors = scores, point_features, center_features
    grads = [t.new_empty(t.shape) for t in tensors]
    return grads[0], grads[1], grads[2]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *assign_score_withk_backward_op(grad, *ctx.saved_tensors), None


assign_score_withk_op.register_autograd(_backward, setup_context=_setup_context)

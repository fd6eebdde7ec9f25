"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import reference, unsupported, vjp, widened

__all__: list[str] = []


@reference("npu_linear")
def npu_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``."""
    return F.linear(input, weight, bias)


@reference("npu_linear_backward")
def npu_linear_backward(grad: Tensor, input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of input and weight."""
    rows = grad.reshape(-1, grad.size(-1))
    return grad @ weight, rows.T @ input.reshape(-1, input.size(-1))


def _bmm(input: Tensor, mat2: Tensor, output_sizes: Sequence[int]) -> Tensor:
    """``matmul``; where ``output_sizes`` is smaller, the sum over these dimensions."""
    product = torch.matmul(input, mat2)
    if not len(output_sizes) or list(product.shape) == list(output_sizes):
        return product
    if product.numel() == torch.Size(output_sizes).numel():
        return product.reshape(output_sizes)
    return product.sum_to_size(output_sizes)


@reference("npu_bmmV2")
def npu_bmmV2(input: Tensor, mat2: Tensor, output_sizes: Sequence[int]) -> Tensor:
    """A product of batches, summed to ``output_sizes`` unless these are empty."""
    return _bmm(input, mat2, output_sizes)


def _bmm_gradients(grad: Tensor, mat1: Tensor, mat2: Tensor) -> list[Any]:
    return vjp(torch.matmul, [mat1, mat2], [grad])


@reference("npu_bmm_v2_mat1_backward")
def npu_bmm_v2_mat1_backward(
    grad: Tensor, mat1: Tensor, mat2: Tensor, size: Sequence[int]
) -> Tensor:
    gradient: Tensor = _bmm_gradients(grad, mat1, mat2)[0]
    return gradient.reshape(size)


@reference("npu_bmm_v2_mat2_backward")
def npu_bmm_v2_mat2_backward(
    grad: Tensor, mat1: Tensor, mat2: Tensor, size: Sequence[int]
) -> Tensor:
    gradient: Tensor = _bmm_gradients(grad, mat1, mat2)[1]
    return gradient.reshape(size)


@reference("matmul_double_backward")
def matmul_double_backward(
    grad_self: Tensor | None,
    grad_other: Tensor | None,
    grad_out: Tensor,
    input: Tensor,
    other: Tensor,
    mask: Sequence[bool],
) -> tuple[Any, ...]:
    """Gradients of grad_out, input and other of ``matmul_backward``."""

    def backward(g: Tensor, a: Tensor, b: Tensor) -> Any:
        product = torch.matmul(a, b)
        return torch.autograd.grad(product, (a, b), g, create_graph=True)

    found = vjp(backward, [grad_out, input, other], [grad_self, grad_other])
    return tuple(g if wanted else None for g, wanted in zip(found, mask))


@reference("npu_transpose_batchmatmul")
def npu_transpose_batchmatmul(
    input: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    perm_x1: Sequence[int] | None = None,
    perm_x2: Sequence[int] | None = None,
    perm_y: Sequence[int] | None = None,
    batch_split_factor: int | None = 1,
) -> Tensor:
    """The permuted product of permuted matrices; the result is batch-second by default."""
    if bias is not None or scale is not None or batch_split_factor not in (None, 1):
        unsupported("npu_transpose_batchmatmul", "bias, scale or batch_split_factor")
    a = input.permute(*perm_x1) if perm_x1 else input
    b = weight.permute(*perm_x2) if perm_x2 else weight
    product = torch.matmul(widened(a), widened(b)).to(input.dtype)
    return product.permute(*(perm_y or (1, 0, 2))).contiguous()

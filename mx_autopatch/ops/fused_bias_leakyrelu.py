"""Bias and leaky ReLU in one.

Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN".
Upstream: ``mmcv.ops.fused_bias_leakyrelu`` (compiled for CUDA only), mmcv 1.3 - 2.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from ._check import check_same_device, check_tensor, compute_dtype

__all__ = ["fused_bias_leakyrelu"]


def fused_bias_leakyrelu(
    input: Tensor,
    bias: Tensor | None = None,
    reference: Tensor | None = None,
    negative_slope: float = 0.2,
    scale: float = 2**0.5,
) -> Tensor:
    """``leaky_relu(input + bias) * scale``.

    Args:
        input: (B, C, ...) floating.
        bias: (C,) in the dtype of ``input``, or None.
        reference: shaped as ``input``: what is not positive there takes the negative slope;
            None looks at ``input + bias``. So the gradient is this operator as well, with
            the output for reference.
        negative_slope: factor of what is not positive.
        scale: factor of the result.

    Returns:
        As ``input``, differentiable any number of times. Half precision is calculated in
        float32 and rounded once.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape or different devices.
    """
    name = "fused_bias_leakyrelu"
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}: input: expected a torch.Tensor, got {type(input).__name__}")
    if input.dim() < 2:
        raise ValueError(f"{name}: input: expected shape (B, C, ...), got {tuple(input.shape)}")
    check_tensor(name, "input", input, tuple(input.shape))
    if bias is not None:
        check_tensor(name, "bias", bias, (input.shape[1],), input.dtype)
    if reference is not None:
        check_tensor(name, "reference", reference, tuple(input.shape))
    check_same_device(name, input=input, bias=bias, reference=reference)
    options = float(negative_slope), float(scale)
    return fused_bias_leakyrelu_op(input, bias, reference, *options)


def _biased(input: Tensor, bias: Tensor | None) -> Tensor:
    dtype = compute_dtype(input.dtype)
    if bias is None:
        return input.to(dtype)
    return input.to(dtype) + bias.to(dtype).view(-1, *[1] * (input.dim() - 2))


@torch.library.custom_op(
    "mx_autopatch::fused_bias_leakyrelu",
    mutates_args=(),
    schema="(Tensor input, Tensor? bias, Tensor? reference, float negative_slope, float scale)"
    " -> Tensor",
)
def fused_bias_leakyrelu_op(
    input: Tensor,
    bias: Tensor | None,
    reference: Tensor | None,
    negative_slope: float,
    scale: float,
) -> Tensor:
    value = _biased(input, bias)
    if reference is None:
        output = leaky_relu(value, negative_slope)
    else:
        reference = reference.to(value.dtype)
        output = torch.ops.aten.leaky_relu_backward(value, reference, negative_slope, False)
    return torch.empty_like(input).copy_(output.mul_(scale))


@fused_bias_leakyrelu_op.register_fake
def _(
    input: Tensor,
    bias: Tensor | None,
    reference: Tensor | None,
    negative_slope: float,
    scale: float,
) -> Tensor:
    return torch.empty_like(input)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, bias, reference, *ctx.options = inputs
    # Not the output, whose sign depends on that of slope and scale.
    ctx.save_for_backward(*((input, bias) if reference is None else (reference, None)))


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    with torch.no_grad():
        reference = _biased(*ctx.saved_tensors)
    grad_input = fused_bias_leakyrelu_op(grad, None, reference, *ctx.options)
    grad_bias = None
    if ctx.needs_input_grad[1]:
        grad_bias = grad_input.sum([i for i in range(grad_input.dim()) if i != 1])
    return grad_input, grad_bias, None, None, None


fused_bias_leakyrelu_op.register_autograd(_backward, setup_context=_setup_context)

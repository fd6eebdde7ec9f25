"""Bias, activation, gain and clamp in one.

Karras et al. 2021, "Alias-Free Generative Adversarial Networks".
Upstream: ``mmcv.ops.bias_act`` (compiled for CUDA only), mmcv 2.0 - 2.2.

Two operators, differentiable twice: the function, and its derivative times something. Of
all activations but swish the derivatives follow from the output, so that the input need
not be kept; this is how upstream calls them, and why they take both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._activations import ACTIVATIONS
from ._check import check_same_device, check_tensor, compute_dtype

__all__ = ["bias_act", "bias_act_gradient", "default_gain"]


def default_gain(act: str) -> float:
    """What upstream multiplies with to keep the variance."""
    return 2**0.5 if act in ("relu", "lrelu", "swish") else 1.0


def bias_act(
    input: Tensor,
    bias: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float = 0.2,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """``act(input + bias) * gain``, clamped to plus or minus ``clamp``.

    Args:
        input: floating, of any shape.
        bias: (input.shape[dim],) in the dtype of ``input``, or None.
        dim: of ``input`` along which the bias goes.
        act: "linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus" or
            "swish".
        alpha: negative slope of "lrelu".
        gain: None takes the square root of 2 for "relu", "lrelu" and "swish", else 1.
        clamp: None for no limit.

    Returns:
        As ``input``, differentiable twice. Half precision is calculated in float32 and
        rounded once.

    Raises:
        TypeError: an argument is no tensor or of a wrong dtype.
        ValueError: wrong shape, different devices, or an unknown activation.
    """
    name = "bias_act"
    dim = _check(name, act, clamp, bias, dim, input=input)
    gain = default_gain(act) if gain is None else float(gain)
    return bias_act_op(input, bias, dim, act, float(alpha), gain, _limit(clamp))


def bias_act_gradient(
    grad: Tensor,
    input: Tensor | None,
    bias: Tensor | None,
    output: Tensor | None,
    grad_output: Tensor | None = None,
    order: int = 1,
    dim: int = 1,
    act: str = "linear",
    alpha: float = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
) -> Tensor:
    """``grad`` times the derivative of the given order, times ``grad_output`` if that is given.

    Args:
        grad: of the shape and dtype of what it differentiates.
        input, bias: as of ``bias_act``; wanted for "swish", else they may be None.
        output: what ``bias_act`` returned; may be None for "swish" and "linear".
        order: 1 or 2.
        Others as of ``bias_act``.
    """
    name = "bias_act_gradient"
    tensors = {"grad": grad, "input": input, "output": output, "grad_output": grad_output}
    dim = _check(name, act, clamp, bias, dim, **tensors)
    if order not in (1, 2):
        raise ValueError(f"{name}: order: expected 1 or 2, got {order}")
    missing = "input" if act == "swish" else "output"
    if tensors[missing] is None and (act != "linear" or clamp is not None):
        raise ValueError(f"{name}: {missing}: expected a tensor for {act!r}, got None")
    options = dim, act, float(alpha), float(gain), _limit(clamp)
    return bias_act_gradient_op(grad, input, bias, output, grad_output, order, *options)


def _limit(clamp: float | None) -> float:
    return -1.0 if clamp is None else float(clamp)


def _check(
    op: str,
    act: str,
    clamp: float | None,
    bias: Tensor | None,
    dim: int,
    **tensors: Tensor | None,
) -> int:
    """Raise for a bad argument; return the dimension counted from the front."""
    if act not in ACTIVATIONS:
        raise ValueError(f"{op}: act: expected one of {', '.join(ACTIVATIONS)}, got {act!r}")
    if clamp is not None and clamp < 0:
        raise ValueError(f"{op}: clamp: expected at least 0 or None, got {clamp}")
    (first, reference), *_ = tensors.items()
    if not isinstance(reference, Tensor):
        kind = type(reference).__name__
        raise TypeError(f"{op}: {first}: expected a torch.Tensor, got {kind}")
    shape = tuple(reference.shape)
    check_tensor(op, first, reference, shape)
    for key, tensor in tensors.items():
        if tensor is not None:
            check_tensor(op, key, tensor, shape, reference.dtype)
    if bias is not None:
        if not -len(shape) <= dim < len(shape):
            raise ValueError(f"{op}: dim: expected one of {len(shape)} dimensions, got {dim}")
        check_tensor(op, "bias", bias, (shape[dim],), reference.dtype)
    check_same_device(op, **tensors, bias=bias)
    return dim % max(len(shape), 1)


def _biased(input: Tensor, bias: Tensor | None, dim: int) -> Tensor:
    dtype = compute_dtype(input.dtype)
    if bias is None:
        return input.to(dtype)
    return input.to(dtype) + bias.to(dtype).view(-1, *[1] * (input.dim() - 1 - dim))


_OPTIONS = "int dim, str act, float alpha, float gain, float clamp"


@torch.library.custom_op(
    "mx_autopatch::bias_act",
    mutates_args=(),
    schema=f"(Tensor input, Tensor? bias, {_OPTIONS}) -> Tensor",
)
def bias_act_op(
    input: Tensor,
    bias: Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float,
) -> Tensor:
    output = ACTIVATIONS[act].value(_biased(input, bias, dim), alpha) * gain
    if clamp >= 0:
        output = output.clamp(-clamp, clamp)
    result = torch.empty_like(input)
    return result.copy_(output)


@torch.library.custom_op(
    "mx_autopatch::bias_act_gradient",
    mutates_args=(),
    schema="(Tensor grad, Tensor? input, Tensor? bias, Tensor? output, Tensor? grad_output, "
    f"int order, {_OPTIONS}) -> Tensor",
)
def bias_act_gradient_op(
    grad: Tensor,
    input: Tensor | None,
    bias: Tensor | None,
    output: Tensor | None,
    grad_output: Tensor | None,
    order: int,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float,
) -> Tensor:
    dtype = compute_dtype(grad.dtype)
    activation = ACTIVATIONS[act]
    reference = None
    if activation.of_input:
        assert input is not None
        reference = _biased(input, bias, dim)
        limited = activation.value(reference, alpha) * gain
    elif output is not None:
        limited = output.to(dtype)
        # A gain of 0 leaves nothing to tell the output from.
        reference = limited / gain if gain else torch.zeros_like(limited)
    result = grad.to(dtype) * gain
    derivative = activation.slope if order == 1 else activation.curve
    # Only "linear" does without a reference.
    slope = derivative(result if reference is None else reference, alpha)
    result = result * slope
    if grad_output is not None:
        result = result * grad_output.to(dtype)
    if clamp >= 0:
        result = torch.where(limited.abs() < clamp, result, 0)
    return torch.empty_like(grad).copy_(result)


@bias_act_op.register_fake
def _(input: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    return torch.empty_like(input)


@bias_act_gradient_op.register_fake
def _(grad: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(grad)


def _sum_to_bias(grad: Tensor, dim: int) -> Tensor:
    return grad.sum([i for i in range(grad.dim()) if i != dim])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, bias, *ctx.options = inputs
    ctx.save_for_backward(input, bias, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    input, bias, output = ctx.saved_tensors
    grad_input = bias_act_gradient_op(grad, input, bias, output, None, 1, *ctx.options)
    grad_bias = _sum_to_bias(grad_input, ctx.options[0]) if ctx.needs_input_grad[1] else None
    return grad_input, grad_bias, None, None, None, None, None


def _setup_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.order, dim, act, alpha, gain, clamp = inputs
    ctx.options = dim, act, alpha, gain, clamp
    ctx.save_for_backward(*tensors)


def _gradient_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    if ctx.order != 1:
        raise NotImplementedError("bias_act: is differentiable twice only")
    inner, input, bias, output, _ = ctx.saved_tensors
    grad_inner = grad_input = grad_bias = None
    if ctx.needs_input_grad[0]:
        grad_inner = bias_act_gradient_op(grad, input, bias, output, None, 1, *ctx.options)
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        # Through the input alone: the output, a function of it, stands for it.
        grad_input = bias_act_gradient_op(grad, input, bias, output, inner, 2, *ctx.options)
        if ctx.needs_input_grad[2]:
            grad_bias = _sum_to_bias(grad_input, ctx.options[0])
    return grad_inner, grad_input, grad_bias, *(None for _ in range(8))


bias_act_op.register_autograd(_backward, setup_context=_setup_context)
bias_act_gradient_op.register_autograd(_gradient_backward, setup_context=_setup_gradient)

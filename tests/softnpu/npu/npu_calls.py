"""Calls operators of torch_npu on the soft NPU, and compares them with what they should be."""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch import Tensor
from torch._C import _dispatch_has_kernel_for_dispatch_key as has_kernel

__all__ = ["call", "close", "gradients", "moved"]

#: Meta implementations of torch_npu that contradict its own kernels or documentation.
WRONG_META = {
    "npu_geglu_grad": "returns two tensors, the schema has one",
    "npu_deformable_conv2d": "lacks the argument modulated",
    "npu_fusion_attention_grad_v2": "fails: empty_like of a list",
    "npu_fusion_attention_grad_v3": "has a number for the gradient of no sink, not nothing",
}


def moved(value: Any, device: str) -> Any:
    """The value with its tensors on a device, in lists and tuples too."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (list, tuple)):
        return type(value)(moved(item, device) for item in value)
    return value


def call(name: str, *args: Any, meta: bool = True, **kwargs: Any) -> Any:
    """``torch.ops.npu.<name>`` of CPU tensors, computed on npu:0; the results on the CPU.

    Shapes and dtypes of the results must be those of torch_npu's Meta implementation, if it
    has one, unless ``meta`` is False.
    """
    packet, _, overload = name.partition(".")
    op = getattr(getattr(torch.ops.npu, packet), overload or "default")
    result = op(*moved(args, "npu"), **{k: moved(v, "npu") for k, v in kwargs.items()})
    full = f"npu::{name}"
    if meta and has_kernel(full, "Meta") and packet not in WRONG_META:
        expected = op(*moved(args, "meta"), **{k: moved(v, "meta") for k, v in kwargs.items()})
        assert _forms(result) == _forms(expected), (name, _forms(result), _forms(expected))
    return moved(result, "cpu")


def _forms(result: Any) -> Any:
    if isinstance(result, Tensor):
        return tuple(result.shape), result.dtype
    if isinstance(result, (list, tuple)):
        return [_forms(each) for each in result]
    return type(result).__name__


def gradients(function: Callable[..., Any], inputs: list[Tensor], seed: Tensor) -> list[Tensor]:
    """Gradients of ``(function(*inputs) * seed).sum()``, of the first result if several."""
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    result = function(*leaves)
    result = result[0] if isinstance(result, (tuple, list)) else result
    (result * seed.to(result.device)).sum().backward()
    return [torch.zeros(()) if t.grad is None else t.grad.cpu() for t in leaves]


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Equal to within ``tolerance`` of the largest value, and in shape; NaN equals NaN."""
    if isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            close(one, other, tolerance)
        return
    expected = torch.as_tensor(expected)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    finite = expected[expected.isfinite()]
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    torch.testing.assert_close(
        found.double(),
        expected.double(),
        rtol=0,
        atol=tolerance * max(largest, 1e-3),
        equal_nan=True,
    )


def agrees(
    name: str,
    plain: Callable[..., Tensor],
    inputs: list[Tensor],
    *rest: Any,
    tolerance: float = 1e-5,
    backward: bool = True,
    **kwargs: Any,
) -> Any:
    """An operator's first result and gradients are those of ``plain`` in float64 on the CPU.

    Gradients go through torch_npu's own autograd, which calls its backward operators.

    Returns:
        All results of the operator, on the CPU.
    """
    packet, _, overload = name.partition(".")
    op = getattr(getattr(torch.ops.npu, packet), overload or "default")
    leaves = [t.npu().requires_grad_(backward and t.is_floating_point()) for t in inputs]
    results = op(*leaves, *moved(rest, "npu"), **{k: moved(v, "npu") for k, v in kwargs.items()})
    first = results[0] if isinstance(results, (tuple, list)) else results
    wide = [
        t.double().requires_grad_(backward) if t.is_floating_point() else t.clone() for t in inputs
    ]
    expected = plain(*wide)
    close(first.detach().cpu(), expected.detach(), tolerance)
    if backward:
        seed = torch.randn(expected.shape, dtype=torch.float64)
        (expected * seed).sum().backward()
        first.backward(seed.to(first.dtype).npu())
        for leaf, other in zip(leaves, wide):
            if other.is_floating_point() and other.grad is not None:
                assert leaf.grad is not None
                assert leaf.grad.dtype == leaf.dtype
                close(leaf.grad.cpu(), other.grad, tolerance)
    call(name, *[t.detach() for t in inputs], *rest, **kwargs)  # against the Meta kernel
    return moved(results, "cpu")

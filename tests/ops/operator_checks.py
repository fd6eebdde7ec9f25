"""What holds for every operator, whatever it computes.

Each check takes a function of tensors only; options belong into the function.
"""

from __future__ import annotations

from typing import Callable

import torch

Function = Callable[..., torch.Tensor]


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Normal numbers; those of another dtype are the same, rounded."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)


def with_gradients(f: Function, tensors, wrt) -> tuple[torch.Tensor, ...]:
    """Output, and the gradients of a loss that weighs every element differently."""
    leaves = [t.detach().clone().requires_grad_(i in wrt) for i, t in enumerate(tensors)]
    output = f(*leaves)
    cotangent = torch.arange(1.0, output.numel() + 1).cos().view(output.shape).to(output.dtype)
    grads = torch.autograd.grad(output, [leaves[i] for i in wrt], cotangent, allow_unused=True)
    # What a reference never touched has a gradient of 0.
    grads = [torch.zeros_like(leaves[i]) if g is None else g for i, g in zip(wrt, grads)]
    return (output.detach(), *grads)


def assert_agree(f: Function, reference: Function, tensors, wrt=(0,), tolerance=1e-10) -> None:
    """Values and gradients in the tensors numbered ``wrt``."""
    for got, want in zip(with_gradients(f, tensors, wrt), with_gradients(reference, tensors, wrt)):
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def assert_rounded_once(f: Function, tensors, wrt=(0,)) -> None:
    """Half precision is calculated in float32: forward and backward."""
    for dtype in (torch.float16, torch.bfloat16):
        half = [t.to(dtype) if t.is_floating_point() else t for t in tensors]
        wide = [t.float() if t.is_floating_point() else t for t in half]
        for got, want in zip(with_gradients(f, half, wrt), with_gradients(f, wide, wrt)):
            assert got.dtype == dtype
            # The cotangents are rounded to half precision too, hence not equal throughout.
            epsilon = torch.finfo(dtype).eps
            torch.testing.assert_close(got.float(), want, rtol=4 * epsilon, atol=8 * epsilon)
        got, want = f(*half), f(*wide)
        torch.testing.assert_close(got, want.to(dtype), rtol=0, atol=0, equal_nan=True)


def assert_strides_do_not_matter(f: Function, tensors, wrt=(0,)) -> None:
    def strided(t: torch.Tensor) -> torch.Tensor:
        return torch.stack((t, t), -1)[..., 0] if t.dim() else t

    def reversed_memory(t: torch.Tensor) -> torch.Tensor:
        order = tuple(reversed(range(t.dim())))
        return t.permute(order).contiguous().permute(order)

    want = with_gradients(f, tensors, wrt)
    for view in (strided, reversed_memory):
        for got, expected in zip(
            with_gradients(lambda *t, view=view: f(*map(view, t)), tensors, wrt), want
        ):
            torch.testing.assert_close(got, expected)


def assert_arguments_are_left_alone(f: Function, tensors) -> None:
    before = [t.clone() for t in tensors]
    f(*tensors)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors))

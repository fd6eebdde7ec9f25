"""How a kernel of the device gets under an operator.

A *native* function takes the arguments of an operator and returns its result, or None
where the call is not covered; the portable implementation then has it. It is registered
under the dispatch key of torch_npu's tensors, which exists in every torch, so it does not
matter whether torch_npu is loaded before, later or never.
"""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch import Tensor
from torch._library.autograd import make_autograd_impl

__all__ = ["bind", "bind_differentiable", "vjp"]

Native = Callable[..., Any]

_DEVICE, _AUTOGRAD = "PrivateUse1", "AutogradPrivateUse1"

# Registrations end with the library object that made them.
_library = torch.library.Library("mx_autopatch", "IMPL")


def bind(op: Any, native: Native) -> None:
    """Below autograd: derivatives stay those of the operator."""
    # torch has no public name for the implementation that other devices take.
    portable = op._init_fn

    def kernel(*args: Any) -> Any:
        result = native(*args) if _is_npu(args) else None
        return portable(*args) if result is None else result

    _library.impl(op._name, kernel, _DEVICE)


def bind_differentiable(op: Any, native: Native) -> None:
    """At autograd, and below it for what needs no gradient.

    For a ``native`` that has derivatives of its own: what it keeps for them is not
    calculated twice. Compilers go on to see the operator: mx_driving's functions are none,
    and torch_npu has no meta functions for some of its own.
    """
    bind(op, native)
    # The formula that the operator was given, as it is registered for other devices.
    general = make_autograd_impl(op._opoverload, op)

    def kernel(keys: Any, *args: Any) -> Any:
        result = native(*args) if _is_npu(args) and _is_eager(args) else None
        return general(keys, *args) if result is None else result

    _library.impl(op._name, kernel, _AUTOGRAD, with_keyset=True)


def _is_npu(args: tuple[Any, ...]) -> bool:
    """Another device that is no part of torch may have the dispatch key instead."""
    first = next(a for a in args if isinstance(a, Tensor))
    return first.device.type == "npu"


def _is_eager(args: tuple[Any, ...]) -> bool:
    """Tensors that are fake or traced have classes of their own."""
    return all(type(a) in (Tensor, torch.nn.Parameter) for a in args if isinstance(a, Tensor))


def vjp(
    function: Callable[..., Tensor], tensors: tuple[Tensor, ...], grad: Tensor
) -> tuple[Tensor, ...]:
    """Gradients in ``tensors`` of an autograd.Function, called below autograd."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    with torch.enable_grad():
        output = function(*leaves)
    return torch.autograd.grad(output, leaves, grad)

"""How a reference implementation becomes the kernel of an operator of torch_npu.

A reference is a plain function on tensors of any device, with the argument names and
defaults of the operator's schema. ``@reference`` files it under the operators that it
computes; ``kernel_for`` makes the kernel, which calls it on CPU tensors on the same memory.

Derivatives are torch_npu's own: the autograd kernels that it registers save what they need
and call operators such as ``npu_rms_norm_backward``, which have references too. A reference
for one of these usually differentiates the forward one: ``vjp``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Callable, NoReturn, TypeVar

import torch
from torch import Tensor

from mx_autopatch.errors import SoftNpuError
from mx_autopatch.softnpu.alias import all_on_host, npu
from mx_autopatch.softnpu.kernels import computed
from mx_autopatch.softnpu.rng import drawing

__all__ = [
    "RANDOM",
    "REFERENCES",
    "kernel_for",
    "narrowed",
    "recording",
    "reference",
    "unsupported",
    "vjp",
    "widened",
    "without",
]

Function = TypeVar("Function", bound=Callable[..., Any])

#: Operator name (``npu::npu_rms_norm``) to the function that computes it.
REFERENCES: dict[str, Callable[..., Any]] = {}

#: Operators that draw from the default generator of their device: when, by their arguments.
RANDOM: dict[str, Callable[[dict[str, Any]], bool]] = {}


def reference(
    *names: str, random: Callable[[dict[str, Any]], bool] | None = None
) -> Callable[[Function], Function]:
    """File a function as the reference of these operators of the namespace npu.

    For an overload that ends in ``.out`` the function returns what belongs into ``out``.

    Args:
        random: Whether a call with these arguments (those given, by name) draws random
            numbers. Then torch's default generator is in the state of the npu's, which moves
            on.
    """

    def file(function: Function) -> Function:
        for name in names:
            full = f"npu::{name}"
            if full in REFERENCES:
                raise ValueError(f"two references for {full}")
            REFERENCES[full] = function
            if random is not None:
                RANDOM[full] = random
        return function

    return file


def unsupported(operator: str, what: str) -> NoReturn:
    """Refuse a use of an operator whose outcome is not documented, or not implemented."""
    raise SoftNpuError(f"npu::{operator}: {what} is not implemented on the soft NPU")


def without(operator: str, **given: Any) -> None:
    """Refuse what is given of arguments that are not implemented: anything but None and zero."""
    for name, value in given.items():
        if isinstance(value, Tensor) or value:
            unsupported(operator, f"argument {name}")


def widened(tensor: Tensor) -> Tensor:
    """In float32 if it is in float16 or bfloat16, as the kernels of the hardware compute."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def narrowed(results: Iterable[Tensor | None], like: Iterable[Tensor]) -> tuple[Any, ...]:
    """Each result in the dtype of the tensor at its place in ``like``."""
    pairs = zip(results, like)
    return tuple(r if r is None else r.to(other.dtype) for r, other in pairs)


_AUTOGRAD = torch._C.DispatchKeySet(torch._C.DispatchKey.AutogradCPU)
for _key in ("AutogradOther", "AutogradPrivateUse1", "ADInplaceOrView"):
    _AUTOGRAD = _AUTOGRAD | torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, _key))


@contextmanager
def recording() -> Iterator[None]:
    """Record for autograd, also below it, where a kernel is called."""
    included = torch._C._dispatch_tls_local_include_set()
    excluded = torch._C._dispatch_tls_local_exclude_set() - _AUTOGRAD
    with torch._C._ForceDispatchKeyGuard(included, excluded), torch.enable_grad():
        yield


def vjp(
    function: Callable[..., Any],
    inputs: Sequence[Tensor | None],
    gradients: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The gradients of a function's inputs, given those of its results.

    Args:
        function: Takes the inputs; returns a tensor, or several, of which the first are
            those that ``gradients`` belong to.
        inputs: None and tensors that are not floating point have no gradient.
        gradients: None for a result without influence.

    Returns:
        One gradient per input, zeros where the results do not depend on it, None where it
        has none.
    """
    leaves = [
        t.detach().requires_grad_() if t is not None and t.is_floating_point() else t
        for t in inputs
    ]
    wanted = [t for t in leaves if t is not None and t.requires_grad]
    with recording():
        results = function(*leaves)
        results = results if isinstance(results, (tuple, list)) else (results,)
        pairs = [
            (r, g.to(r.dtype))
            for r, g in zip(results, gradients)
            if g is not None and r.requires_grad
        ]
        found: Iterable[Tensor | None] = [None] * len(wanted)
        if pairs:
            outputs, given = zip(*pairs)
            found = torch.autograd.grad(outputs, wanted, given, allow_unused=True)
    rest = iter(found)
    gathered: list[Tensor | None] = []
    for leaf in leaves:
        if leaf is None or not leaf.requires_grad:
            gathered.append(None)
            continue
        gradient = next(rest)
        gathered.append(torch.zeros_like(leaf) if gradient is None else gradient)
    return [g if g is None else g.detach() for g in gathered]


def kernel_for(name: str, op: Any) -> Callable[..., Any]:
    """The kernel of an operator (an OpOverload) that has a reference."""
    function = REFERENCES[name]
    names = [argument.name for argument in op._schema.arguments]
    if "out" in names:
        if "out" in function.__annotations__:
            return _updating(function)
        function = _into(function)
    kernel = computed(op, by=function)
    draws = RANDOM.get(name)
    if draws is None:
        return kernel

    def random(*args: Any, **kwargs: Any) -> Any:
        if not draws({**dict(zip(names, args)), **kwargs}):
            return kernel(*args, **kwargs)
        tensors = [value for value in args if isinstance(value, Tensor)]
        device = tensors[0].device if tensors else torch.device(kwargs.get("device") or npu(-1))
        with drawing(device):
            return kernel(*args, **kwargs)

    return random


def _updating(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel for ``out`` tensors that are read as well, as optimizers do, and returned."""

    def kernel(*args: Any, out: Any, **kwargs: Any) -> Any:
        named = {key: all_on_host(value) for key, value in kwargs.items()}
        function(*all_on_host(args), **named, out=all_on_host(out))
        return tuple(out)

    return kernel


def _into(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that puts the result of another into ``out``."""

    def fill(*args: Any, out: Tensor, **kwargs: Any) -> Tensor:
        result = function(*args, **kwargs)
        return out.resize_(result.size()).copy_(result)

    return fill

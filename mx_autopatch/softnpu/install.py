"""Puts the soft NPU's kernels in the place of torch_npu's, at the dispatcher."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch._C import _dispatch_has_kernel_for_dispatch_key as _has_kernel

from mx_autopatch.softnpu import hccl
from mx_autopatch.softnpu.aten import FUNCTIONS, NATIVE, SPECIAL
from mx_autopatch.softnpu.form import overload
from mx_autopatch.softnpu.kernels import Kernel, computed, decomposed, refused
from mx_autopatch.softnpu.npu import COMPOSITE, REFERENCES, kernel_for, why_refused
from mx_autopatch.softnpu.npu import NATIVE as NPU_NATIVE

__all__ = ["install", "installed_kernels", "native_operators"]

_DEVICE, _AUTOGRAD = "PrivateUse1", "AutogradPrivateUse1"
_NAMESPACES = ("aten", "npu")

# Registrations end with the library object that made them.
_libraries: dict[str, torch.library.Library] = {}
_native: frozenset[str] = frozenset()
_kernels: dict[tuple[str, str], Kernel] = {}


def native_operators() -> frozenset[str]:
    """The operators for which the installed torch_npu has a kernel of its own.

    Names as in ``aten::add.Tensor``. Everything else it computes on the CPU, copying to
    and fro.
    """
    return _native or frozenset(name for name, _ in _registered())


def installed_kernels() -> Mapping[tuple[str, str], Kernel]:
    """(operator, dispatch key) -> the kernel that ``install`` put there; for the recorder."""
    return MappingProxyType(_kernels)


def install() -> str:
    """Replace every kernel of torch_npu that would need the hardware; does nothing twice.

    Returns:
        How many operators are computed, and how many are refused, in words.
    """
    global _native
    if _libraries:
        return "installed already"
    operators = list(_registered())
    _native = frozenset(name for name, _ in operators)
    # Backward operators of those: torch_npu has none, since it has derivatives of its own.
    operators += [(name, overload(name)) for name in FUNCTIONS if name not in _native]
    for namespace in _NAMESPACES:
        _libraries[namespace] = _lasting(torch.library.Library(namespace, "IMPL"))
    done = gone = 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*[Oo]verriding a previously registered kernel")
        for name, op in operators:
            if name in NATIVE or name in NPU_NATIVE:
                continue
            kernel = _kernel_for(name, op)
            _put(name, kernel, _DEVICE)
            _put_autograd(name, op, kernel)
            if kernel.__name__ == "refusal":
                gone += 1
            else:
                done += 1
        for name in COMPOSITE:
            _put(name, kernel_for(name, overload(name)), "CompositeImplicitAutograd")
    hccl.register()
    return f"{done} operators computed on the CPU, {gone} refused"


def _lasting(library: torch.library.Library) -> torch.library.Library:
    """The library, whose registrations the exit handlers of a program still find.

    torch takes a library's registrations back by an exit handler of its own, after which
    torch_npu's would be there again, and run for whatever is registered earlier or goes on
    in a daemon thread.
    """
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        found = finalizer.peek()
        if found is not None and found[0] is library:
            finalizer.atexit = False
    return library


def _registered() -> Iterator[tuple[str, Any]]:
    """Name and OpOverload of each operator with a kernel of torch_npu's."""
    for name in sorted(torch._C._dispatch_get_all_op_names()):
        if name.partition("::")[0] not in _NAMESPACES or not _has_kernel(name, _DEVICE):
            continue
        op = overload(name)
        if op is not None:  # else it is an implementation of what was never declared
            yield name, op


def _kernel_for(name: str, op: Any) -> Kernel:
    special = SPECIAL.get(name)
    if special is not None:
        return special
    if name in FUNCTIONS:
        return computed(op, by=FUNCTIONS[name])
    if name in REFERENCES:
        return kernel_for(name, op)
    if name.startswith("npu::"):
        return refused(name, why_refused(name))
    if _has_kernel(name, "CompositeImplicitAutograd"):
        return decomposed(op)
    on_cpu = ("CPU", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")
    if any(_has_kernel(name, key) for key in on_cpu):
        return computed(op)
    return refused(name)


def _put(name: str, kernel: Kernel, key: str, **how: Any) -> None:
    namespace, _, rest = name.partition("::")
    if not how:  # else it is torch's own derivative, not a kernel
        _kernels[name, key] = kernel
    _libraries[namespace].impl(rest, kernel, key, allow_override=True, **how)


def _put_autograd(name: str, op: Any, kernel: Kernel) -> None:
    """Replace torch_npu's own derivative of an operator, which calls its kernels directly."""
    if not _has_kernel(name, _AUTOGRAD):
        return
    if _has_kernel(name, "CompositeImplicitAutograd"):
        _put(name, kernel, _AUTOGRAD)
    elif _has_kernel(name, "Autograd"):
        _put(name, _as_elsewhere(name), _AUTOGRAD, with_keyset=True)


def _as_elsewhere(name: str) -> Kernel:
    """torch's own derivative, which every other device has."""
    general = torch.library.get_kernel(name, "AutogradCPU")

    def kernel(keys: Any, *args: Any, **kwargs: Any) -> Any:
        return general.call_boxed(keys, *args, **kwargs)

    return kernel

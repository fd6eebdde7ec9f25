"""Kernels for any operator that the CPU can compute.

A kernel is built once, from the operator's schema: which arguments are tensors, which are
written to, whether it draws random numbers. A call puts CPU tensors on the same memory in
the place of its npu tensors, lets the CPU compute, and copies new results to the device.
torch_npu registers no kernel for an operator that returns a view, save those that stay its
own (``aten/native.py``), so a result is either new or an argument that was written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import torch
from torch import Tensor

from mx_autopatch.softnpu.alias import (
    CPU,
    adopt,
    all_on_device,
    all_on_host,
    npu,
    on_device,
    on_host,
    owned_like,
)
from mx_autopatch.softnpu.form import Form
from mx_autopatch.softnpu.rng import drawing, drawn_from

__all__ = ["Kernel", "computed", "decomposed", "refused"]

Kernel = Callable[..., Any]


def computed(op: Any, by: Callable[..., Any] | None = None) -> Kernel:
    """A kernel that lets the CPU compute ``op`` (an OpOverload) on the same memory.

    Args:
        by: A function that does it, where the CPU has no kernel for the operator itself.
    """
    form = Form(op, by or op._op)
    if form.outs:
        return _into_outs(form)
    if form.device or form.draws:
        return _created(form)
    if form.written:
        return _in_place(form)
    return _functional(form)


def decomposed(op: Any) -> Kernel:
    """A kernel that follows torch's own composition of ``op`` out of simpler operators.

    For operators whose gradient comes from that composition: computed in one piece, they
    would have none.
    """
    # OpOverload.decompose prefers versions in Python, which differ in what out= becomes.
    composition = op._op_dk
    key = torch._C.DispatchKey.CompositeImplicitAutograd

    def kernel(*args: Any, **kwargs: Any) -> Any:
        return composition(key, *args, **kwargs)

    return kernel


def refused(name: str, why: str = "it runs on the hardware only") -> Kernel:
    """A kernel that says that there is none, rather than return memory nobody wrote."""

    def refusal(*args: Any, **kwargs: Any) -> Any:
        from mx_autopatch.errors import SoftNpuError

        raise SoftNpuError(
            f"{name} has no kernel on the soft NPU: {why}. Switch the patch or option that "
            "calls it off for the rehearsal, or register a kernel for it: "
            f"torch.library.impl({name!r}, 'PrivateUse1')"
        )

    return refusal


# ---- the kinds of kernels ------------------------------------------------------------------


def _functional(form: Form) -> Kernel:
    """For results that are all new."""
    call, hosted = form.call, form.hosted

    def kernel(*args: Any, **kwargs: Any) -> Any:
        values, index = hosted(args)
        if kwargs:
            named = {name: all_on_host(value) for name, value in kwargs.items()}
            result = call(*values, **named)
        else:
            result = call(*values)
        if isinstance(result, Tensor):
            return on_device(result, npu(index))
        return all_on_device(result, npu(index))

    return kernel


def _in_place(form: Form) -> Kernel:
    """For operators that write into arguments, and return these, new results or nothing."""
    call, hosted = form.call, form.hosted
    returned = form.returned[0] if len(form.returned) == 1 else None

    def kernel(*args: Any, **kwargs: Any) -> Any:
        values, index = hosted(args)
        named = {name: all_on_host(value) for name, value in kwargs.items()}
        try:
            result = call(*values, **named)
        except RuntimeError as error:
            if not _wants_memory(error):
                raise
            result = _grown(form, args, values, named)
        if returned is not None:
            return args[returned]
        return _results(form, result, args, index)

    return kernel


def _results(form: Form, result: Any, args: Sequence[Any], index: int) -> Any:
    if not form.returned:
        return None
    results = result if len(form.returned) > 1 else (result,)
    given = tuple(
        args[source] if source is not None else all_on_device(each, npu(index))
        for source, each in zip(form.returned, results)
    )
    return given if len(given) > 1 else given[0]


def _wants_memory(error: RuntimeError) -> bool:
    """Whether the CPU found that what it was to write to is too small.

    An alias cannot grow; then the operator is run once more, on memory that can.
    """
    return "not resizable" in str(error)


def _grown(form: Form, args: Sequence[Any], values: list[Any], named: dict[str, Any]) -> Any:
    """Compute on copies of what is written to, and let the npu tensors become like them."""
    for i in form.written:
        values[i] = values[i].clone()
    result = form.call(*values, **named)
    for i in form.written:
        adopt(args[i], values[i])
    return result


def _created(form: Form) -> Kernel:
    """For operators that are told a device, or draw random numbers."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        values, index = form.hosted(args)
        named = {name: all_on_host(value) for name, value in kwargs.items()}
        device = npu(index)
        if form.device is not None:
            if index < 0 or kwargs.get(form.device) is not None:
                device = _wanted(kwargs.get(form.device))
            named[form.device] = CPU
            named.pop("pin_memory", None)
        result = _drawn(form, device, values, named)
        return _results(form, result, args, device.index)

    return kernel


def _wanted(device: torch.device | None) -> torch.device:
    """The device that a factory was asked for, with its index."""
    if device is not None and device.index is not None:
        return device
    return npu(-1)


def _drawn(form: Form, device: torch.device, values: list[Any], named: dict[str, Any]) -> Any:
    """What the CPU computes with the random numbers of ``device``."""
    if form.generator is not None:
        place = form.names.index(form.generator)
        if place < len(values):
            values[place] = drawn_from(values[place], device)
        else:
            named[form.generator] = drawn_from(named.get(form.generator), device)
    elif form.draws:
        with drawing(device):
            return form.call(*values, **named)
    return form.call(*values, **named)


def _into_outs(form: Form) -> Kernel:
    """For results that go into ``out=`` arguments."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        outs = {name: kwargs.pop(name) for name in form.outs}
        values, index = form.hosted(args)
        for out in outs.values():
            for each in out if isinstance(out, (list, tuple)) else (out,):
                index = form.index_with(each, index, args)
        device = npu(index)
        named = {name: all_on_host(value) for name, value in kwargs.items()}
        # Random numbers cannot be drawn twice, so these are not put to the trial.
        hosts = _targets(outs, args, values, owned_like if form.draws else _writable)
        try:
            _drawn(form, device, values, {**named, **hosts})
        except RuntimeError as error:
            if not _wants_memory(error):
                raise
            hosts = _targets(outs, args, values, owned_like)
            form.call(*values, **named, **hosts)
        for name, out in outs.items():
            adopt(out, hosts[name])
        given = tuple(outs.values()) if form.returned else ()
        return given if len(given) > 1 else given[0] if given else None

    return kernel


def _targets(
    outs: dict[str, Any], args: Sequence[Any], values: list[Any], target: Callable[..., Any]
) -> dict[str, Any]:
    """What the CPU writes to; where an output is an argument too, it must be that one's alias.

    By that torch tells an operator in place, whose output is not resized, from others.
    """
    same = {id(given): value for given, value in zip(args, values) if isinstance(given, Tensor)}
    return {name: same[id(out)] if id(out) in same else target(out) for name, out in outs.items()}


def _writable(out: Any) -> Any:
    """The memory of an output; memory of its own for an empty one, which is to be resized."""
    if isinstance(out, (list, tuple)):
        return [_writable(each) for each in out]
    return on_host(out) if out.numel() else owned_like(out)

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

from mx_autopatch.softnpu.alias import CPU, adopt, npu, on_device, on_host, owned_like
from mx_autopatch.softnpu.rng import drawing, drawn_from

__all__ = ["Kernel", "computed", "decomposed", "device_of", "refused"]

Kernel = Callable[..., Any]

#: Operators that take tensors of the CPU beside those of the device, on the hardware too.
_MIXED = frozenset(
    (
        *("aten::index.Tensor", "aten::index.Tensor_out", "aten::_unsafe_index.Tensor"),
        *("aten::_index_put_impl_", "aten::index_put", "aten::index_put_"),
        *("aten::_unsafe_index_put", "aten::_pack_padded_sequence", "aten::_ctc_loss.Tensor"),
    )
)


def computed(op: Any, by: Callable[..., Any] | None = None) -> Kernel:
    """A kernel that lets the CPU compute ``op`` (an OpOverload) on the same memory.

    Args:
        by: A function that does it, where the CPU has no kernel for the operator itself.
    """
    form = _Form(op, by or op._op)
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


def device_of(arguments: Sequence[Any]) -> torch.device | None:
    """The device of the first npu tensor among the arguments, lists included."""
    for argument in arguments:
        if isinstance(argument, Tensor):
            if argument.device.type == "npu":
                return argument.device
        elif isinstance(argument, (list, tuple)):
            found = device_of(argument)
            if found is not None:
                return found
    return None


# ---- what a schema says --------------------------------------------------------------------


class _Form:
    """What the schema of an operator says about its arguments and results.

    Attributes:
        call: Computes the operator on CPU tensors.
        tensors, lists: Positions of the arguments that are tensors, and lists of tensors.
        written: Position and name of the arguments that are written to and are no outputs.
        outs: Names of the ``out=`` arguments.
        device, generator: Names of the arguments that are a device and a generator, if any.
        draws: Whether it draws random numbers.
    """

    def __init__(self, op: Any, call: Callable[..., Any]) -> None:
        schema = op._schema
        arguments = list(schema.arguments)
        kinds = [str(argument.type) for argument in arguments]
        self.call = call
        self.name = schema.name + (f".{schema.overload_name}" if schema.overload_name else "")
        self.mixed = self.name in _MIXED
        self.names = [argument.name for argument in arguments]
        positional = [i for i, argument in enumerate(arguments) if not argument.kwarg_only]
        self.tensors = [i for i in positional if kinds[i] in ("Tensor", "Optional[Tensor]")]
        self.lists = [i for i in positional if "List[" in kinds[i] and "Tensor" in kinds[i]]
        self.outs = [argument.name for argument in arguments if argument.is_out]
        self.written = [
            (i, argument.name)
            for i, argument in enumerate(arguments)
            if argument.is_write and not argument.is_out
        ]
        self.returned = [self._source(schema, result) for result in schema.returns]
        self.device = self._named(kinds, "Device")
        self.generator = self._named(kinds, "Generator")
        self.draws = self.generator is not None or torch.Tag.nondeterministic_seeded in op.tags

    def _named(self, kinds: list[str], kind: str) -> str | None:
        return next((name for name, each in zip(self.names, kinds) if kind in each), None)

    def _source(self, schema: Any, result: Any) -> int | None:
        """The position of the argument that a result is, where it is one written to."""
        if result.alias_info is None:
            return None
        for i, argument in enumerate(schema.arguments):
            alias = argument.alias_info
            if alias is not None and alias.before_set == result.alias_info.before_set:
                return i
        return None

    def hosted(self, args: Sequence[Any]) -> tuple[list[Any], int]:
        """The positional arguments with CPU tensors for npu tensors, and the device's index.

        The index is -1 where there is no npu tensor.
        """
        values, index, count = list(args), -1, len(args)
        for i in self.tensors:
            if i >= count:
                break
            value = values[i]
            if isinstance(value, Tensor):  # not None, nor a number that stands for a tensor
                index = self.together(value, index, args)
                values[i] = on_host(value)
        for i in self.lists:
            if i < count and values[i] is not None:
                for value in values[i]:
                    if value is not None:
                        index = self.together(value, index, args)
                values[i] = _hosted(values[i])
        return values, index

    def together(self, value: Tensor, index: int, args: Sequence[Any]) -> int:
        """The index of the device so far, when ``value`` comes to arguments on ``index``.

        Raises:
            RuntimeError: They are apart: torch's own words, as on the hardware. A scalar of
                the CPU may be anywhere.
        """
        where: int = value.get_device()
        if where == index or self.mixed:
            apart = where < 0 and not self.mixed and value.dim() > 0
        elif where < 0:
            apart = value.dim() > 0
        else:
            apart = index >= 0
        if apart:
            first = device_of(args)
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{value.device} and {first if where < 0 else npu(index)}! (in {self.name})"
            )
        return index if index >= 0 else where


def _hosted(value: Any) -> Any:
    if isinstance(value, Tensor):
        return on_host(value)
    if isinstance(value, (list, tuple)):
        return [_hosted(item) for item in value]
    return value


def _hosted_named(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: _hosted(value) for name, value in kwargs.items()} if kwargs else kwargs


def _on_device(result: Any, device: torch.device) -> Any:
    if isinstance(result, Tensor):
        return on_device(result, device)
    if isinstance(result, (list, tuple)):
        return type(result)(_on_device(item, device) for item in result)
    return result


# ---- the kinds of kernels ------------------------------------------------------------------


def _functional(form: _Form) -> Kernel:
    """For results that are all new."""
    call, hosted = form.call, form.hosted

    def kernel(*args: Any, **kwargs: Any) -> Any:
        values, index = hosted(args)
        result = call(*values, **_hosted_named(kwargs)) if kwargs else call(*values)
        if isinstance(result, Tensor):
            return on_device(result, npu(index))
        return _on_device(result, npu(index))

    return kernel


def _in_place(form: _Form) -> Kernel:
    """For operators that write into arguments, and return these, new results or nothing."""
    call, hosted = form.call, form.hosted
    returned = form.returned[0] if len(form.returned) == 1 else None

    def kernel(*args: Any, **kwargs: Any) -> Any:
        values, index = hosted(args)
        named = _hosted_named(kwargs)
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


def _results(form: _Form, result: Any, args: Sequence[Any], index: int) -> Any:
    if not form.returned:
        return None
    results = result if len(form.returned) > 1 else (result,)
    given = tuple(
        args[source] if source is not None else _on_device(each, npu(index))
        for source, each in zip(form.returned, results)
    )
    return given if len(given) > 1 else given[0]


def _wants_memory(error: RuntimeError) -> bool:
    """Whether the CPU found that what it was to write to is too small.

    An alias cannot grow; then the operator is run once more, on memory that can.
    """
    return "not resizable" in str(error)


def _grown(form: _Form, args: Sequence[Any], values: list[Any], named: dict[str, Any]) -> Any:
    """Compute on copies of what is written to, and let the npu tensors become like them."""
    for i, _ in form.written:
        values[i] = values[i].clone()
    result = form.call(*values, **named)
    for i, _ in form.written:
        adopt(args[i], values[i])
    return result


def _created(form: _Form) -> Kernel:
    """For operators that are told a device, or draw random numbers."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        values, index = form.hosted(args)
        named = _hosted_named(kwargs)
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


def _drawn(form: _Form, device: torch.device, values: list[Any], named: dict[str, Any]) -> Any:
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


def _into_outs(form: _Form) -> Kernel:
    """For results that go into ``out=`` arguments."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        outs = {name: kwargs.pop(name) for name in form.outs}
        values, index = form.hosted(args)
        for out in outs.values():
            for each in out if isinstance(out, (list, tuple)) else (out,):
                index = form.together(each, index, args)
        device = npu(index)
        named = _hosted_named(kwargs)
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

"""Kernels for any operator that the CPU can compute.

A kernel is built from the operator's schema, once: which arguments are written to, which
results are views, which are new. A call costs about ten microseconds on top of the CPU's
own time, most of it for the aliases and the memory of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import torch
from torch import Tensor

from mx_autopatch.softnpu.alias import CPU, on_device, on_host, view_of
from mx_autopatch.softnpu.rng import drawing, drawn_from

__all__ = ["Kernel", "computed", "decomposed", "device_of", "refused"]

Kernel = Callable[..., Any]

#: Operators that take tensors of the CPU beside those of the device, on the hardware too.
_MIXED = frozenset(
    (
        *("aten::copy_", "aten::_copy_from", "aten::index.Tensor", "aten::index.Tensor_out"),
        *("aten::_index_put_impl_", "aten::index_put", "aten::index_put_", "aten::_unsafe_index"),
        *("aten::_unsafe_index_put", "aten::_pack_padded_sequence", "aten::_cudnn_rnn"),
        *("aten::_ctc_loss", "aten::_copy_from_and_resize"),
    )
)


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


def _current(device: torch.device | None) -> torch.device:
    """The device that a factory was asked for, with its index."""
    if device is not None and device.index is not None:
        return device
    return torch.device("npu", torch.npu.current_device())


class _Call:
    """One call on its way to the CPU: turns arguments into aliases, and notes the device."""

    __slots__ = ("device", "mixed", "name")

    def __init__(self, name: str, mixed: bool) -> None:
        self.name, self.mixed = name, mixed
        self.device: torch.device | None = None

    def hosted(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            device = value.device
            if device.type == "npu":
                if self.device is None:
                    self.device = device
                elif device != self.device and not self.mixed:
                    raise self._apart(device)
                return on_host(value)
            if value.dim() and not self.mixed and device.type == "cpu":
                raise self._apart(device)
            return value
        if isinstance(value, (list, tuple)):
            return [self.hosted(item) for item in value]
        return value

    def _apart(self, device: torch.device) -> RuntimeError:
        other = self.device if self.device is not None else "npu"
        return RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{other} and {device}! (in {self.name})"
        )


def computed(op: Any) -> Kernel:
    """A kernel that lets the CPU compute ``op`` (an OpOverload) on the same memory."""
    schema = op._schema
    name = schema.name + (f".{schema.overload_name}" if schema.overload_name else "")
    mixed = name in _MIXED
    names = [argument.name for argument in schema.arguments]
    outs = [argument.name for argument in schema.arguments if argument.is_out]
    generator = next((a.name for a in schema.arguments if "Generator" in str(a.type)), None)
    device = next((a.name for a in schema.arguments if "Device" in str(a.type)), None)
    is_random = torch.Tag.nondeterministic_seeded in op.tags
    written = [_written(schema, result, names) for result in schema.returns]
    viewed = [bool(r.alias_info and not r.alias_info.is_write) for r in schema.returns]

    def special(call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """For factories and random operators; rare, hence not in the way of the others."""
        arguments = dict(zip(names, args), **kwargs)
        if device is not None and arguments.get(device) is not None:
            call.device = call.device or _current(arguments[device])
        elif device is not None and call.device is None:
            call.device = _current(None)
        hosted = {key: call.hosted(value) for key, value in arguments.items()}
        if device is not None:
            hosted[device] = CPU
            hosted.pop("pin_memory", None)
        at = call.device if call.device is not None else _current(None)
        if generator is not None:
            hosted[generator] = drawn_from(arguments.get(generator), at)
        if is_random and generator is None:
            with drawing(at):
                return op(**hosted), at
        return op(**hosted), at

    def into_outs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute beside the outputs, since an alias cannot be resized; then fill them in."""
        call = _Call(name, mixed)
        given = [kwargs[out] for out in outs]
        call.hosted([out for out in given])  # for the check of devices
        beside = {
            out: [_beside(t) for t in kwargs[out]]
            if isinstance(kwargs[out], (list, tuple))
            else _beside(kwargs[out])
            for out in outs
        }
        rest = {key: value for key, value in kwargs.items() if key not in beside}
        if is_random or generator is not None:
            at = call.device
            hosted = {k: call.hosted(v) for k, v in dict(zip(names, args), **rest).items()}
            assert at is not None
            if generator is not None:
                hosted[generator] = drawn_from(rest.get(generator), at)
                op(**hosted, **beside)
            else:
                with drawing(at):
                    op(**hosted, **beside)
        else:
            hosted_args = [call.hosted(value) for value in args]
            op(*hosted_args, **{k: call.hosted(v) for k, v in rest.items()}, **beside)
        for out in outs:
            _fill(kwargs[out], beside[out])
        return _returned(given)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        if outs:
            return into_outs(args, kwargs)
        call = _Call(name, mixed)
        if device is not None or generator is not None or is_random:
            result, at = special(call, args, kwargs)
        else:
            hosted = [call.hosted(value) for value in args]
            if kwargs:
                result = op(*hosted, **{k: call.hosted(v) for k, v in kwargs.items()})
            else:
                result = op(*hosted)
            at = call.device
        if len(written) == 1:
            return _one(result, 0, args, kwargs, at)
        if not written:
            return None
        return tuple(_one(value, i, args, kwargs, at) for i, value in enumerate(result))

    def _one(value: Any, i: int, args: Any, kwargs: Any, at: Any) -> Any:
        source = written[i]
        if source is not None:
            position, key = source
            return args[position] if position < len(args) else kwargs[key]
        if isinstance(value, Tensor):
            if viewed[i]:
                base = args[0]
                if _shares(value, base):
                    return view_of(base, value)
            return on_device(value, at) if value.device.type == "cpu" else value
        if isinstance(value, (list, tuple)):
            return [on_device(item, at) if isinstance(item, Tensor) else item for item in value]
        return value

    return kernel


def _written(schema: Any, result: Any, names: list[str]) -> tuple[int, str] | None:
    """Which argument a result is, if the operator returns what it has written to."""
    info = result.alias_info
    if info is None or not info.is_write:
        return None
    for argument in schema.arguments:
        other = argument.alias_info
        if other is not None and other.is_write and other.before_set == info.before_set:
            return names.index(argument.name), argument.name
    return None


def _shares(value: Tensor, base: Tensor) -> bool:
    return value.untyped_storage().data_ptr() == base.untyped_storage().data_ptr()


def _beside(out: Tensor) -> Tensor:
    return torch.empty(0, dtype=out.dtype)


def _fill(out: Any, result: Any) -> None:
    if isinstance(out, (list, tuple)):
        for one, value in zip(out, result):
            _fill(one, value)
        return
    if out.size() != result.size():
        torch._resize_output_(out, list(result.size()), out.device)
        if result.numel():
            out.as_strided_(result.size(), result.stride())
    on_host(out).copy_(result)


def _returned(given: list[Any]) -> Any:
    if len(given) != 1:
        return tuple(given)
    return given[0] if isinstance(given[0], Tensor) else None


def decomposed(op: Any) -> Kernel:
    """A kernel that follows torch's own composition of ``op`` out of simpler operators.

    For operators whose gradient comes from that composition: computed in one piece, they
    would have none.
    """

    def kernel(*args: Any, **kwargs: Any) -> Any:
        return op.decompose(*args, **kwargs)

    return kernel


def refused(name: str) -> Kernel:
    """A kernel that says that there is none, rather than return memory nobody wrote."""

    def refusal(*args: Any, **kwargs: Any) -> Any:
        from mx_autopatch.errors import SoftNpuError

        raise SoftNpuError(
            f"{name} has no kernel on the soft NPU; it runs on the hardware only. Switch the "
            "patch or option that calls it off for the rehearsal, or register a kernel for it: "
            f"torch.library.impl({name!r}, 'PrivateUse1')"
        )

    return refusal

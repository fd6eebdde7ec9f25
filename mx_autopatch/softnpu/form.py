"""What an operator's schema says, and its arguments as CPU tensors on the same memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import torch
from torch import Tensor

from mx_autopatch.softnpu.alias import CPU, all_on_host, npu, on_host

__all__ = ["Form", "device_of", "overload"]

#: Operators that take tensors of the CPU beside those of the device, on the hardware too.
_MIXED = frozenset(
    (
        *("aten::index.Tensor", "aten::index.Tensor_out", "aten::_unsafe_index.Tensor"),
        *("aten::_index_put_impl_", "aten::index_put", "aten::index_put_"),
        *("aten::_unsafe_index_put", "aten::_ctc_loss.Tensor"),
        "npu::npu_fusion_attention_v3",  # its lengths
    )
)


class Form:
    """What the schema of an operator says about its arguments and results.

    Attributes:
        call: Computes the operator on CPU tensors.
        tensors, lists: Positions of the arguments that are tensors, and lists of tensors.
        outs: Names of the ``out=`` arguments.
        written: Positions of the other arguments that are written to.
        returned: For each result the position of the argument that it is; None if it is new.
        device, generator: Names of the arguments that are a device and a generator, if any.
        takes_numbers: Whether the operator lets numbers stand for tensors.
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
        self.written = [i for i, a in enumerate(arguments) if a.is_write and not a.is_out]
        self.returned = [self._source(schema, result) for result in schema.returns]
        self.takes_numbers = torch._C._should_allow_numbers_as_tensors(op._opname)
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
                where = value.get_device()
                if where < 0:
                    self._check_host(value, args)
                else:
                    if index != where:
                        index = self._together(index, where)
                    values[i] = on_host(value)
            elif value is not None and not self.takes_numbers:
                values[i] = self._number(value, args)
        for i in self.lists:
            if i < count and values[i] is not None:
                for value in values[i]:
                    if value is not None:
                        index = self.index_with(value, index, args)
                values[i] = all_on_host(values[i])
        return values, index

    def _number(self, value: Any, args: Sequence[Any]) -> Tensor:
        """A number for an operator that wants a tensor: of a dtype that changes no other's."""
        first = next(each for each in args if isinstance(each, Tensor))
        return torch.tensor(value, dtype=torch.result_type(first, value), device=CPU)

    def index_with(self, value: Tensor, index: int, args: Sequence[Any]) -> int:
        """The index of the device, when ``value`` comes to arguments on ``index``.

        Raises:
            RuntimeError: They are apart: torch's own words, as on the hardware.
        """
        where = value.get_device()
        if where < 0:
            self._check_host(value, args)
            return index
        return self._together(index, where)

    def _check_host(self, value: Tensor, args: Sequence[Any]) -> None:
        """Let nothing but a scalar be on the CPU."""
        if value.dim() and not self.mixed:
            raise self._apart(device_of(args) or "npu", value.device)

    def _together(self, index: int, where: int) -> int:
        if index < 0:
            return where
        if index != where and not self.mixed:
            raise self._apart(npu(index), npu(where))
        return index

    def _apart(self, *devices: Any) -> RuntimeError:
        return RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{devices[0]} and {devices[1]}! (in {self.name})"
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


def overload(name: str) -> Any:
    """The OpOverload of a name such as ``aten::add.Tensor``; None if there is none."""
    namespace, _, rest = name.partition("::")
    packet, _, which = rest.partition(".")
    try:
        return getattr(getattr(getattr(torch.ops, namespace), packet), which or "default")
    except AttributeError:
        return None

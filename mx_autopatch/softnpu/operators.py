"""Where the installed torch_npu lets an operator run, asked of the dispatcher."""

from __future__ import annotations

import enum
from typing import Any

from torch._C import _dispatch_has_kernel_for_dispatch_key as _has_kernel

from mx_autopatch.softnpu.form import overload
from mx_autopatch.softnpu.install import native_operators

__all__ = ["Where", "has_meta", "name_of", "where"]


class Where(str, enum.Enum):
    """What runs an operator when it is called with tensors of an NPU."""

    NATIVE = "native"  # torch_npu has a kernel
    COMPOSITE = "composite"  # torch composes it of other operators
    CPU = "cpu"  # torch_npu copies the arguments to the CPU, and the results back
    NOTHING = "nothing"  # neither has a kernel: it fails

    def __str__(self) -> str:
        return self.value


def name_of(op: Any) -> str:
    """``aten::add.Tensor`` of an OpOverload; a default overload has no suffix."""
    schema = op._schema
    name: str = schema.name
    return f"{name}.{schema.overload_name}" if schema.overload_name else name


def where(name: str) -> Where:
    """Who runs the operator ``name``.

    A structured operator without a kernel of torch_npu's computes into new memory by its
    ``out`` overload: so that one's kernel decides.
    """
    if name in native_operators():
        return Where.NATIVE
    if _has_kernel(name, "CompositeImplicitAutograd"):
        return Where.COMPOSITE
    if _has_kernel(name, "CompositeExplicitAutogradNonFunctional"):
        out = _out_overload(name)
        if out is not None and where(out) in (Where.CPU, Where.NOTHING):
            return where(out)
        return Where.COMPOSITE
    if _has_kernel(name, "CompositeExplicitAutograd"):
        return Where.COMPOSITE
    if _has_kernel(name, "PrivateUse1"):
        return Where.NATIVE  # of another library, such as c10d
    return Where.CPU if _has_kernel(name, "CPU") else Where.NOTHING


def has_meta(name: str) -> bool:
    """Whether something says of what shape the results are, and looks at the arguments.

    For all of its own operators torch has something, if not under the key ``Meta``.
    """
    keys = ("Meta", "CompositeImplicitAutograd", "CompositeExplicitAutograd")
    return name.startswith("aten::") or any(_has_kernel(name, key) for key in keys)


def _out_overload(name: str) -> str | None:
    """The overload of the same operator that takes the same arguments, and where to write."""
    op = overload(name)
    if op is None:
        return None
    packet = op.overloadpacket
    # digamma_ computes by digamma.out
    base = name.partition(".")[0]
    if base.endswith("_") and not base.endswith("__"):
        plain = overload(base[:-1])
        packet = packet if plain is None else plain.overloadpacket
    arguments = [argument.name for argument in op._schema.arguments]
    for each in packet.overloads():
        schema = getattr(packet, each)._schema
        outs = [a.name for a in schema.arguments if a.is_out]
        if outs and [a.name for a in schema.arguments if not a.is_out] == arguments:
            return name_of(getattr(packet, each))
    return None

"""Every operator of the installed torch_npu, against its own schema."""

from __future__ import annotations

import inspect
from fnmatch import fnmatchcase

import pytest
import torch
from torch._C import _dispatch_has_kernel_for_dispatch_key as has_kernel

from mx_autopatch.errors import SoftNpuError
from mx_autopatch.softnpu.npu import COMPOSITE, NATIVE, REFERENCES
from mx_autopatch.softnpu.npu.refusals import REFUSED

ALL = sorted(
    name
    for name in torch._C._dispatch_get_all_op_names()
    if name.startswith("npu::") and has_kernel(name, "PrivateUse1")
)


def overload(name: str):
    packet, _, rest = name.partition("::")[2].partition(".")
    return getattr(getattr(torch.ops.npu, packet), rest or "default")


def refused(name: str) -> list[str]:
    return [pattern for pattern in REFUSED if fnmatchcase(name.partition("::")[2], pattern)]


def test_every_operator_is_computed_native_or_refused_with_a_reason() -> None:
    unknown = [n for n in ALL if n not in REFERENCES and n not in NATIVE and not refused(n)]
    assert not unknown
    assert not [name for name in NATIVE if name in REFERENCES]
    assert not [name for name in REFERENCES if name in NATIVE]


def test_nothing_is_listed_that_does_not_exist() -> None:
    assert set(REFERENCES) - set(COMPOSITE) <= set(ALL)
    assert set(NATIVE) <= set(ALL)
    left = [n.partition("::")[2] for n in ALL if n not in REFERENCES and n not in NATIVE]
    idle = [p for p in REFUSED if not any(fnmatchcase(name, p) for name in left)]
    assert not idle


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_arguments_are_those_of_the_schema(name: str) -> None:
    schema = overload(name)._schema
    parameters = inspect.signature(REFERENCES[name]).parameters
    wanted = [a for a in schema.arguments if a.name in parameters or a.name != "out"]
    # Families share a function, whose names are those of the first; the order must agree.
    same_names = REFERENCES[name].__name__ in name
    assert len(parameters) == len(wanted), (list(parameters), [a.name for a in wanted])
    for parameter, argument in zip(parameters.values(), wanted):
        if same_names or argument.kwarg_only:
            assert parameter.name == argument.name
        assert (parameter.kind is parameter.KEYWORD_ONLY) == argument.kwarg_only, argument.name
        if not argument.has_default_value():
            assert parameter.default is parameter.empty, argument.name
        else:
            assert parameter.default is not parameter.empty, argument.name
            expected = argument.default_value
            given = parameter.default
            assert (list(given) if isinstance(given, tuple) else given) == expected, argument.name


def test_a_refused_operator_says_its_name_and_why() -> None:
    name = "npu::npu_mm_all_reduce_base"
    with pytest.raises(SoftNpuError, match=r"npu::npu_mm_all_reduce_base .*HCCL"):
        overload(name)(torch.ones(2, 2).npu(), torch.ones(2, 2).npu(), "group")

"""Checks a function against the operators of torch_npu, without a device and without computing.

    result = check(lambda x, g: torch_npu.npu_rms_norm(x, g)[0], torch.ones(2, 8), torch.ones(8))
    print(result)                       # every operator, and what torch_npu says to it
    assert result.ok, result

The function is called with fake tensors of the device ``npu``: each operator meets its real
schema and torch_npu's own meta function, which say what they accept and of what shape and
type the result is. How much a meta function checks is torch_npu's affair: "accepted" means
that neither raised an error, not that a kernel would compute it.

On ``device = "contract"`` torch_npu's own derivatives are called; on the soft NPU, torch's
where torch has one. From the first check on, ``torch.npu`` counts one device where there is
none, since autograd asks it for its stream; it has no memory, so no real tensor gets there.
torch is not imported here, so that the stand-in for CANN can be loaded before it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from mx_autopatch.softnpu import runtime

__all__ = ["ContractResult", "OperatorCall", "TensorSpec", "check", "check_contract"]


class TensorSpec(NamedTuple):
    """What is known of a tensor without its values."""

    shape: tuple[int, ...]
    #: As torch names it, without ``torch.``: ``float32``.
    dtype: str
    device: str

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)} {self.device}"


@dataclass
class OperatorCall:
    """All calls of one operator that had one verdict."""

    #: ``npu::npu_rms_norm``, ``aten::add.Tensor``; ``torch.conv2d`` of what was refused before
    #: it came to an operator.
    name: str
    #: ``native``, ``composite``, ``cpu`` (falls back) or ``nothing`` (fails): who runs it.
    where: str
    #: Of the first call: TensorSpec for tensors, in lists too; anything else as it is.
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    count: int = 0
    #: None if it was accepted, else by what it was not: ``schema`` (the call does not fit the
    #: operator's declaration), ``call`` (torch's function raised before it called an
    #: operator), ``meta`` (its meta function raised), ``no meta`` (torch_npu
    #: has no meta function, so nothing is known of the result) or ``values`` (the result
    #: depends on values, which fake tensors lack; on an NPU the host waits for them).
    refused_by: str | None = None
    #: What the schema or meta function said.
    error: str = ""
    #: Whether torch_npu has a meta function; without one an in-place result is still known.
    has_meta: bool = True

    @property
    def verdict(self) -> str:
        """In words."""
        if self.refused_by is None:
            return (
                "accepted" if self.has_meta else "accepted by its schema; it has no meta function"
            )
        return f"{self.refused_by}: {self.error}"


@dataclass(frozen=True)
class ContractResult:
    """What became of a function on fake npu tensors. ``str()`` of it is a table."""

    calls: tuple[OperatorCall, ...]
    #: What the function returned, with a TensorSpec for each tensor; None after an error.
    output: Any
    #: What the function raised.
    error: Exception | None

    @property
    def ok(self) -> bool:
        """Whether it came to its end and nothing was refused on the way."""
        return self.error is None and not self.refused

    @property
    def refused(self) -> tuple[OperatorCall, ...]:
        """The calls that were not accepted, also where the function caught the error."""
        return tuple(call for call in self.calls if call.refused_by is not None)

    @property
    def fallbacks(self) -> tuple[OperatorCall, ...]:
        """The calls of operators for which torch_npu has no kernel."""
        return tuple(call for call in self.calls if call.where in ("cpu", "nothing"))

    def __getitem__(self, name: str) -> OperatorCall:
        """The first entry of the operator ``name``.

        Raises:
            KeyError: it was not called.
        """
        for call in self.calls:
            if call.name == name:
                return call
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(call.name == name for call in self.calls)

    def __str__(self) -> str:
        from mx_autopatch.softnpu.contract_text import text

        return text(self)


def check(
    function: Callable[..., Any], *args: Any, backward: bool = False, **kwargs: Any
) -> ContractResult:
    """Call ``function`` on fake npu tensors, and report on every operator that it calls.

    Args:
        function: Any callable. The parameters and buffers of modules that it is, is a method
            of, or refers to are fake npu tensors for the time of the call, and as they were
            afterwards; other tensors that it refers to stay where they are. What it stores
            in that time, in an attribute of a module say, stays a fake tensor.
        args, kwargs: Its arguments. Tensors in them, also in lists and dicts, stand for
            tensors of the device with their shape, strides, dtype and requires_grad, whatever
            device they are on; ``meta`` will do. What else has a method ``to``, such as
            mmengine's data elements, is taken ``.to("npu")``.
        backward: Also call ``backward`` on the sum of the results that require a gradient.

    Raises:
        SoftNpuError: torch-npu is not installed, or the stand-in for CANN cannot be loaded.
            What the function raises is in the result.
    """
    _load_torch_npu()
    from mx_autopatch.softnpu.fake import run

    return run(function, args, kwargs, backward)


#: The name under which the package offers it.
check_contract = check


def _load_torch_npu() -> None:
    if "torch_npu" in sys.modules:
        return
    from mx_autopatch.device import has_cann

    if not runtime.is_loaded() and not has_cann():
        runtime.load(0)
    if runtime.is_loaded():
        with runtime.as_installed():
            import torch_npu
    else:
        import torch_npu  # noqa: F401

"""Runs operators on a device and compares them with float64 on the CPU.

What is compared: each result, and each gradient for a random gradient of the results, of a
call on the device in float32, float16 and bfloat16, with the same call in float64 on the
CPU, whose arguments have exactly the same values, by an independent formulation
(``mx_autopatch.verify.references``).

Cases: "random"; "one" and "empty", of one and no box, point or row; "ties", of few different
numbers; "non-contiguous", arguments with gaps in memory; "nan" and "huge", in those
arguments that the contract allows it in; and each further option.
"""

from __future__ import annotations

import statistics
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

import torch
from torch import Tensor

from mx_autopatch.verify.check import Arguments, Check
from mx_autopatch.verify.comparison import Mismatch, difference
from mx_autopatch.verify.kernel import kernel_of
from mx_autopatch.verify.source import Source

__all__ = ["DTYPES", "Failure", "Verdict", "verify"]

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_ROUNDS, _SECONDS = 5, 0.1  # for the time of an operator


@dataclass(frozen=True)
class Failure:
    """A case that is out of tolerance, or raised."""

    dtype: str
    case: str
    what: str


@dataclass
class Verdict:
    """What came of one operator."""

    name: str
    reference: str
    cases: int = 0
    kernel: str = ""
    errors: dict[str, float] = field(default_factory=dict)
    milliseconds: float | None = None
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True)
class _Case:
    name: str
    number: int
    coarse: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def verify(check: Check, device: torch.device, seed: int = 0) -> Verdict:
    """Run all cases of an operator in all dtypes; never raises for what the operator does."""
    reference = f"{check.reference.__module__}:{check.reference.__qualname__}"
    verdict = Verdict(check.name, reference)
    # From the name as well, so that an operator's numbers do not depend on the others asked for.
    seed ^= zlib.crc32(check.name.encode())
    for case in _cases(check):
        references: dict[float, Any] = {}
        for dtype in DTYPES:
            _compare(check, case, dtype, device, seed, references, verdict)
    try:
        arguments = check.inputs(Source(seed), check.typical)
        call = _Call(check.function, _moved(arguments, torch.float32, device, check.fixed), ())
        verdict.kernel = kernel_of(call.forward)
        verdict.milliseconds = _time(call.forward, device)
    except Exception as error:
        verdict.failures.append(Failure("float32", "typical", _said(error)))
    return verdict


def _cases(check: Check) -> Iterator[_Case]:
    yield _Case("random", check.size)
    yield _Case("non-contiguous", check.size)
    yield _Case("ties", check.size, coarse=True, options=check.tied)
    for number, name in ((1, "one"), (0, "empty")):
        if number >= check.smallest:
            yield _Case(name, number)
    if check.special:
        yield _Case("nan", check.size)
    if check.special if check.huge is None else check.huge:
        yield _Case("huge", check.size)
    for options in check.variants:
        text = ", ".join(f"{key}={value}" for key, value in options.items())
        yield _Case(text, check.size, options=options)


def _compare(
    check: Check,
    case: _Case,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
    references: dict[float, Any],
    verdict: Verdict,
) -> None:
    """Run one case in one dtype, and note what came of it.

    Args:
        references: those of this case so far, by the factor of what is huge.
    """
    name = str(dtype).rpartition(".")[2]
    # 2 ** 40 is beyond float16.
    factor = 2.0 ** (8 if dtype == torch.float16 else 40) if case.name == "huge" else 1.0
    arguments = _arguments(check, case, seed, factor)
    verdict.cases += 1
    try:
        if factor not in references:
            wanted = _Call(check.reference, arguments, check.grads)
            references[factor] = wanted.both(seed, connected=False)
        moved = _moved(arguments, dtype, device, check.fixed)
        if case.name == "non-contiguous":
            moved = {key: _with_gaps(value) for key, value in moved.items()}
        result = _Call(check.function, moved, check.grads).both(seed)
        error, measure = difference(result, references[factor])
    except Mismatch as mismatch:
        verdict.failures.append(Failure(name, case.name, str(mismatch)))
        return
    except Exception as raised:
        verdict.failures.append(Failure(name, case.name, _said(raised)))
        return
    verdict.errors[name] = max(error, verdict.errors.get(name, 0.0))
    if measure > check.loss:
        verdict.failures.append(Failure(name, case.name, f"error {error:.1e}"))


def _arguments(check: Check, case: _Case, seed: int, factor: float) -> Arguments:
    arguments = {**check.inputs(Source(seed, case.coarse), case.number), **case.options}
    if case.name == "nan":
        for key in check.special:
            arguments[key].view(-1)[0] = torch.nan
    for key in check.special if check.huge is None else check.huge:
        arguments[key] = arguments[key] * factor
    return arguments


class _Call:
    """A function with its arguments, some of which want gradients."""

    def __init__(
        self, function: Callable[..., Any], arguments: Arguments, grads: tuple[str, ...]
    ) -> None:
        self._function = function
        self._leaves = {
            key: arguments[key].detach().requires_grad_()
            for key in grads
            if isinstance(arguments.get(key), Tensor)
        }
        self._arguments = {**arguments, **self._leaves}

    def forward(self) -> Any:
        return self._function(**self._arguments)

    def both(self, seed: int, connected: bool = True) -> list[Any]:
        """Results and gradients.

        Args:
            connected: there is a gradient even where it is 0; in a loop that nothing was
                added in there is none.
        """
        output = self.forward()
        results = [output]
        outputs = output if isinstance(output, (tuple, list)) else (output,)
        floats = [each for each in outputs if isinstance(each, Tensor) and each.requires_grad]
        leaves = list(self._leaves.values())
        if floats:
            cotangents = [_cotangent(each, seed) for each in floats]
            results += torch.autograd.grad(
                floats,
                leaves,
                cotangents,
                allow_unused=not connected,
                materialize_grads=not connected,
            )
        elif leaves and connected:
            raise Mismatch("the result has no gradient")
        else:
            results += [torch.zeros_like(leaf) for leaf in leaves]
        return results


def _cotangent(output: Tensor, seed: int) -> Tensor:
    return Source(seed + 1).values(*output.shape).to(output.device, output.dtype)


def _moved(
    arguments: Arguments, dtype: torch.dtype, device: torch.device, fixed: tuple[str, ...]
) -> Arguments:
    return {
        key: value.to(device, torch.float32 if key in fixed else dtype)
        if isinstance(value, Tensor) and value.is_floating_point()
        else value.to(device)
        if isinstance(value, Tensor)
        else value
        for key, value in arguments.items()
    }


def _with_gaps(value: Any) -> Any:
    """The same tensor, in every second place of memory and with its dimensions turned."""
    if not isinstance(value, Tensor) or not value.dim():
        return value
    turned = value.permute(*reversed(range(value.dim())))
    return torch.stack((turned, turned), -1)[..., 0].permute(*reversed(range(value.dim())))


def _time(call: Callable[[], object], device: torch.device) -> float:
    """Milliseconds, the median."""
    wait = getattr(getattr(torch, device.type, None), "synchronize", lambda: None)
    taken: list[float] = []
    wait()
    while len(taken) < _ROUNDS and sum(taken) < _SECONDS:
        start = time.perf_counter()
        call()
        wait()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"

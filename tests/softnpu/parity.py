"""The soft NPU beside the CPU, over torch's own database of operators.

Every sample of every operator (an OpInfo) is computed on both: forward, the gradients and,
for double precision, the gradients of the gradients; in place; and into ``out=`` tensors
that are to be resized or are not contiguous. What the CPU refuses, the soft NPU must refuse
with an error of the same type. Results agree in number, dtype, shape, stride and value;
both run the same code, so the tolerance only makes room for vectorised loops that begin
elsewhere because memory is aligned otherwise.

    python tests/softnpu/parity.py [--jobs 2] [--operators add,cat] [--samples 3]

prints the numbers of operators and samples, and each disagreement that ``parity_known.py`` does
not explain; the exit status is 1 if there is one, or if ``parity_known.py`` explains what agrees.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple

if __name__ == "__main__":
    from mx_autopatch.softnpu import runtime

    runtime.load()
    with runtime.as_installed():
        import torch
    from mx_autopatch.softnpu.install import install

    install()

import torch
from parity_compare import Disagreement, compare, names_device, placed
from parity_known import HOST_ARGUMENTS, KNOWN, LOOSER, UNINITIALISED
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_flatten, tree_map

DTYPES = (
    *(torch.float32, torch.float64, torch.int64, torch.bool),
    *(torch.float16, torch.bfloat16),
)
HOST, DEVICE = torch.device("cpu"), torch.device("npu:0")
SEED = 20


class Failure(NamedTuple):
    """One sample on which the two devices disagree."""

    operator: str
    variant: str
    dtype: str
    sample: int
    reason: str

    def __str__(self) -> str:
        return f"{self.operator} [{self.variant}, {self.dtype}, #{self.sample}]: {self.reason}"


class Tally:
    """What was compared, and what came of it."""

    def __init__(self) -> None:
        self.operators: set[str] = set()
        self.overloads: set[str] = set()
        self.checks: Counter[str] = Counter()
        self.failures: list[Failure] = []

    def as_json(self) -> str:
        return json.dumps(
            [sorted(self.operators), sorted(self.overloads), self.checks, self.failures]
        )

    def add_json(self, text: str) -> None:
        operators, overloads, checks, failures = json.loads(text)
        self.operators.update(operators)
        self.overloads.update(overloads)
        self.checks.update(checks)
        self.failures += [Failure(*each) for each in failures]


def full_name(info: Any) -> str:
    """``linalg.norm``, or ``linalg.norm.subgradients_at_zero`` for a variant of the test."""
    return info.name + (f".{info.variant_test_name}" if info.variant_test_name else "")


def run(infos: Sequence[Any], limit: int | None = None) -> Tally:
    """Compare the samples of ``infos``, at most ``limit`` of each dtype and variant."""
    from recording import Recorder

    tally = Tally()
    with Recorder() as recorder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are torch's, of both devices
        for info in infos:
            recorder.clear()
            for dtype in DTYPES:
                if dtype in info.supported_dtypes("cpu"):
                    _run_dtype(info, dtype, limit, tally, recorder)
            if recorder.names:
                tally.operators.add(full_name(info))
                tally.overloads |= recorder.names
    return tally


def _run_dtype(
    info: Any, dtype: torch.dtype, limit: int | None, tally: Tally, recorder: Any
) -> None:
    with_grad = info.supports_autograd and dtype in info.supported_backward_dtypes("cpu")
    torch.manual_seed(SEED)
    samples = info.sample_inputs("cpu", dtype, requires_grad=with_grad)
    for number, sample in enumerate(samples):
        if limit is not None and number >= limit:
            break
        if not names_device((sample.input, sample.args, sample.kwargs)):
            continue  # nothing would tell torch to use the soft NPU
        for variant, check in _variants(info, dtype, number, with_grad):
            recorder.draws = 0
            tally.checks[variant] += 1
            try:
                check(info, sample, recorder)
            except Disagreement as error:
                kind = str(dtype).replace("torch.", "")
                tally.failures.append(Failure(full_name(info), variant, kind, number, str(error)))


def _variants(
    info: Any, dtype: torch.dtype, number: int, with_grad: bool
) -> Iterator[tuple[str, Callable[..., None]]]:
    yield "forward", check_forward
    if with_grad:
        yield "backward", check_backward
    if with_grad and info.supports_gradgrad and dtype == torch.float64 and number < 3:
        yield "double backward", check_double_backward
    if info.inplace_variant is not None:
        yield "in place", check_in_place
    if info.supports_out:
        yield "out", check_out
        if number < 3:
            yield "out resized", check_out_resized
            yield "out strided", check_out_strided


# ---- one sample, both devices -------------------------------------------------------------


def both(
    sample: Any, recorder: Any, name: str, call: Callable[[Any, torch.device], Any]
) -> tuple[Any, Any] | None:
    """What ``call`` returns with the sample on the CPU and on the soft NPU.

    None where both refuse it alike.
    """
    results: list[Any] = []
    for device in (HOST, DEVICE):
        here = placed((sample.input, sample.args, sample.kwargs), device)
        if name in HOST_ARGUMENTS:
            here = (here[0], *placed((sample.args, sample.kwargs), HOST))
        torch.manual_seed(SEED)
        try:
            results.append(call(here, device))
        except Exception as error:
            results.append(error)
    host, ours = results
    if isinstance(host, Exception) or isinstance(ours, Exception):
        if type(host) is type(ours):
            return None
        raise Disagreement(f"the CPU: {_short(host)}; the soft NPU: {_short(ours)}")
    return host, ours


def _agree(pair: tuple[Any, Any] | None, info: Any, recorder: Any) -> None:
    if pair is not None:
        values = info.name not in UNINITIALISED and recorder.draws <= 1
        compare(*pair, values=values, factor=LOOSER.get(info.name, 1))


def _short(value: Any) -> str:
    if isinstance(value, Exception):
        return f"{type(value).__name__}: {str(value).splitlines()[0] if str(value) else ''}"[:200]
    return "computed it"


def check_forward(info: Any, sample: Any, recorder: Any) -> None:
    def call(here: Any, device: torch.device) -> Any:
        with torch.no_grad():
            result = info(here[0], *here[1], **here[2])
        return result, _is_view(result, here)

    _agree(both(sample, recorder, info.name, call), info, recorder)


def _is_view(result: Any, here: Any) -> list[bool]:
    """Of each result, whether it shares the memory of an argument."""
    given = {x.untyped_storage().data_ptr() for x in _tensors(here) if x.layout == torch.strided}
    return [
        x.numel() > 0 and x.untyped_storage().data_ptr() in given
        for x in _tensors(result)
        if x.layout == torch.strided
    ]


def _differentiable(sample: Any, result: Any) -> list[torch.Tensor]:
    if sample.output_process_fn_grad is not None:
        result = sample.output_process_fn_grad(result)
    leaves = tree_flatten(result)[0]
    return [x for x in leaves if isinstance(x, torch.Tensor) and x.requires_grad]


def _gradients(
    outputs: list[torch.Tensor], inputs: list[torch.Tensor], again: bool = False
) -> list[torch.Tensor | None]:
    torch.manual_seed(SEED + 1)
    cotangents = [torch.randn(x.shape, dtype=x.dtype).to(x.device) for x in outputs]
    return list(
        torch.autograd.grad(outputs, inputs, cotangents, allow_unused=True, create_graph=again)
    )


def _leaves(here: Any) -> list[torch.Tensor]:
    return [x for x in tree_flatten(here)[0] if isinstance(x, torch.Tensor) and x.requires_grad]


def check_backward(info: Any, sample: Any, recorder: Any) -> None:
    def call(here: Any, device: torch.device) -> Any:
        result = info(here[0], *here[1], **here[2])
        outputs, inputs = _differentiable(sample, result), _leaves(here)
        return _gradients(outputs, inputs) if outputs and inputs else []

    _agree(both(sample, recorder, info.name, call), info, recorder)


def check_double_backward(info: Any, sample: Any, recorder: Any) -> None:
    def call(here: Any, device: torch.device) -> Any:
        result = info(here[0], *here[1], **here[2])
        outputs, inputs = _differentiable(sample, result), _leaves(here)
        first = _gradients(outputs, inputs, again=True) if outputs and inputs else []
        outputs = [x for x in first if x is not None and x.requires_grad]
        return _gradients(outputs, inputs) if outputs else []

    _agree(both(sample, recorder, info.name, call), info, recorder)


def check_in_place(info: Any, sample: Any, recorder: Any) -> None:
    def call(here: Any, device: torch.device) -> Any:
        with torch.no_grad():
            result = info.inplace_variant(here[0], *here[1], **here[2])
        return result, here[0], [x is y for x, y in zip(_tensors(result), _tensors(here[0]))]

    _agree(both(sample, recorder, info.name, call), info, recorder)


def _tensors(value: Any) -> list[torch.Tensor]:
    return [x for x in tree_flatten(value)[0] if isinstance(x, torch.Tensor)]


def _check_into(info: Any, sample: Any, recorder: Any, make: Callable[..., Any]) -> None:
    def call(here: Any, device: torch.device) -> Any:
        with torch.no_grad():
            torch.manual_seed(SEED)
            wanted = info(here[0], *here[1], **here[2])
            if not _tensors(wanted):
                return []
            out = tree_map(lambda x: make(x, device) if isinstance(x, torch.Tensor) else x, wanted)
            recorder.draws = 0
            torch.manual_seed(SEED)
            result = info(here[0], *here[1], **here[2], out=out)
        return result, out, [x is y for x, y in zip(_tensors(result), _tensors(out))]

    _agree(both(sample, recorder, info.name, call), info, recorder)


def check_out(info: Any, sample: Any, recorder: Any) -> None:
    _check_into(info, sample, recorder, lambda x, device: torch.zeros_like(x.cpu()).to(device))


def check_out_resized(info: Any, sample: Any, recorder: Any) -> None:
    _check_into(
        info, sample, recorder, lambda x, device: torch.empty(0, dtype=x.dtype, device=device)
    )


def check_out_strided(info: Any, sample: Any, recorder: Any) -> None:
    def make(x: torch.Tensor, device: torch.device) -> torch.Tensor:
        return torch.zeros((*x.shape, 3), dtype=x.dtype).to(device)[..., 1]

    _check_into(info, sample, recorder, make)


# ---- the command ---------------------------------------------------------------------------


def unexplained(failures: Sequence[Failure]) -> list[Failure]:
    """The disagreements for which ``parity_known.py`` gives no reason."""
    return [each for each in failures if not any(known.explains(each) for known in KNOWN)]


def stale(tally: Tally) -> list[str]:
    """Entries of ``parity_known.py`` that explain nothing, though their operator was compared."""
    return [
        f"{operator}: agrees with the CPU; take it out of parity_known.py ({known.reason})"
        for known in KNOWN
        for operator in known.operators
        if operator in tally.operators
        and not any(known.explains(each) for each in tally.failures if each.operator == operator)
    ]


def report(tally: Tally, seconds: float) -> int:
    from mx_autopatch.softnpu.install import native_operators

    registered = {name for name in native_operators() if name.startswith("aten::")}
    new, old = unexplained(tally.failures), stale(tally)
    for failure in new:
        print(failure)
    for text in old:
        print(text)
    total = sum(tally.checks.values())
    print(
        f"{len(tally.operators)} operators of OpInfo, through {len(tally.overloads)} of the "
        f"{len(registered)} aten overloads that torch_npu registers\n"
        f"{total} comparisons: {', '.join(f'{n} {kind}' for kind, n in tally.checks.items())}\n"
        f"{total - len(tally.failures)} agree, {len(tally.failures) - len(new)} differ for a "
        f"reason given in parity_known.py, {len(new)} disagree; {seconds:.0f} s"
    )
    return 1 if new or old else 0


def _shared_out(jobs: int, arguments: Sequence[str]) -> Tally:
    """The whole, done by ``jobs`` processes, each with its part of the operators."""
    script = [sys.executable, os.path.abspath(__file__), *arguments]
    children = [
        subprocess.Popen([*script, f"--part={i}/{jobs}"], stdout=subprocess.PIPE, text=True)
        for i in range(jobs)
    ]
    tally = Tally()
    for child in children:
        output, _ = child.communicate()
        if child.returncode:
            raise SystemExit(f"parity: a process ended with {child.returncode}")
        tally.add_json(output.splitlines()[-1])
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--operators", default="", help="names, separated by commas")
    parser.add_argument("--samples", type=int, help="at most so many of each")
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    began = time.perf_counter()
    if options.jobs > 1:
        chosen = [f"--operators={options.operators}"]
        if options.samples is not None:
            chosen.append(f"--samples={options.samples}")
        return report(_shared_out(options.jobs, chosen), time.perf_counter() - began)
    torch.set_num_threads(1)
    names = set(filter(None, options.operators.split(",")))
    infos = [info for info in op_db if not names or info.name in names or full_name(info) in names]
    if options.part:
        part, parts = map(int, options.part.split("/"))
        print(run(infos[part::parts], options.samples).as_json())
        return 0
    return report(run(infos, options.samples), time.perf_counter() - began)


if __name__ == "__main__":
    raise SystemExit(main())

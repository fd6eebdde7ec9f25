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
from collections.abc import Sequence
from typing import Any, NamedTuple

if __name__ == "__main__":
    from mx_autopatch.softnpu import runtime

    runtime.load()
    with runtime.as_installed():
        import torch
    from mx_autopatch.softnpu.install import install

    install()

import torch
from parity_calls import CALLS
from parity_checks import SEED, is_foreach, variants
from parity_compare import Disagreement, names_device
from parity_known import KNOWN
from torch.testing._internal import common_methods_invocations as database

DTYPES = (
    *(torch.float32, torch.float64, torch.int64, torch.bool),
    *(torch.float16, torch.bfloat16),
)


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


def operators() -> list[Any]:
    """All of torch's database, lists of tensors included, and what that does not reach."""
    return [
        *database.op_db,
        *database.foreach_unary_op_db,
        *database.foreach_binary_op_db,
        *database.foreach_pointwise_op_db,
        *database.foreach_reduce_op_db,
        *database.foreach_other_op_db,
        *CALLS,
    ]


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
            tally.checks["overload"] += recorder.siblings_compared
            tally.failures += [
                Failure(name, "overload", "", 0, reason) for name, reason in recorder.disagreements
            ]
    return tally


def _run_dtype(
    info: Any, dtype: torch.dtype, limit: int | None, tally: Tally, recorder: Any
) -> None:
    with_grad = info.supports_autograd and dtype in info.supported_backward_dtypes("cpu")
    torch.manual_seed(SEED)
    few = {"num_input_tensors": [3]} if is_foreach(info) else {}
    samples = info.sample_inputs("cpu", dtype, requires_grad=with_grad, **few)
    for number, sample in enumerate(samples):
        if limit is not None and number >= limit:
            break
        if not names_device((sample.input, sample.args, sample.kwargs)):
            continue  # nothing would tell torch to use the soft NPU
        for variant, check in variants(info, dtype, number, with_grad):
            recorder.draws = 0
            tally.checks[variant] += 1
            try:
                check(info, sample, recorder)
            except Disagreement as error:
                kind = str(dtype).replace("torch.", "")
                tally.failures.append(Failure(full_name(info), variant, kind, number, str(error)))


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


def report(tally: Tally, seconds: float, whole: bool = True) -> int:
    """Print what came of it; return the exit status.

    Args:
        whole: All samples were compared, so that what ``parity_known.py`` says must show.
    """
    from mx_autopatch.softnpu.install import native_operators

    registered = {name for name in native_operators() if name.startswith("aten::")}
    new, old = unexplained(tally.failures), stale(tally) if whole else []
    for failure in new:
        print(failure)
    for text in old:
        print(text)
    total = sum(tally.checks.values())
    calls = sum(name.startswith("aten::") for name in tally.operators)
    print(
        f"{len(tally.operators) - calls} operators of OpInfo and {calls} further calls, through "
        f"{len(tally.overloads)} of the {len(registered)} aten overloads that torch_npu registers\n"
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
    began, whole = time.perf_counter(), options.samples is None
    if options.jobs > 1:
        chosen = [f"--operators={options.operators}"]
        if options.samples is not None:
            chosen.append(f"--samples={options.samples}")
        return report(_shared_out(options.jobs, chosen), time.perf_counter() - began, whole)
    torch.set_num_threads(1)
    names = set(filter(None, options.operators.split(",")))
    infos = [
        info for info in operators() if not names or info.name in names or full_name(info) in names
    ]
    if options.part:
        part, parts = map(int, options.part.split("/"))
        print(run(infos[part::parts], options.samples).as_json())
        return 0
    return report(run(infos, options.samples), time.perf_counter() - began, whole)


if __name__ == "__main__":
    raise SystemExit(main())

"""What the benchmarks share: interleaved rounds, differences with errors, targets, a table.

The results are pyperf's (Run, Benchmark, the JSON of ``-o``), the order is not. pyperf's
Runner takes all values of one benchmark, then all of the next, and on a machine that others
use too that compares two states of the machine. Here one round takes one value of every
label, in random order, and what is reported is the median of the differences (or ratios)
*within* rounds, with its standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable, NamedTuple

import pyperf

HERE = Path(__file__).resolve().parent

_RESAMPLES = 400

#: Label -> blocks of values. Value n of block m belongs to the same round in all labels;
#: blocks are independent of one another (a process each, or a single round).
Values = Mapping[str, Sequence[Sequence[float]]]


class Options:
    """The command line: as many of pyperf's own options as make sense here."""

    def __init__(self, doc: str, **defaults: int) -> None:
        self._defaults = defaults
        self.parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
        self.parser.add_argument("--fast", action="store_true", help="a third of the rounds")
        self.parser.add_argument("--rigorous", action="store_true", help="three times the rounds")
        self.parser.add_argument("-o", "--output", metavar="FILE", help="pyperf JSON to write")
        for name, default in defaults.items():
            self.parser.add_argument(f"--{name}", type=int, help=f"default: {default}")
        self.parser.add_argument("--worker", type=int, metavar="ROUNDS", help=argparse.SUPPRESS)
        self.parser.add_argument("--scratch", help=argparse.SUPPRESS)

    def parse(self) -> argparse.Namespace:
        """The arguments; rounds that were not given follow --fast and --rigorous."""
        args = self.parser.parse_args()
        if args.output:
            args.output = os.path.abspath(args.output)  # commands run in folders of their own
        for name, default in self._defaults.items():
            if getattr(args, name) is None:
                third, triple = max(2, default // 3), default * 3
                setattr(args, name, third if args.fast else triple if args.rigorous else default)
        return args


@contextlib.contextmanager
def scratch(args: argparse.Namespace, fill: Callable[[Path], None]) -> Iterator[Path]:
    """A temporary folder, filled in by the first process and handed on to workers."""
    if args.scratch:
        yield Path(args.scratch)
        return
    with tempfile.TemporaryDirectory(prefix="mx_autopatch_bench_") as folder:
        fill(Path(folder))
        args.scratch = folder
        yield Path(folder)


# -- whole processes -------------------------------------------------------------


class Command(NamedTuple):
    """``python -c code``, run in ``folder`` with this environment and little else."""

    python: str | Path
    code: str
    env: Mapping[str, str]
    folder: Path


class Child(NamedTuple):
    """A running command."""

    pid: int
    argv: list[str]
    said: IO[bytes]


def run_commands(commands: Mapping[str, Command], rounds: int) -> Values:
    """How long each command takes from start to exit, one at a time, after one warm-up."""
    values: dict[str, list[list[float]]] = {label: [] for label in commands}
    for number, order in _orders(commands, rounds):
        for label in order:
            progress(f"round {number} of {rounds}: {label}")
            start = time.perf_counter()
            child = _start(commands[label])
            _, status, _ = os.wait4(child.pid, 0)
            elapsed = time.perf_counter() - start
            _check(child, status)
            if number:
                # One round a block: that rounds are independent is why there are rounds.
                values[label].append([elapsed])
    progress("")
    return values


def run_together(commands: Mapping[str, Command], rounds: int) -> Values:
    """The CPU time of each command, when all of a round share one processor.

    For processes that run for seconds, in which the speed of a shared machine changes:
    the scheduler lets them take turns of milliseconds, so it changes for all alike.
    """
    values: dict[str, list[list[float]]] = {label: [] for label in commands}
    processors = sorted(os.sched_getaffinity(0))
    for number, order in _orders(commands, rounds):
        if number == 0:  # no warm-up: what the first one finds cold, it finds so for all
            continue
        progress(f"round {number} of {rounds}: {' | '.join(order)}")
        os.sched_setaffinity(0, {processors[number % len(processors)]})
        children = {label: _start(commands[label]) for label in order}
        os.sched_setaffinity(0, processors)
        for label, child in children.items():
            _, status, used = os.wait4(child.pid, 0)
            _check(child, status)
            values[label].append([used.ru_utime + used.ru_stime])
    progress("")
    return values


def _orders(labels: Iterable[str], rounds: int) -> Iterator[tuple[int, list[str]]]:
    """Number 0, the warm-up, to ``rounds``, each with the labels in another order."""
    order, shuffle = list(labels), random.Random(0).shuffle
    for number in range(rounds + 1):
        shuffle(order)
        yield number, order


def _start(command: Command) -> Child:
    # matplotlib and others want a home; nothing else of this process may get through.
    env = {"PATH": os.defpath, "HOME": os.environ.get("HOME", "/"), **command.env}
    argv = [str(command.python), "-c", command.code]
    os.chdir(command.folder)
    said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _check
    files: list[tuple[object, ...]] = [
        (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)
    ]
    files.append((os.POSIX_SPAWN_DUP2, said.fileno(), 2))
    # subprocess would add a millisecond, and the noise of one.
    return Child(os.posix_spawn(argv[0], argv, env, file_actions=files), argv, said)


def _check(child: Child, status: int) -> None:
    with child.said as said:
        if status:
            said.seek(0)
            text = said.read().decode(errors="replace")
            raise SystemExit(f"{child.argv!r} failed with status {status}:\n{text}")


# -- within a process ------------------------------------------------------------


def run_workers(
    args: argparse.Namespace, tasks: Callable[[], Mapping[str, Callable[[], float]]]
) -> Values | None:
    """The values of ``tasks()``, functions that return seconds, from several processes.

    Hash seeds and memory layout differ between processes, so a few processes tell more
    than many rounds. Returns None in such a process, which has then done its part.
    """
    if args.worker is not None:
        json.dump(_rounds(tasks(), args.worker), sys.stdout)
        return None
    blocks = []
    for number in range(1, args.processes + 1):
        progress(f"process {number} of {args.processes}")
        command = [sys.executable, sys.argv[0], "--worker", str(args.rounds)]
        command += ["--scratch", args.scratch]
        env = {k: v for k, v in os.environ.items() if not k.startswith("MX_AUTOPATCH")}
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env).stdout
        blocks.append(json.loads(output))
    progress("")
    return {label: [block[label] for block in blocks] for label in blocks[0]}


def _rounds(tasks: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {label: [] for label in tasks}
    for number, order in _orders(tasks, rounds):
        for label in order:
            value = tasks[label]()
            if number:
                values[label].append(value)
    return values


# -- judging ---------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """At most ``limit`` times ``against``, or at most ``limit`` seconds more than it."""

    limit: float
    against: str
    is_ratio: bool = False

    def __str__(self) -> str:
        if self.is_ratio:
            return f"<= {self.limit:.2f}x [{self.against}]"
        return f"<= +{_seconds(self.limit)}"


class Row(NamedTuple):
    """A line of a table: a label, what it is set against, and its target."""

    label: str
    against: str | None = None
    target: Target | None = None


class Figure(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


def compare(values: Values, label: str, against: str, is_ratio: bool) -> Figure:
    """The median of the differences (or ratios) within rounds.

    The error is the spread of that median over bootstrap samples of the blocks.
    """
    blocks = [
        [a / b if is_ratio else a - b for a, b in zip(these, those)]
        for these, those in zip(values[label], values[against])
    ]

    def median(chosen: Iterable[Sequence[float]]) -> float:
        return statistics.median(value for block in chosen for value in block)

    if len(blocks) < 2:
        return Figure(median(blocks), float("nan"))
    draw = random.Random(0)
    samples = [median(draw.choices(blocks, k=len(blocks))) for _ in range(_RESAMPLES)]
    return Figure(median(blocks), statistics.stdev(samples))


def verdict(values: Values, label: str, target: Target) -> str:
    """Whether a target is met, as far as the error lets one say so."""
    value, error = compare(values, label, target.against, target.is_ratio)
    text = _ratio(value, error) if target.is_ratio else _difference(value, error)
    if value + 2 * error <= target.limit:
        return f"met ({text})"
    if value - 2 * error > target.limit:
        return f"MISSED ({text})"
    return f"too close to tell ({text})"


def table(title: str, values: Values, rows: Iterable[Row]) -> str:
    """Medians, differences and ratios; targets and verdicts."""
    cells = [("", "median", "difference", "ratio", "target", "verdict")]
    for label, against, target in rows:
        median = statistics.median(value for block in values[label] for value in block)
        difference = ratio = ""
        if against is not None:
            difference = _difference(*compare(values, label, against, is_ratio=False))
            ratio = _ratio(*compare(values, label, against, is_ratio=True))
        judged = verdict(values, label, target) if target is not None else ""
        wanted = str(target) if target is not None else ""
        cells.append((label, _seconds(median), difference, ratio, wanted, judged))
    used = [column for column in zip(*cells) if any(column[1:])]
    lines = [title, ""]
    for number in range(len(cells)):
        line = []
        for index, column in enumerate(used):
            width = max(map(len, column))
            text = column[number]
            # Numbers to the right, words to the left.
            line.append(text.rjust(width) if 1 <= index <= 3 else text.ljust(width))
        lines.append("  ".join(line).rstrip())
    some = next(iter(values.values()))
    count = f"{sum(map(len, some))} values a label"
    if len(some[0]) > 1:
        count += f", {len(some)} processes"
    lines.append(f"({count}; ± standard error)")
    return "\n".join(lines)


def save(path: str | None, *several: Values, **metadata: int) -> None:
    """Write all values as pyperf's JSON, for ``python -m pyperf stats FILE`` and the like."""
    if not path:
        return
    benches = [
        pyperf.Benchmark([pyperf.Run(b, metadata={"name": label, **metadata}) for b in blocks])
        for values in several
        for label, blocks in values.items()
    ]
    pyperf.BenchmarkSuite(benches).dump(path)


def progress(text: str) -> None:
    """Say what is being done, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _ratio(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}x" if value < 2 else f"{value:.1f} ± {error:.1f}x"


def _difference(value: float, error: float) -> str:
    unit, factor = _unit(abs(value))
    digits = 2 if abs(value) * factor < 10 else 1
    return f"{value * factor:+.{digits}f} ± {error * factor:.{digits}f} {unit}"


def _seconds(value: float) -> str:
    unit, factor = _unit(value)
    return f"{value * factor:.{2 if value * factor < 10 else 1}f} {unit}"


def _unit(value: float) -> tuple[str, float]:
    # From 0.1 ms on in ms: the targets are given so.
    for unit, least, factor in (("s", 1.0, 1.0), ("ms", 1e-4, 1e3), ("us", 1e-6, 1e6)):
        if value >= least:
            return unit, factor
    return "ns", 1e9

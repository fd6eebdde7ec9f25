"""All outcomes of one process, as an object, as JSON and as a few lines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from mx_autopatch.model import Outcome, Status

FORMAT = 1


class Report:
    """The outcomes of one process.

    Attributes:
        outcomes: One a known edit, in the order in which they came about.
        problems: What was wrong with the configuration or a plugin, in words.
    """

    def __init__(self, outcomes: list[Outcome], problems: list[str]) -> None:
        self.outcomes = outcomes
        self.problems = problems

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    def of(self, patch: str) -> list[Outcome]:
        """The outcomes of one patch."""
        return [outcome for outcome in self.outcomes if outcome.patch == patch]

    @property
    def faults(self) -> list[Outcome]:
        """The outcomes that somebody should look at."""
        return [outcome for outcome in self.outcomes if outcome.status.is_fault]

    def by_patch(self) -> dict[str, list[Outcome]]:
        """The outcomes, grouped by patch."""
        groups: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            groups.setdefault(outcome.patch, []).append(outcome)
        return groups

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON types, with what tells one process from another."""
        return {
            "format": FORMAT,
            "pid": os.getpid(),
            "rank": rank(),
            "python": ".".join(map(str, sys.version_info[:3])),
            "argv": list(sys.argv),
            "problems": self.problems,
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
        }

    def save(self, path: str) -> str:
        """Write the report as JSON; ``{pid}`` and ``{rank}`` in the path are filled in.

        Returns:
            The path written. The file appears whole or not at all.
        """
        path = path.replace("{pid}", str(os.getpid())).replace("{rank}", str(rank()))
        folder = os.path.dirname(os.path.abspath(path))
        os.makedirs(folder, exist_ok=True)
        unfinished = f"{path}.{os.getpid()}.tmp"
        with open(unfinished, "w", encoding="utf-8") as file:
            json.dump(self.to_dict(), file, indent=1)
            file.write("\n")
        os.replace(unfinished, path)
        return path

    def summary(self, detail: bool = False) -> list[str]:
        """The lines to print at exit; none if nothing applied and nothing went wrong."""
        groups = self.by_patch()
        applied = {
            name: sum(outcome.status.in_force for outcome in outcomes)
            for name, outcomes in groups.items()
        }
        applied = {name: count for name, count in applied.items() if count}
        lines = []
        if applied:
            patches = "1 patch" if len(applied) == 1 else f"{len(applied)} patches"
            lines.append(f"mx_autopatch: {patches} applied")
            width = max(map(len, applied))
            for name in sorted(applied):
                lines.append(f"  {name:<{width}}  {_changes(groups[name], detail)}")
        for outcome in self.outcomes:
            if outcome.status.is_fault or (outcome.status is Status.LATE and outcome.unreachable):
                lines.append(f"mx_autopatch: {describe(outcome)}")
        return lines

    def __str__(self) -> str:
        return "\n".join(describe(outcome) for outcome in self.outcomes)


def describe(outcome: Outcome) -> str:
    """One outcome in one line."""
    text = f"{outcome.patch}: {outcome.kind} {outcome.target}: {outcome.status}"
    if outcome.reason:
        text += f": {_lines(outcome.reason, False)}"
    if outcome.unreachable:
        text += f" (still unpatched: {'; '.join(outcome.unreachable)})"
    return text


def _changes(outcomes: list[Outcome], detail: bool) -> str:
    """What one patch changed: its targets, or how many where they are many."""
    done = [outcome for outcome in outcomes if outcome.status.in_force]
    texts = [
        f"{outcome.kind} {outcome.target}"
        + (f" in {outcome.trigger}" if outcome.kind == "during" else "")
        + (f" ({_lines(outcome.reason, detail)})" if outcome.reason else "")
        for outcome in done
    ]
    if len(texts) > 3 and not detail:
        return f"{len(texts)} edits in {', '.join(dict.fromkeys(o.trigger for o in done))}"
    return ", ".join(texts)


def _lines(reason: str, detail: bool) -> str:
    """A reason of several lines: the first, or with ``detail`` all."""
    return reason if detail else reason.partition("\n")[0]


_LAUNCHERS = ("torch.distributed.run", "torch.distributed.launch", "torch.distributed.launcher")


def rank() -> int:
    """This process's rank in a distributed job, 0 if it is in none."""
    for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"):
        value = os.environ.get(name, "")
        if value.isdecimal():
            return int(value)
    return 0


def speaks() -> bool:
    """Whether this process is the one to print for its job.

    Rank 0 is; its spawned workers, its subprocesses and the launcher are not.
    """
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        return False
    if "RANK" in os.environ:
        return rank() == 0
    if _is_launcher():
        return False
    return rank() == 0 and os.environ.get("MX_AUTOPATCH_MAIN") in (None, str(os.getpid()))


def _is_launcher() -> bool:
    """Whether the program is torchrun or its like, by name or by ``-m``."""
    run = sys.modules.get("torch.distributed.run")
    if run is None:
        return False
    main = vars(sys.modules["__main__"])
    name = getattr(main.get("__spec__"), "name", None)
    return name in _LAUNCHERS or main.get("main") is vars(run).get("main", run)

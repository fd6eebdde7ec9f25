"""torch.local_rank: the spelling that the launcher passes, and the one that scripts declare."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import pytest
from helpers import environment, python

from mx_autopatch import bootstrap
from mx_autopatch.model import Status

pytest.importorskip("torch")
importlib.import_module("torch.distributed")

NAME = "torch.local_rank"


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, engine: Any) -> Any:
    """Activate in a process that was launched with these arguments."""

    def launch(*arguments: str, world: str | None = "2") -> Any:
        monkeypatch.setattr("sys.argv", ["train.py", *arguments])
        if world is None:
            monkeypatch.delenv("WORLD_SIZE", raising=False)
        else:
            monkeypatch.setenv("WORLD_SIZE", world)
        return engine(patches__only=[NAME])().of(NAME)[0]

    return launch


def parser(*names: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(allow_abbrev=False)
    if names:
        made.add_argument(*names, dest="local_rank", type=int, default=-1)
    made.add_argument("--name")
    made.add_argument("rest", nargs="*")
    return made


@pytest.mark.parametrize("given", ["--local_rank", "--local-rank"])
@pytest.mark.parametrize("declared", ["--local_rank", "--local-rank"])
def test_each_spelling_reaches_each_parser(given: str, declared: str, launched: Any) -> None:
    outcome = launched(f"{given}=1", "--name", "x")
    assert outcome.status is Status.LATE
    assert given in outcome.reason
    made = parser(declared)
    help_text = made.format_help()
    assert made.parse_args().local_rank == 1
    assert made.parse_args([given, "3"]).local_rank == 3
    assert made.parse_known_args([given, "3", "--other"])[0].local_rank == 3
    assert made.parse_intermixed_args().local_rank == 1
    assert made.parse_args(["--name", "x", "--", given]).rest == [given]  # no option
    assert made.format_help() == help_text


def test_a_parser_of_both_or_neither_is_as_before(launched: Any) -> None:
    launched("--local-rank=1")
    assert parser("--local_rank", "--local-rank").parse_args().local_rank == 1
    assert parser().parse_known_args()[1] == ["--local-rank=1"]


def test_it_is_taken_back(launched: Any) -> None:
    own = argparse.ArgumentParser.parse_known_args
    launched("--local-rank=1")
    assert argparse.ArgumentParser.parse_known_args is not own
    bootstrap.deactivate()
    assert argparse.ArgumentParser.parse_known_args is own
    with pytest.raises(SystemExit):
        parser("--local_rank").parse_args()


@pytest.mark.parametrize(
    ("arguments", "world", "reason"),
    [
        (("--local-rank=1",), None, "not part of a distributed launch"),
        (("--local-ranking=1", "local_rank"), "2", "has no --local_rank or --local-rank"),
        ((), "2", "has no --local_rank or --local-rank"),
    ],
)
def test_where_there_is_nothing_to_do(
    arguments: tuple[str, ...], world: str | None, reason: str, launched: Any
) -> None:
    own = argparse.ArgumentParser.parse_known_args
    outcome = launched(*arguments, world=world)
    assert outcome.status is Status.UNMET
    assert reason in outcome.reason
    assert argparse.ArgumentParser.parse_known_args is own


@pytest.mark.skipif(
    importlib.util.find_spec("torch_npu") is not None,
    reason="tests/softnpu/distributed/test_hccl_processes.py does the same with two NPUs",
)
def test_as_the_launcher_does_it(tmp_path: Path) -> None:
    """A script of the time before torch 2.0, under today's torch.distributed.launch."""
    (tmp_path / "train.py").write_text(
        "import argparse, torch\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('config')\n"
        "parser.add_argument('--local_rank', type=int, default=-1)\n"
        "args = parser.parse_args()\n"
        "open(f'{args.config}{args.local_rank}', 'w').close()\n"
    )
    launch = ("torch.distributed.launch", "--nproc-per-node=1", "--master-port=0")
    env = environment(active=True, OMP_NUM_THREADS="1", MX_AUTOPATCH_DEVICE="cpu")
    python("-m", *launch, "train.py", "rank", cwd=tmp_path, env=env, warnings=False)
    assert (tmp_path / "rank0").exists()

"""Whole programs that are stopped: from the command line, and spawned ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import environment, python

TRAIN = """
import atexit, os, sys, torch
from torch.utils.data import DataLoader

def note(text):
    with open(f"notes{os.environ.get('RANK', '')}", "a") as file:
        file.write(text + chr(10))

def main():
    torch.set_num_threads(1)
    atexit.register(note, "at exit")
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    loader = DataLoader(torch.ones(90, 2), num_workers=1, persistent_workers=True)
    try:
        for number, batch in enumerate(loader):
            try:
                (weight * batch).sum().backward()
                optimizer.step()
            except Exception:
                note("swallowed")
            (worker,) = loader._iterator._workers
            with open("worker", "w") as file:
                file.write(str(worker.pid))
    finally:
        note(f"finally after {number}")
        # Not by a signal, at the interpreter's end, but when its queue was empty.
        note(f"worker's exit code: {worker.exitcode}")
    note("beyond")
"""

SPAWN = """
import os, torch, torch.multiprocessing
from train import main

def work(rank):
    os.environ["RANK"] = str(rank)
    main()

if __name__ == "__main__":
    torch.multiprocessing.spawn(work, nprocs=2, daemon=False)
    print("both are over")
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(f"{TRAIN}\nif __name__ == '__main__':\n    main()\n")
    (tmp_path / "spawn.py").write_text(SPAWN)
    return tmp_path


def test_from_the_command_line(folder: Path) -> None:
    (folder / "autopatch.toml").write_text("[profile]\nskip_first = 1\n")
    command = ("-m", "mx_autopatch", "--profile", "traces", "--brake", "50", "train.py")
    done = python(*command, cwd=folder, env=environment(OMP_NUM_THREADS="1"))
    assert (folder / "notes").read_text().splitlines() == [
        *("finally after 3", "worker's exit code: 0", "at exit")
    ]
    assert not is_running(int((folder / "worker").read_text()))
    (trace,) = (folder / "traces").iterdir()
    lines = [line for line in done.stderr.splitlines() if line.startswith("mx_autopatch: ")]
    assert f"mx_autopatch: profile: step 4 recorded: {trace}" in lines
    assert "mx_autopatch: stopped after step 4 (the profile is written; brake = 50)" in lines


def test_a_loop_that_ends_before_the_step_to_record(folder: Path) -> None:
    (folder / "short.py").write_text(
        "import torch\n"
        "optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)\n"
        "for _ in range(7):\n"
        "    optimizer.step()\n"
    )
    env = environment(OMP_NUM_THREADS="1")
    command = ("-m", "mx_autopatch", "--profile", "traces", "short.py")
    done = python(*command, cwd=folder, env=env)
    missed = "nothing was recorded: the run ended after step 7, and step 21 is the first"
    assert done.stderr.count(missed) == 1
    assert not (folder / "traces").exists()


def test_ranks_that_a_script_spawns(folder: Path) -> None:
    env = environment(active=True, OMP_NUM_THREADS="1", MX_AUTOPATCH_BRAKE="2")
    done = python("spawn.py", cwd=folder, env=env)
    assert done.stdout.splitlines()[-1] == "both are over"
    for rank in range(2):
        notes = (folder / f"notes{rank}").read_text().splitlines()
        assert notes[:2] == ["finally after 1", "worker's exit code: 0"]
    assert done.stderr.count("mx_autopatch: stopped after step 2") == 1

"""What a brake adds to each training step, until it is reached.

A plain loop's ``optimizer.step`` and a runner's iteration, both on a model of two numbers,
so that nearly all of the time is the library's own bookkeeping; a real step takes a thousand
times as long. Without a brake or a profile nothing is patched, and there is nothing to
measure but the start: the last table imports torch with and without the engine's patches
of training steps.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from _common import (
    HERE,
    Command,
    Options,
    Row,
    Target,
    run_together,
    run_workers,
    save,
    scratch,
    table,
)

STEPS = 200

IMPORT = "import torch.optim"


def fill(folder: Path) -> None:
    """A configuration that says nothing."""
    (folder / "autopatch.toml").write_text("")


def make_runner(folder: Path, name: str) -> Any:
    """A runner with mmengine's default hooks, about to train."""
    import torch
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Net(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

        def forward(self, inputs: Any, mode: str = "tensor") -> Any:
            return {"loss": (self.weight * inputs).sum()}

    runner = Runner(
        model=Net(),
        work_dir=str(folder / name),
        train_dataloader={
            "dataset": [{"inputs": torch.ones(2)}] * 4,
            "sampler": {"type": "InfiniteSampler"},
            "collate_fn": {"type": "default_collate"},
            "batch_size": 1,
        },
        train_cfg={"by_epoch": False, "max_iters": 10**9},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.0}},
        default_hooks={"logger": {"type": "LoggerHook", "interval": 10**8}},
        experiment_name=name,
        log_level="ERROR",
    )
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    for stage in ("before_run", "before_train", "before_train_epoch"):
        runner.call_hook(stage)
    return runner


def tasks(folder: Path) -> Mapping[str, Callable[[], float]]:
    """Steps of each kind, with and without a brake; the seconds that one takes."""
    import torch

    from mx_autopatch import activate
    from mx_autopatch.profiling import configure, state

    torch.set_num_threads(1)
    activate(
        str(folder / "autopatch.toml"),
        overrides={"patches.only": ["*.training_steps"], "report.level": "silent"},
    )
    plain_runner = make_runner(folder, "plain")
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.zeros(2)
    optimizer = torch.optim.SGD([weight], lr=0.0)
    plain_step = torch.optim.SGD.step
    configure(brake=10**9)
    assert torch.optim.SGD.step is not plain_step
    braked_runner = make_runner(folder, "braked")
    assert len(braked_runner.hooks) == len(plain_runner.hooks) + 1
    batch = {"inputs": torch.ones(1, 2)}
    steps = state.current()
    assert steps is not None

    def timed(act: Callable[[], Any], by_runner: bool) -> Callable[[], float]:
        def run() -> float:
            steps.by_runner = by_runner
            start = time.perf_counter()
            for _ in range(STEPS):
                act()
            return (time.perf_counter() - start) / STEPS

        return run

    return {
        "optimizer.step": timed(lambda: plain_step(optimizer), False),
        "optimizer.step, brake": timed(lambda: torch.optim.SGD.step(optimizer), False),
        "iteration": timed(lambda: plain_runner.train_loop.run_iter(batch), True),
        "iteration, brake": timed(lambda: braked_runner.train_loop.run_iter(batch), True),
    }


def imports(folder: Path) -> Mapping[str, Command]:
    """Processes that import torch with the engine, with and without our patches in it."""
    env = {
        "MX_AUTOPATCH": "1",
        "MX_AUTOPATCH_CONFIG": str(folder / "autopatch.toml"),
        "MX_AUTOPATCH_REPORT_LEVEL": "silent",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(
            [str(HERE.parent), str(HERE.parent / "sitecustomize_template")]
        ),
    }
    without = {**env, "MX_AUTOPATCH_DISABLE": "*.training_steps"}
    return {
        "without these patches": Command(sys.executable, IMPORT, without, folder),
        "with them, no brake": Command(sys.executable, IMPORT, env, folder),
        "with a brake": Command(sys.executable, IMPORT, {**env, "MX_AUTOPATCH_BRAKE": "5"}, folder),
    }


def main() -> None:
    args = Options(__doc__, processes=4, rounds=40, imports=15).parse()
    with scratch(args, fill) as folder:
        values = run_workers(args, lambda: tasks(folder))
        if values is None:
            return
        for kind in ("optimizer.step", "iteration"):
            row = Row(f"{kind}, brake", kind, Target(20e-6, kind))
            print(table(f"One {kind} of a model of two numbers", values, [Row(kind), row]))
            print()
        started = run_together(imports(folder), args.imports)
    rows = [Row("without these patches")]
    rows += [Row(label, "without these patches") for label in list(started)[1:]]
    print(table("import torch.optim, in a process of its own (CPU time)", started, rows))
    save(args.output, values, started)


if __name__ == "__main__":
    main()

"""A small training by mmengine's Runner, and what its hooks and its trace saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.autograd.profiler import record_function
from torch.utils.data import DataLoader

SIZE = 4  # iterations of an epoch


class Net(BaseModel):
    """Marks what it does in a trace: ``train 3``, ``val``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)
        self.trained = 0

    def forward(self, inputs: Any, mode: str = "tensor") -> Any:
        self.trained += mode == "loss"
        with record_function(f"train {self.trained}" if mode == "loss" else "val"):
            out = self.linear(inputs)
        return {"loss": out.sum()} if mode == "loss" else [out]


class Nothing(BaseMetric):
    """A metric of nothing."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: Any) -> dict[str, float]:
        return {"nothing": 0.0}


class Witness(Hook):
    """Notes what it is called for, and the runner's count then."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self.seen.append(("after_train_iter", runner.iter))

    def after_train(self, runner: Any) -> None:
        self.seen.append(("after_train", runner.iter))

    def after_val(self, runner: Any) -> None:
        self.seen.append(("after_val", runner.iter))

    def after_run(self, runner: Any) -> None:
        self.seen.append(("after_run", runner.iter))

    @property
    def steps(self) -> int:
        """Training iterations that were completed."""
        return sum(name == "after_train_iter" for name, _ in self.seen)


def make_runner(folder: Path, name: str, train_cfg: dict[str, Any], **more: Any) -> Runner:
    """A runner on the CPU; its hook :class:`Witness` is ``runner.witness``."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sampler = "DefaultSampler" if train_cfg["by_epoch"] else "InfiniteSampler"
    loader = {
        "dataset": [{"inputs": torch.ones(2)}] * SIZE,
        "collate_fn": {"type": "default_collate"},
        "sampler": {"type": sampler, "shuffle": False},
        "batch_size": 1,
        "num_workers": 0,
    }
    settings: dict[str, Any] = {
        "model": Net(),
        "work_dir": str(folder / name),
        "train_dataloader": loader,
        "train_cfg": train_cfg,
        "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}},
        "default_hooks": {"checkpoint": None},
        "experiment_name": name,
        "log_level": "ERROR",
        "randomness": {"seed": 0},
    }
    if "val_begin" in train_cfg:
        settings["val_dataloader"] = DataLoader([{"inputs": torch.ones(2)}] * 2)
        settings["val_cfg"] = {}
        settings["val_evaluator"] = [Nothing()]
    settings.update(more)
    # It asks compilers for their versions, half a second each time.
    with mock.patch("mmengine.runner.runner.collect_env", dict):
        runner = Runner(**settings)
    runner.witness = Witness()
    runner.register_hook(runner.witness)
    return runner


def marks(trace: Path | str) -> list[str]:
    """The marks of :class:`Net` in a trace, in order."""
    content = json.loads(Path(trace).read_text())
    events = content if isinstance(content, list) else content["traceEvents"]
    found = [e for e in events if e.get("ph") == "X" and e["name"].startswith(("train ", "val"))]
    found = [event for event in found if event.get("cat") != "gpu_user_annotation"]
    return [event["name"] for event in sorted(found, key=lambda event: float(event["ts"]))]

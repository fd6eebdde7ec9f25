"""Ranks that train by mmengine with spawned workers, or by a loop of their own with forked ones.

Nothing here knows of a brake: it comes from the environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd.profiler import record_function
from torch.utils.data import DataLoader, Dataset, DistributedSampler

FOLDER = Path(sys.argv[1])


class Data(Dataset[Any]):
    def __len__(self) -> int:
        return 400

    def __getitem__(self, index: int) -> dict[str, Any]:
        # Whoever fetched it was a worker, and notes that it was there.
        (FOLDER / f"worker{os.getpid()}").touch()
        return {"inputs": torch.full((3,), float(index))}


def note(name: str, **what: Any) -> None:
    (FOLDER / f"{name}{os.environ['RANK']}.json").write_text(json.dumps(what))


def by_mmengine() -> None:
    from mmengine.hooks import Hook
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Net(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 1)

        def forward(self, inputs: Any, mode: str = "tensor") -> Any:
            return {"loss": self.linear(inputs.to(self.linear.weight.device)).mean()}

    class Witness(Hook):
        def after_run(self, runner: Any) -> None:
            weight = next(runner.model.parameters())
            note("after_run", iter=runner.iter, weight=weight.tolist(), device=weight.device.type)

    torch.manual_seed(0)
    runner = Runner(
        model=Net(),
        work_dir=str(FOLDER / "work"),
        train_dataloader={
            "dataset": Data(),
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "collate_fn": {"type": "default_collate"},
            "batch_size": 2,
            "num_workers": 2,
            "persistent_workers": True,
            "multiprocessing_context": "spawn",
        },
        train_cfg={"by_epoch": True, "max_epochs": 2},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 1e-3}},
        default_hooks={"checkpoint": None},
        launcher="pytorch",
        env_cfg={"dist_cfg": {"backend": "nccl"}},
        log_level="ERROR",
    )
    runner.register_hook(Witness())
    runner.train()
    note("beyond")


def by_a_loop() -> None:
    dist.init_process_group("nccl")
    rank = dist.get_rank()
    torch.npu.set_device(rank)
    torch.manual_seed(0)
    net = nn.parallel.DistributedDataParallel(nn.Linear(3, 1).npu(), device_ids=[rank])
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    data = Data()
    sampler: DistributedSampler[Any] = DistributedSampler(data, shuffle=False)
    loader = DataLoader(data, batch_size=2, sampler=sampler, num_workers=2)
    step = 0
    try:
        for batch in loader:
            try:
                step += 1
                with record_function(f"iteration {step}"):
                    optimizer.zero_grad()
                    net(batch["inputs"].npu()).mean().backward()
                if rank == 1:
                    time.sleep(0.02)  # the ranks are not equally fast
                optimizer.step()
            except Exception:
                note("swallowed")
    finally:
        dist.barrier(device_ids=[rank])
        dist.destroy_process_group()
        weight = net.module.weight
        note("finally", iter=step, weight=weight.tolist(), device=weight.device.type)
    note("beyond")


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"mmengine": by_mmengine, "loop": by_a_loop}[sys.argv[2]]()

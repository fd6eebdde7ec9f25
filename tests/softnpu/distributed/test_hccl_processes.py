"""Ranks that a script has started itself, and what is left when one has died."""

from __future__ import annotations

import sys
from pathlib import Path

from launching import HERE, finished, free_port, ranks_environment

SCRIPT = """
import argparse
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int, default=0)
args = parser.parse_args()
torch.cuda.set_device(args.local_rank)
dist.init_process_group("nccl" if dist.is_nccl_available() else "gloo")
torch.manual_seed(0)
net = DistributedDataParallel(torch.nn.Linear(3, 2).cuda(), device_ids=[args.local_rank])
net(torch.full((2, 3), args.local_rank + 1.0).cuda()).sum().backward()
gradient = net.module.weight.grad
seed = torch.tensor(args.local_rank + 5.0).cuda()
dist.broadcast(seed, 1)
if dist.get_rank() == 1:
    print("found", gradient.device, gradient.tolist(), seed.item(), dist.get_backend())
dist.destroy_process_group()
"""


def test_a_script_written_for_cuda_and_an_old_launcher(tmp_path: Path) -> None:
    """All patches that are on by default; the launcher passes ``--local-rank``."""
    (tmp_path / "train.py").write_text(SCRIPT)
    env = ranks_environment(2)
    del env["MX_AUTOPATCH_PATCHES_ONLY"]
    launch = ("torch.distributed.launch", "--nproc-per-node=2", f"--master-port={free_port()}")
    code, said = finished([sys.executable, "-m", *launch, "train.py"], tmp_path, env)
    assert code == 0, said
    gradient = [[3.0] * 3] * 2  # the mean over ranks of the sums 2 and 4
    found = [line for line in said.splitlines() if line.startswith("found")]
    assert found == [f"found npu:1 {gradient} 6.0 hccl"]


def test_spawned_ranks_and_one_that_dies(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "spawned.py"), str(tmp_path / "store")]
    code, said = finished(command, tmp_path, ranks_environment(2))
    assert code == 0, said
    lines = [line for line in said.splitlines() if line.startswith(("raised", "done"))]
    calls = ("all_reduce", "all_reduce", "receive", "barrier")
    assert lines == [*(f"raised hccl: {call}" for call in calls), "done"]

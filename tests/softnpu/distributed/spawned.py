"""Ranks that a script starts itself, by torch.multiprocessing; one of them dies."""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing

STORE, SIZE = sys.argv[1], 2


def work(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    torch.npu.set_device(rank)
    dist.init_process_group(
        "hccl",
        init_method=f"file://{store}",
        rank=rank,
        world_size=SIZE,
        timeout=timedelta(seconds=60),
    )
    tensor = torch.full((3,), rank + 1.0, device="npu")
    dist.all_reduce(tensor)
    assert tensor.tolist() == [3.0] * 3
    assert tensor.device.index == rank
    if rank == 1:
        os._exit(0)
    # What the dead peer does not come to, or not to the end of, has to raise, soon.
    started = time.monotonic()
    for call in (
        lambda: dist.all_reduce(tensor),
        lambda: dist.all_reduce(tensor, async_op=True).wait(),
        lambda: dist.recv(tensor, 1),
        lambda: dist.barrier(device_ids=[rank]),
    ):
        try:
            call()
        except dist.DistBackendError as error:
            print("raised", str(error).partition("(")[0])
    assert time.monotonic() - started < 20
    dist.destroy_process_group()
    print("done")


if __name__ == "__main__":
    torch.multiprocessing.spawn(work, (STORE,), nprocs=SIZE)

"""Ranks: what trains on two soft NPUs beside the same on one, with the whole batch."""

from __future__ import annotations

import copy
import faulthandler
import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as checkpoint
from launching import run_checks
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

RANK, SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
NPU = torch.device("npu", int(os.environ["LOCAL_RANK"]))
STEPS, BATCH = 3, 8


def model() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    return layers.to(NPU)


def batches() -> list[tuple[Tensor, Tensor]]:
    """The batches of all ranks together: the same everywhere."""
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(BATCH, 6, generator=generator).to(NPU),
            torch.randn(BATCH, 2, generator=generator).to(NPU),
        )
        for _ in range(STEPS)
    ]


def share(tensor: Tensor) -> Tensor:
    return tensor.chunk(SIZE)[RANK]


def train(net: nn.Module, of: Callable[[Tensor], Tensor]) -> list[float]:
    """Train on the part of each batch that ``of`` gives; the losses, averaged over ranks."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    losses = []
    for inputs, targets in batches():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(of(inputs)), of(targets))
        loss.backward()
        optimizer.step()
        loss = loss.detach()
        if of is share:
            dist.all_reduce(loss, dist.ReduceOp.AVG)
        losses.append(loss.item())
    return losses


def whole(tensor: Tensor) -> Tensor:
    return tensor


def alone() -> tuple[list[float], dict[str, Tensor]]:
    net = model()
    return train(net, whole), net.state_dict()


def same_state(found: dict[str, Tensor], expected: dict[str, Tensor], **how: Any) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].cpu(), value.cpu(), **how)


def check_data_parallel_equals_the_whole_batch() -> None:
    losses, state = alone()
    for settings in (
        {},
        {"gradient_as_bucket_view": True},
        {"bucket_cap_mb": 0.0001},
        {"static_graph": True},
        {"find_unused_parameters": True},
    ):
        net = DistributedDataParallel(model(), device_ids=[NPU.index], **settings)
        assert train(net, share) == pytest.approx(losses, rel=1e-5)
        same_state(net.module.state_dict(), state, rtol=1e-4, atol=1e-5)


def check_ranks_start_from_rank_0() -> None:
    net = model()
    expected = copy.deepcopy(net.state_dict())
    if RANK:
        for parameter in net.parameters():
            nn.init.zeros_(parameter)
    same_state(DistributedDataParallel(net).module.state_dict(), expected, rtol=0, atol=0)


def check_models_that_differ_are_refused() -> None:
    """DDP tells only the rank that differs from rank 0, which goes on to the next collective."""
    net = nn.Linear(4, 4 + RANK).to(NPU)
    with pytest.raises(RuntimeError, match="appears not to match" if RANK else "same collective"):
        DistributedDataParallel(net)
    if RANK:
        with pytest.raises(dist.DistBackendError, match=r"rank 0: broadcast\(20 torch"):
            dist.barrier(device_ids=[NPU.index])


def check_accumulated_gradients() -> None:
    inputs, targets = batches()[0]
    net = DistributedDataParallel(model(), device_ids=[NPU.index])
    half = BATCH // SIZE // 2
    with net.no_sync():
        (nn.functional.mse_loss(net(share(inputs)[:half]), share(targets)[:half]) / 2).backward()
    (nn.functional.mse_loss(net(share(inputs)[half:]), share(targets)[half:]) / 2).backward()
    single = model()
    nn.functional.mse_loss(single(inputs), targets).backward()
    for found, expected in zip(net.parameters(), single.parameters()):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-6)


def check_communication_hooks() -> None:
    losses, _ = alone()
    state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=2, start_powerSGD_iter=2)
    hooks = (
        (None, default_hooks.allreduce_hook, 1e-5),
        (None, default_hooks.fp16_compress_hook, 1e-2),
        (state, powerSGD_hook.powerSGD_hook, 0.2),
    )
    for given, hook, tolerance in hooks:
        net = DistributedDataParallel(model(), device_ids=[NPU.index])
        net.register_comm_hook(given, hook)
        assert train(net, share) == pytest.approx(losses, rel=tolerance), hook
    with pytest.raises(TypeError, match="required CUDA"):  # so torch says on the hardware, too
        net.register_comm_hook(None, default_hooks.bf16_compress_hook)


def check_a_hook_that_fails() -> None:
    net = DistributedDataParallel(model())

    def hook(state, bucket):  # type: ignore[no-untyped-def]  # DDP would refuse names of types
        tensor = torch.zeros(3 + RANK, device=NPU)  # not the same on all ranks
        work = dist.all_reduce(tensor, async_op=True)
        return work.get_future().then(lambda f: f.value()[0])

    net.register_comm_hook(None, hook)
    with pytest.raises(RuntimeError, match="same collective"):
        net(share(batches()[0][0])).sum().backward()


def check_synchronised_batch_norm() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).to(NPU)
    nn.init.uniform_(norm.weight)
    images = torch.randn(6, 3, 4, 4).to(NPU)  # the same on all ranks: the seed is
    weights = torch.randn(6, 3, 4, 4).to(NPU)
    plain = copy.deepcopy(norm)
    inputs = images.clone().requires_grad_()
    expected = plain(inputs)
    (expected * weights).sum().backward()

    synced = nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    mine = share(images).clone().requires_grad_()
    found = synced(mine)
    (found * share(weights)).sum().backward()
    torch.testing.assert_close(found, share(expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mine.grad, share(inputs.grad), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(synced.running_mean, plain.running_mean)
    torch.testing.assert_close(synced.running_var, plain.running_var)
    for name in ("weight", "bias"):
        gradient = getattr(synced, name).grad
        dist.all_reduce(gradient)
        torch.testing.assert_close(gradient, getattr(plain, name).grad, rtol=1e-4, atol=1e-4)


def sharded(**settings: Any) -> nn.Module:
    mesh = dist.init_device_mesh("npu", (SIZE,))
    net = model()
    for layer in net:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh, **settings)
    fully_shard(net, mesh=mesh, **settings)
    return net


def check_fully_sharded_equals_the_whole_batch() -> None:
    losses, state = alone()
    for settings in ({}, {"reshard_after_forward": False}):
        net = sharded(**settings)
        parameter = next(net.parameters())
        assert isinstance(parameter, DTensor)
        assert parameter.to_local().shape[0] == 8 // SIZE
        assert train(net, share) == pytest.approx(losses, rel=1e-5)
        whole_state = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))
        same_state(whole_state, state, rtol=1e-4, atol=1e-5)
    half = sharded(mp_policy=MixedPrecisionPolicy(torch.bfloat16, torch.float32))
    assert train(half, share) == pytest.approx(losses, rel=0.05)


def check_hybrid_sharding() -> None:
    losses, _ = alone()
    mesh = dist.init_device_mesh("npu", (SIZE, 1), mesh_dim_names=("replicate", "shard"))
    net = model()
    fully_shard(net, mesh=mesh)
    assert train(net, share) == pytest.approx(losses, rel=1e-5)


def check_gradient_norm_of_shards() -> None:
    inputs, targets = batches()[0]
    single, net = model(), sharded()
    norms = []
    for one, of in ((single, whole), (net, share)):
        nn.functional.mse_loss(one(of(inputs)), of(targets)).backward()
        norm = nn.utils.clip_grad_norm_(one.parameters(), 0.1)
        norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-4, atol=1e-6)


def check_checkpoint_of_shards() -> None:
    net = sharded()
    train(net, share)
    before = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))
    folder = [tempfile.mkdtemp() if RANK == 0 else None]
    dist.broadcast_object_list(folder, src=0)
    state = get_model_state_dict(net)
    checkpoint.save(state, checkpoint_id=folder[0])
    other = sharded()
    state = get_model_state_dict(other)
    checkpoint.load(state, checkpoint_id=folder[0])
    set_model_state_dict(other, state)
    after = get_model_state_dict(other, options=StateDictOptions(full_state_dict=True))
    same_state(after, before, rtol=0, atol=0)


def check_mmengine_collectives() -> None:
    from mmengine import dist as mm

    assert mm.get_backend() == "hccl"
    assert mm.get_comm_device() == NPU
    assert mm.get_dist_info() == (RANK, SIZE)
    for device in (NPU, torch.device("cpu")):  # mmengine moves the data itself
        data = torch.arange(3.0, device=device) + RANK
        mm.all_reduce(data, op="mean")
        assert data.device == device
        assert data.tolist() == [0.5, 1.5, 2.5]
        gathered = mm.all_gather(torch.tensor([RANK], device=device))
        assert [int(one) for one in gathered] == list(range(SIZE))
        assert gathered[0].device == device
        told = torch.tensor([RANK + 5], device=device)
        mm.broadcast(told, src=1)
        assert told.item() == 6
    # Not of the CPU: there mmengine passes on what it was given.
    gathered = mm.gather(torch.tensor([RANK], device=NPU))
    assert [int(one) for one in gathered] == (list(range(SIZE)) if RANK == 0 else [])
    summed = {"a": torch.ones(2, device=NPU), "b": torch.ones(1, device=NPU)}
    mm.all_reduce_dict(summed)
    assert summed["a"].tolist() == [SIZE, SIZE]
    mm.all_reduce_params([parameter := torch.full((3,), float(RANK), device=NPU)], op="mean")
    assert parameter.tolist() == [0.5] * 3
    assert mm.all_gather_object({"rank": RANK}) == [{"rank": rank} for rank in range(SIZE)]
    seeds = mm.all_gather_object(mm.sync_random_seed())
    assert len(set(seeds)) == 1
    folder = [tempfile.mkdtemp() if RANK == 0 else None]
    mm.broadcast_object_list(folder)
    parts = [f"{RANK}.{number}" for number in range(2)]
    ordered = ["0.0", "1.0", "0.1"]
    for device, tmpdir in (("npu", None), ("cpu", folder[0])):
        found = mm.collect_results(parts, 3, device, tmpdir)
        assert found == (ordered if RANK == 0 else None)
    mm.barrier()


def check_mmengine_runner() -> None:
    from mmengine.model import BaseModel, MMDistributedDataParallel
    from mmengine.runner import Runner

    class Net(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))

        def forward(self, inputs: Tensor, targets: Tensor, mode: str) -> Any:
            return {"loss": nn.functional.mse_loss(self.layers(inputs), targets)}

    dist.destroy_process_group()
    generator = torch.Generator().manual_seed(1)
    data = list(zip(torch.randn(16, 6, generator=generator), torch.randn(16, 2)))
    folder = Path(tempfile.mkdtemp())
    runner = Runner(
        model=Net(),
        work_dir=str(folder),
        launcher="pytorch",
        env_cfg={"dist_cfg": {"backend": "nccl", "timeout": 60}},
        train_dataloader={
            "dataset": data,
            "batch_size": 4,
            "sampler": {"type": "DefaultSampler", "shuffle": True},
            "collate_fn": {"type": "default_collate"},
        },
        train_cfg={"by_epoch": True, "max_epochs": 2},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}, "clip_grad": {"max_norm": 1.0}},
        cfg={"sync_bn": "torch"},
        log_level="ERROR",
        experiment_name=f"rank{RANK}",
    )
    assert isinstance(runner.model, MMDistributedDataParallel)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in runner.model.modules())
    assert next(runner.model.parameters()).device == NPU
    assert dist.get_backend() == "hccl"
    runner.train()
    assert runner.iter == 4
    states = [None] * SIZE
    dist.all_gather_object(states, {k: v.cpu() for k, v in runner.model.state_dict().items()})
    same_state(states[1], states[0], rtol=0, atol=0)
    assert (folder / "epoch_2.pth").exists() is (RANK == 0)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(80, exit=True)
    torch.set_num_threads(1)
    torch.npu.set_device(NPU)
    dist.init_process_group("hccl", timeout=timedelta(seconds=30))
    run_checks(globals(), RANK)
    dist.destroy_process_group()

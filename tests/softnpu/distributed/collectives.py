"""Ranks: every collective of backend hccl beside its definition."""

from __future__ import annotations

import faulthandler
import os
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch_npu
from launching import run_checks
from torch.distributed import _functional_collectives as functional
from torch.distributed.distributed_c10d import _coalescing_manager
from torch_npu._C._distributed_c10d import ProcessGroupHCCL

RANK, SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
NPU = torch.device("npu", int(os.environ["LOCAL_RANK"]))
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)
COPIED = (*FLOATS, *INTEGERS, torch.uint8, torch.bool, torch.float64)


def of_rank(rank: int, dtype: torch.dtype = torch.float32, size: int = 6) -> torch.Tensor:
    """What rank ``rank`` comes with, on the CPU."""
    return (torch.arange(size) % 3 + rank % 3).to(dtype)


def mine(dtype: torch.dtype = torch.float32, size: int = 6) -> torch.Tensor:
    return of_rank(RANK, dtype, size).to(NPU)


def all_of(dtype: torch.dtype = torch.float32, size: int = 6) -> torch.Tensor:
    return torch.stack([of_rank(rank, dtype, size) for rank in range(SIZE)])


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.device == NPU
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found.cpu(), expected)


def reduced(values: torch.Tensor, op: dist.ReduceOp) -> torch.Tensor:
    ways = {
        dist.ReduceOp.SUM: lambda v: v.sum(0),
        dist.ReduceOp.PRODUCT: lambda v: v.prod(0),
        dist.ReduceOp.MIN: lambda v: v.amin(0),
        dist.ReduceOp.MAX: lambda v: v.amax(0),
        dist.ReduceOp.AVG: lambda v: v.sum(0) / len(v),
    }
    return ways[op](values.double()).to(values.dtype)


OPERATIONS = (
    *(dist.ReduceOp.SUM, dist.ReduceOp.PRODUCT, dist.ReduceOp.MIN, dist.ReduceOp.MAX),
    dist.ReduceOp.AVG,
)


def check_what_the_group_says_of_itself() -> None:
    group = dist.group.WORLD
    assert dist.get_backend() == "hccl"
    assert dist.is_hccl_available()
    assert not dist.is_nccl_available()
    assert (dist.get_rank(), dist.get_world_size()) == (RANK, SIZE)
    assert group._device_types == [torch.device("npu")]
    assert group.name() == "hccl"
    assert group._get_backend(NPU) is group
    with pytest.raises(RuntimeError, match="No backend type associated with device type cpu"):
        dist.all_reduce(torch.ones(2))


def check_all_reduce() -> None:
    for op in OPERATIONS:
        for dtype in (*FLOATS, *INTEGERS, torch.uint8):
            tensor = mine(dtype)
            if op == dist.ReduceOp.AVG and not dtype.is_floating_point:
                with pytest.raises(RuntimeError, match="cannot average"):
                    dist.all_reduce(tensor, op)
                continue
            dist.all_reduce(tensor, op)
            same(tensor, reduced(all_of(dtype), op))


def check_all_reduce_of_bool() -> None:
    rows = all_of(torch.bool)
    for op, expected in ((dist.ReduceOp.SUM, rows.any(0)), (dist.ReduceOp.MIN, rows.all(0))):
        tensor = mine(torch.bool)
        dist.all_reduce(tensor, op)
        same(tensor, expected)


def check_integers_wrap_as_their_width_says() -> None:
    for dtype in (torch.int16, torch.uint8):
        tensor = torch.full((3,), torch.iinfo(dtype).max, dtype=dtype, device=NPU)
        dist.all_reduce(tensor)
        expected = torch.full((3,), torch.iinfo(dtype).max * SIZE, dtype=torch.int64).to(dtype)
        same(tensor, expected)


def check_scaled_sum() -> None:
    tensor = mine()
    dist.all_reduce(tensor, dist._make_nccl_premul_sum(0.5))
    same(tensor, all_of().sum(0) * 0.5)


def check_what_hccl_does_not_reduce() -> None:
    for dtype in (torch.float64, torch.float8_e4m3fn):
        with pytest.raises(RuntimeError, match="does not reduce"):
            dist.all_reduce(torch.ones(2).to(dtype).to(NPU))
    with pytest.raises(RuntimeError, match=r"cannot reduce with RedOpType\.BAND"):
        dist.all_reduce(mine(torch.int32), dist.ReduceOp.BAND)
    with pytest.raises(RuntimeError, match=r"HCCL has no torch\.complex64"):
        dist.group.WORLD.broadcast([torch.ones(2, dtype=torch.complex64, device=NPU)], 0)
    tensor = torch.full((2,), complex(RANK, 1), device=NPU)
    dist.all_reduce(tensor)  # torch itself passes it on as real
    same(tensor, torch.full((2,), complex(SIZE * (SIZE - 1) / 2, SIZE)))
    with pytest.raises(RuntimeError, match=r"does not reduce torch\.bool"):
        dist.reduce_scatter_tensor(mine(torch.bool, 1), mine(torch.bool, SIZE))


def check_memory_layouts() -> None:
    whole = mine(size=24).reshape(4, 6)
    with pytest.raises(RuntimeError, match="contiguous"):
        dist.all_reduce(whole.T)
    with pytest.raises(RuntimeError, match="contiguous"):
        dist.broadcast(whole[:, ::2], 0)
    dist.all_reduce(whole[1:3])  # a view with an offset
    expected = of_rank(RANK, size=24).reshape(4, 6)
    expected[1:3] = all_of(size=24).sum(0).reshape(4, 6)[1:3]
    same(whole, expected)
    images = mine(size=48).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last)
    dist.all_reduce(images)
    assert images.is_contiguous(memory_format=torch.channels_last)
    same(images, all_of(size=48).sum(0).reshape(2, 3, 2, 4))
    scalar = torch.tensor(1.0, device=NPU)
    dist.all_reduce(scalar)
    same(scalar, torch.tensor(float(SIZE)))
    dist.all_reduce(torch.empty(0, device=NPU))


def check_broadcast() -> None:
    for dtype in COPIED:
        for root in (0, SIZE - 1):
            tensor = mine(dtype)
            dist.broadcast(tensor, root)
            same(tensor, of_rank(root, dtype))


def check_reduce() -> None:
    for op in OPERATIONS:
        tensor = mine()
        dist.reduce(tensor, 1, op)
        same(tensor, reduced(all_of(), op) if RANK == 1 else of_rank(RANK))


def check_all_gather() -> None:
    for dtype in COPIED:
        parts = [torch.zeros(6, dtype=dtype, device=NPU) for _ in range(SIZE)]
        dist.all_gather(parts, mine(dtype))
        same(torch.stack(parts), all_of(dtype))


def check_all_gather_of_different_sizes() -> None:
    parts = [torch.zeros(rank, 2, device=NPU) for rank in range(SIZE)]
    dist.all_gather(parts, torch.full((RANK, 2), float(RANK), device=NPU))
    for rank, part in enumerate(parts):
        same(part, torch.full((rank, 2), float(rank)))


def check_all_gather_into_tensor() -> None:
    for dtype in COPIED:
        whole = torch.zeros(SIZE, 6, dtype=dtype, device=NPU)
        whole[RANK] = mine(dtype)
        dist.all_gather_into_tensor(whole, whole[RANK])  # in place, as FSDP does it
        same(whole, all_of(dtype))
    with pytest.raises(RuntimeError, match="times its elements"):
        dist.all_gather_into_tensor(torch.zeros(3, device=NPU), torch.zeros(2, device=NPU))


def check_reduce_scatter() -> None:
    rows = all_of(size=3 * SIZE).reshape(SIZE, SIZE, 3)
    for op in OPERATIONS:
        expected = reduced(rows, op)[RANK]
        source = mine(size=3 * SIZE)
        output = torch.zeros(3, device=NPU)
        dist.reduce_scatter(output, list(source.chunk(SIZE)), op)
        same(output, expected)
        output.zero_()
        dist.reduce_scatter_tensor(output, source, op)
        same(output, expected)
        same(source, of_rank(RANK, size=3 * SIZE))


def check_coalesced() -> None:
    ones, twos = mine(), mine() * 2
    with _coalescing_manager():
        dist.all_reduce(ones)
        dist.all_reduce(twos)
    same(twos, all_of().sum(0) * 2)
    same(ones, all_of().sum(0))
    wholes = [torch.zeros(SIZE, 2, device=NPU) for _ in range(2)]
    with _coalescing_manager(async_ops=True) as manager:
        for number, whole in enumerate(wholes):
            dist.all_gather_into_tensor(whole, torch.full((2,), RANK + 10.0 * number, device=NPU))
    manager.wait()
    for number, whole in enumerate(wholes):
        same(whole, (torch.arange(SIZE) + 10.0 * number)[:, None].expand(SIZE, 2).contiguous())
    shares = [torch.zeros(1, device=NPU) for _ in range(2)]
    with _coalescing_manager():
        for share in shares:
            dist.reduce_scatter_tensor(share, mine(size=SIZE))
    same(shares[1], all_of(size=SIZE).sum(0)[RANK : RANK + 1])
    with _coalescing_manager(device=NPU, async_ops=True) as manager:
        dist.broadcast(ones, 0)
        dist.broadcast(twos, 1)
    manager.wait()
    same(twos, all_of().sum(0) * 2)


def check_all_to_all() -> None:
    for dtype in COPIED:
        # Rank r gives r + s + 1 elements to rank s, each of value r.
        counts = [RANK + other + 1 for other in range(SIZE)]
        source = torch.full((sum(counts),), RANK % 2, dtype=dtype, device=NPU)
        target = torch.zeros(sum(counts), dtype=dtype, device=NPU)
        dist.all_to_all_single(target, source, counts, counts)
        expected = torch.cat([torch.full((n,), r % 2, dtype=dtype) for r, n in enumerate(counts)])
        same(target, expected)
    square = mine(size=SIZE * 2).reshape(SIZE, 2)
    turned = torch.zeros_like(square)
    dist.all_to_all_single(turned, square)
    same(turned, all_of(size=SIZE * 2).reshape(SIZE, SIZE, 2)[:, RANK])
    parts = [torch.zeros(rank, device=NPU) for rank in range(SIZE)]
    dist.all_to_all(parts, [torch.full((RANK,), float(RANK), device=NPU)] * SIZE)
    for rank, part in enumerate(parts):
        same(part, torch.full((rank,), float(rank)))


def check_all_to_all_that_do_not_fit() -> None:
    counts = [1] * SIZE
    if RANK == 0:
        counts[-1] = 2
    source = torch.zeros(sum(counts), device=NPU)
    with pytest.raises(dist.DistBackendError, match=r"give .* elements, and expect"):
        dist.all_to_all_single(torch.zeros(SIZE, device=NPU), source, [1] * SIZE, counts)
    with pytest.raises(RuntimeError, match="does not split into"):
        dist.all_to_all_single(torch.zeros(SIZE + 1, device=NPU), torch.zeros(SIZE, device=NPU))


def check_gather_and_scatter() -> None:
    with_gather = [torch.zeros(6, device=NPU) for _ in range(SIZE)] if RANK == 1 else None
    dist.gather(mine(), with_gather, dst=1)
    if with_gather is not None:
        same(torch.stack(with_gather), all_of())
    # torch_npu's own gather is an all-gather; the backend has the other, too.
    group = dist.group.WORLD
    options = dist.GatherOptions()
    options.rootRank = 1
    group.gather([with_gather] if RANK == 1 else [], [mine() * 2], options).wait()
    if with_gather is not None:
        same(torch.stack(with_gather), all_of() * 2)
    for dtype in COPIED:
        output = torch.zeros(6, dtype=dtype, device=NPU)
        rows = list(all_of(dtype).to(NPU)) if RANK == 0 else None
        dist.scatter(output, rows, src=0)
        same(output, of_rank(RANK, dtype))


def check_send_and_receive() -> None:
    for dtype in COPIED:
        tensor = torch.zeros(6, dtype=dtype, device=NPU)
        if RANK % 2 == 0:
            dist.send(mine(dtype), RANK + 1)
            dist.recv(tensor, RANK + 1)
            same(tensor, of_rank(RANK + 1, dtype))
        else:
            assert dist.recv(tensor, RANK - 1) == RANK - 1
            same(tensor, of_rank(RANK - 1, dtype))
            dist.send(mine(dtype), RANK - 1)
    received = torch.zeros(6, device=NPU)
    works = [dist.irecv(received, (RANK - 1) % SIZE), dist.isend(mine(), (RANK + 1) % SIZE)]
    for work in works:
        assert work.wait()
        assert work.is_completed()
    same(received, of_rank((RANK - 1) % SIZE))
    with pytest.raises(RuntimeError, match="any source"):
        dist.recv(received)


def check_messages_arrive_in_order() -> None:
    if RANK == 0:
        works = [dist.isend(torch.full((2,), float(n), device=NPU), 1) for n in range(5)]
    elif RANK == 1:
        tensors = [torch.zeros(2, device=NPU) for _ in range(5)]
        works = [dist.irecv(tensor, 0) for tensor in tensors]
        works.reverse()  # waited for in another order
    else:
        return
    for work in works:
        work.wait()
    if RANK == 1:
        assert [tensor[0].item() for tensor in tensors] == [0, 1, 2, 3, 4]


def check_batched_sends_and_receives() -> None:
    after, before = (RANK + 1) % SIZE, (RANK - 1) % SIZE
    for ways in ((dist.isend, dist.irecv), (dist.irecv, dist.isend)):
        received = torch.zeros(6, device=NPU)
        operations = [
            dist.P2POp(
                way,
                mine() if way is dist.isend else received,
                after if way is dist.isend else before,
            )
            for way in ways
        ]
        for work in dist.batch_isend_irecv(operations):
            work.wait()
        same(received, of_rank(before))
    work = dist.group.WORLD.batch_isend_irecv(
        ["irecv", "isend"], [received, mine() * 3], [before, after]
    )
    work.wait()
    same(received, of_rank(before) * 3)


def check_messages_that_do_not_fit() -> None:
    """Gloo would end the receiving process; HCCL and we raise, on both sides."""
    if RANK > 1:
        return
    tensor = torch.zeros(10 if RANK == 0 else 5, device=NPU)
    with pytest.raises(dist.DistBackendError, match=r"rank 0 sends 10 .*, rank 1 receives 5"):
        dist.send(tensor, 1) if RANK == 0 else dist.recv(tensor, 0)


def check_objects() -> None:
    gathered = [None] * SIZE
    dist.all_gather_object(gathered, {"rank": RANK, "long": "x" * RANK})
    assert gathered == [{"rank": rank, "long": "x" * rank} for rank in range(SIZE)]
    told = ["of rank 1", 3] if RANK == 1 else [None, None]
    dist.broadcast_object_list(told, src=1)
    assert told == ["of rank 1", 3]
    collected = [None] * SIZE if RANK == 0 else None
    dist.gather_object(RANK, collected)
    assert collected == (list(range(SIZE)) if RANK == 0 else None)
    share = [None]
    dist.scatter_object_list(share, [f"for {rank}" for rank in range(SIZE)], src=0)
    assert share == [f"for {RANK}"]


def check_work() -> None:
    tensor = mine()
    work = dist.all_reduce(tensor, async_op=True)
    future = work.get_future()
    assert work.wait(timedelta(seconds=20))
    assert work.is_completed()
    assert work.is_success()
    assert work.exception() is None
    same(work.result()[0], all_of().sum(0))
    assert future.wait()[0] is tensor
    doubled = dist.all_reduce(tensor, async_op=True).get_future().then(lambda f: f.value()[0] * 2)
    same(doubled.wait(), all_of().sum(0) * SIZE * 2)
    assert dist.barrier(async_op=True).wait()
    dist.barrier(device_ids=[NPU.index])


def check_order_of_what_nobody_waits_for() -> None:
    tensor = torch.ones(1000, device=NPU)
    works = [dist.all_reduce(tensor, async_op=True) for _ in range(5)]
    dist.all_reduce(tensor, dist.ReduceOp.AVG)  # behind those
    assert all(work.is_completed() for work in works)
    same(tensor, torch.full((1000,), float(SIZE**5)))


def check_a_callback_may_wait_for_a_collective() -> None:
    tensors = [torch.ones(1000, device=NPU) for _ in range(4)]
    works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
    work = dist.all_reduce(torch.ones(1, device=NPU), async_op=True)  # not done so soon

    def further(future: torch.futures.Future) -> torch.Tensor:
        (tensor,) = future.value()
        return dist.all_reduce(tensor, async_op=True).get_future().wait()[0]

    same(work.get_future().then(further).wait(), torch.tensor([float(SIZE**2)]))
    for work in works:
        work.wait()


def check_different_collectives_raise_on_all_ranks() -> None:
    tensor = mine(size=3 + (RANK == 0))
    with pytest.raises(dist.DistBackendError, match=r"rank 0: all_reduce\(SUM, \[4\]"):
        dist.all_reduce(tensor)
    work = dist.all_reduce(tensor, async_op=True)
    future = work.get_future()
    with pytest.raises(dist.DistBackendError, match="same collective"):
        work.wait()
    with pytest.raises(RuntimeError, match="same collective"):
        future.wait()
    assert not work.is_success()
    with pytest.raises(dist.DistBackendError, match=r"rank 1: barrier\(\)"):
        dist.barrier(device_ids=[NPU.index]) if RANK == 1 else dist.broadcast(tensor, 0)
    many = [torch.zeros(size, device=NPU) for size in (*range(1, 40), 40 + RANK)]
    with pytest.raises(dist.DistBackendError, match=r"\.\.\."):  # they differ at the end
        dist.group.WORLD.allreduce_coalesced(many).wait()
    dist.all_reduce(tensor := mine())  # the group goes on
    same(tensor, all_of().sum(0))


def check_groups() -> None:
    options = ProcessGroupHCCL.Options()
    options.hccl_config = {"hccl_buffer_size": 200}
    pair = dist.new_group([0, 2], backend="hccl", pg_options=options)
    if RANK in (0, 2):
        tensor = mine()
        dist.all_reduce(tensor, group=pair)
        same(tensor, of_rank(0) + of_rank(2))
        dist.broadcast(tensor, src=2, group=pair)
        assert pair._get_backend(NPU).options.hccl_config["hccl_buffer_size"] == 200
        assert pair.get_hccl_comm_name(0) == pair.options.group_id
    with pytest.raises(RuntimeError, match="the soft NPU has backend 'hccl'"):
        dist.new_group(backend="lccl")
    subgroup, _ = dist.new_subgroups(2)
    tensor = mine()
    dist.all_reduce(tensor, group=subgroup)
    first = RANK // 2 * 2
    same(tensor, of_rank(first) + of_rank(first + 1))
    dist.destroy_process_group(subgroup)


def check_device_mesh() -> None:
    mesh = dist.init_device_mesh("npu", (2, SIZE // 2), mesh_dim_names=("data", "model"))
    tensor = torch.tensor([float(RANK)], device=NPU)
    dist.all_reduce(tensor, group=mesh.get_group("data"))
    assert tensor.item() == RANK % 2 * 2 + 2
    shards = torch.distributed.tensor.distribute_tensor(
        torch.arange(8.0, device=NPU), mesh["model"], [torch.distributed.tensor.Shard(0)]
    )
    same(shards.full_tensor(), torch.arange(8.0))
    assert shards.to_local().numel() == 8 // (SIZE // 2)


def check_cpu_beside_npu() -> None:
    both = dist.new_group(backend="cpu:gloo,npu:hccl")
    assert both._device_types == [torch.device("cpu"), torch.device("npu")]
    tensor = of_rank(RANK)
    dist.all_reduce(tensor, group=both)
    torch.testing.assert_close(tensor, all_of().sum(0))
    tensor = mine()
    dist.all_reduce(tensor, group=both)
    same(tensor, all_of().sum(0))
    gathered = [None] * SIZE
    dist.all_gather_object(gathered, RANK, group=both)
    assert gathered == list(range(SIZE))
    dist.barrier(both)
    default = dist.new_group(backend=None)
    assert default._device_types == [torch.device("npu")]


def check_functional_collectives() -> None:
    group = list(range(SIZE))
    same(functional.all_reduce(mine(), "sum", group).wait(), all_of().sum(0))
    same(functional.all_gather_tensor(mine(), 0, group).wait(), all_of().reshape(-1))
    same(
        functional.reduce_scatter_tensor(mine(size=SIZE), "sum", 0, group).wait(),
        all_of(size=SIZE).sum(0)[RANK : RANK + 1],
    )
    same(
        functional.all_to_all_single(mine(size=SIZE), None, None, group).wait(),
        all_of(size=SIZE)[:, RANK].contiguous(),
    )
    same(functional.broadcast(mine(), 1, group).wait(), of_rank(1))


def check_torch_npu_uneven() -> None:
    from torch_npu.distributed import (
        all_gather_into_tensor_uneven,
        all_to_all_vc,
        reduce_scatter_tensor_uneven,
    )

    sizes = [rank + 1 for rank in range(SIZE)]
    whole = torch.zeros(sum(sizes), 2, device=NPU)
    all_gather_into_tensor_uneven(whole, torch.full((RANK + 1, 2), float(RANK), device=NPU), sizes)
    expected = torch.cat([torch.full((n, 2), float(rank)) for rank, n in enumerate(sizes)])
    same(whole, expected)
    share = torch.zeros(RANK + 1, 2, device=NPU)
    reduce_scatter_tensor_uneven(share, whole, sizes)
    same(share, torch.full((RANK + 1, 2), float(RANK * SIZE)))
    matrix = [[(i + j) % 3 for j in range(SIZE)] for i in range(SIZE)]
    taken = torch.zeros(sum(row[RANK] for row in matrix), device=NPU)
    all_to_all_vc(taken, torch.full((sum(matrix[RANK]),), float(RANK), device=NPU), matrix)
    same(taken, torch.cat([torch.full((row[RANK],), float(i)) for i, row in enumerate(matrix)]))


def check_a_rank_that_does_not_come() -> None:
    group = dist.new_group(timeout=timedelta(seconds=1))
    if RANK:
        with pytest.raises(dist.DistBackendError, match="all_reduce"):
            dist.all_reduce(mine(), group=group)
        late = dist.all_reduce(mine(), group=group, async_op=True)
        with pytest.raises(dist.DistBackendError):
            late.wait(timedelta(seconds=5))


def check_connecting_anew() -> None:
    from torch_npu.distributed import reinit_process_group

    group = dist.new_group()
    for rebuild in (False, True):
        reinit_process_group(group, rebuild)
        tensor = mine()
        dist.all_reduce(tensor, group=group)
        same(tensor, all_of().sum(0))


def check_abort() -> None:
    group = dist.new_group()
    dist.all_reduce(mine(), group=group)
    dist.distributed_c10d._abort_process_group(group)
    with pytest.raises(dist.DistBackendError, match="aborted"):
        group.allreduce([mine()]).wait()


def check_end() -> None:
    dist.barrier(device_ids=[NPU.index])
    dist.destroy_process_group()
    assert not dist.is_initialized()
    dist.init_process_group(timeout=timedelta(seconds=30))  # again, with the default backend
    tensor = mine()
    dist.all_reduce(tensor)
    same(tensor, all_of().sum(0))
    assert torch_npu.npu.current_device() == NPU.index
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.npu.set_device(NPU)
    dist.init_process_group("hccl", timeout=timedelta(seconds=30))
    faulthandler.dump_traceback_later(80, exit=True)
    run_checks(globals(), RANK)

"""torch.npu and torch.accelerator on two soft devices of this process."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import npu

GIB = 1 << 30


@pytest.fixture(autouse=True)
def _first_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)  # out of memory, torch_npu writes a table where it runs
    npu.set_device(0)
    yield
    npu.set_device(0)


# ---- devices ----


def test_the_current_device() -> None:
    assert npu.device_count() == 2
    assert npu.is_available()
    assert torch.ones(1, device="npu").device == torch.device("npu:0")
    npu.set_device(1)
    assert npu.current_device() == 1
    assert torch.ones(1, device="npu").device == torch.device("npu:1")
    with npu.device(0):
        assert torch.ones(1).npu().device == torch.device("npu:0")
        with npu.device_of(torch.ones(1, device="npu:1")):
            assert npu.current_device() == 1
        with torch.device("npu:1"):
            assert torch.ones(1).device == torch.device("npu:1")
    assert npu.current_device() == 1


def test_what_a_device_is() -> None:
    assert npu.get_device_name(1) == "Ascend910B1"
    properties = npu.get_device_properties(1)
    assert properties.name == "Ascend910B1"
    assert properties.total_memory == 64 * GIB
    assert (properties.cube_core_num, properties.vector_core_num) == (24, 48)
    assert properties.L2_cache_size == 192 << 20
    assert str(properties.uuid) != str(npu.get_device_properties(0).uuid)
    assert npu.can_device_access_peer(0, 1)
    assert npu.is_bf16_supported()
    assert npu.utilization() == 0


def test_limits_of_cores_are_remembered() -> None:
    whole = {"cube_core_num": 24, "vector_core_num": 48}
    assert npu.get_device_limit(1) == whole
    npu.set_device_limit(1, 12, 30)  # torch_npu lets a process do so once
    assert npu.get_device_limit(1) == {"cube_core_num": 12, "vector_core_num": 30}
    assert npu.get_device_limit(0) == whole


@pytest.mark.parametrize("use", [npu.set_device, lambda i: torch.ones(1, device=f"npu:{i}")])
def test_a_device_that_is_not_there(use: object) -> None:
    assert callable(use)
    with pytest.raises(RuntimeError, match=r"no soft NPU 7: there are 2 \(MX_AUTOPATCH_SOFT_DEV"):
        use(7)
    assert npu.current_device() == 0


def test_a_thread_starts_on_the_first_device() -> None:
    seen = []

    def run() -> None:
        seen.append(torch.ones(1, device="npu").device.index)
        npu.set_device(1)
        seen.append(torch.ones(1, device="npu").device.index)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [0, 1]
    assert npu.current_device() == 0


def test_from_one_device_to_another() -> None:
    x = torch.arange(12.0, device="npu:0").view(3, 4)
    there = x.t().to("npu:1")
    assert there.device == torch.device("npu:1")
    assert torch.equal(there.cpu(), x.cpu().t())
    there[1:].copy_(x.t()[:3])
    assert torch.equal(there[1:].cpu(), x.cpu().t()[:3])
    assert there.data_ptr() != x.data_ptr()
    with pytest.raises(RuntimeError, match="npu:0 and npu:1"):
        x.t() + there


def test_a_gradient_comes_back_from_another_device() -> None:
    x = torch.ones(2, device="npu:0", requires_grad=True)
    (x.to("npu:1") * 3).sum().backward()
    assert x.grad is not None
    assert x.grad.device == x.device
    assert x.grad.tolist() == [3.0, 3.0]


# ---- memory ----


def test_statistics_of_memory_move() -> None:
    gc.collect()  # what other tests left behind is not to go while these are compared
    gc.disable()
    try:
        _statistics_move()
    finally:
        gc.enable()


def _statistics_move() -> None:
    npu.empty_cache()
    npu.reset_peak_memory_stats()
    before, free = npu.memory_allocated(), npu.mem_get_info()[0]
    x = torch.empty(1 << 26, device="npu")  # too large for what others hold in part
    # torch_npu adds 32 bytes to each block, and rounds up to 512.
    assert npu.memory_allocated() - before == (256 << 20) + 512
    assert npu.max_memory_allocated() >= npu.memory_allocated()
    assert npu.memory_stats()["allocation.all.current"] >= 1
    assert npu.mem_get_info() == (free - (258 << 20), 64 * GIB)
    reserved = npu.memory_reserved()
    assert npu.memory_allocated(1) == 0
    del x
    assert npu.memory_allocated() == before
    assert npu.memory_reserved() == reserved
    npu.empty_cache()
    assert npu.memory_reserved() == reserved - (258 << 20)
    assert npu.mem_get_info()[0] == free
    assert npu.max_memory_allocated() > before
    npu.reset_peak_memory_stats()
    assert npu.max_memory_allocated() == before
    assert "NPU memory" in npu.memory_summary() or "PyTorch" in npu.memory_summary()


def test_a_history_of_memory(tmp_path: Path) -> None:
    npu.memory._record_memory_history(context=None)
    x = torch.ones(5, device="npu")
    snapshot = npu.memory._snapshot()
    npu.memory._dump_snapshot(str(tmp_path / "snapshot.pickle"))
    npu.memory._record_memory_history(None)
    blocks = [block for segment in snapshot["segments"] for block in segment["blocks"]]
    assert any(block["address"] == x.data_ptr() for block in blocks)
    assert any(entry["action"] == "alloc" for entry in snapshot["device_traces"][0])
    dumped = pickle.loads((tmp_path / "snapshot.pickle").read_bytes())
    assert dumped["segments"] == snapshot["segments"]


def test_a_share_of_the_memory_can_be_all_there_is() -> None:
    npu.empty_cache()
    npu.set_per_process_memory_fraction(0.0001)  # 6.6 MB
    try:
        with pytest.raises(torch.OutOfMemoryError, match=r"6\.55 MiB allowed"):
            torch.empty(8 << 20, device="npu")
        assert torch.ones(100, device="npu").sum().item() == 100
    finally:
        npu.set_per_process_memory_fraction(1.0)
    assert torch.zeros(8 << 20, device="npu").sum().item() == 0


def test_more_memory_than_the_device_has() -> None:
    with pytest.raises(torch.OutOfMemoryError, match=r"NPU out of memory\. Tried to allocate 100"):
        torch.empty(100 * GIB, dtype=torch.int8, device="npu:1")
    assert torch.ones(1, device="npu:1").item() == 1


def test_pinned_memory() -> None:
    x = torch.randn(5)
    pinned = x.pin_memory()
    assert pinned.is_pinned()
    assert pinned[2:].is_pinned()
    assert not x.is_pinned()
    assert torch.empty(4, pin_memory=True).is_pinned()
    there = pinned.to("npu", non_blocking=True)
    assert not there.is_pinned()
    assert torch.equal(there.to("cpu", non_blocking=True), x)
    with pytest.raises(RuntimeError, match="only dense CPU tensors can be pinned"):
        there.pin_memory()


# ---- streams and events ----


def test_streams() -> None:
    stream, other = npu.Stream(priority=-1), npu.Stream(device=1)
    assert other.device == torch.device("npu:1")
    assert npu.current_stream() == npu.default_stream()
    with npu.stream(stream):
        assert npu.current_stream() == stream
        x = torch.ones(3, device="npu")
        with npu.stream(other):
            assert npu.current_device() == 1
    assert npu.current_stream() == npu.default_stream()
    npu.current_stream().wait_stream(stream)
    x.record_stream(npu.current_stream())
    assert stream.query()
    stream.synchronize()
    npu.set_stream(stream)
    assert npu.current_stream() == stream
    npu.set_stream(npu.default_stream())
    npu.synchronize()
    npu.synchronize("npu:1")


@pytest.mark.parametrize("make", [npu.Event, lambda **how: torch.Event("npu", **how)])
def test_events(make: object) -> None:
    assert callable(make)
    stream = npu.current_stream()
    start, end = make(enable_timing=True), make(enable_timing=True)
    start.record(stream)
    x = torch.ones(100, 100, device="npu") @ torch.ones(100, 100, device="npu")
    end.record(stream)
    end.synchronize()
    stream.wait_event(end)
    end.wait(stream)
    assert end.query()
    assert 0 < start.elapsed_time(end) < 60e3
    assert x[0, 0].item() == 100
    blocking = npu.Event(blocking=True)
    stream.record_event(blocking)
    blocking.synchronize()


def test_the_time_between_events_of_which_one_was_not_recorded() -> None:
    start, end = npu.Event(enable_timing=True), npu.Event(enable_timing=True)
    start.record()
    with pytest.raises(RuntimeError, match="Both events must be recorded"):
        start.elapsed_time(end)


def test_accelerator() -> None:
    accelerator = torch.accelerator
    assert accelerator.current_accelerator() == torch.device("npu")
    assert accelerator.is_available()
    assert accelerator.device_count() == 2
    with accelerator.device_index(1):
        assert accelerator.current_device_index() == 1
        assert npu.current_device() == 1
    accelerator.set_device_index(1)
    assert torch.ones(1, device=accelerator.current_accelerator()).device.index == 1
    accelerator.set_device_index(0)
    accelerator.set_stream(accelerator.current_stream())
    accelerator.synchronize()
    x = torch.ones(1 << 20, device="npu")
    assert accelerator.memory_allocated() == npu.memory_allocated() >= x.nbytes
    assert accelerator.max_memory_allocated() == npu.max_memory_allocated()
    assert accelerator.get_memory_info() == npu.mem_get_info()
    accelerator.empty_cache()
    accelerator.reset_peak_memory_stats()


# ---- random numbers ----


def test_a_seed_gives_the_same_numbers() -> None:
    torch.manual_seed(3)
    first, second = torch.rand(4, device="npu"), torch.rand(4, device="npu")
    assert not torch.equal(first, second)
    npu.manual_seed(3)
    assert torch.equal(torch.rand(4, device="npu"), first)
    assert npu.initial_seed() == 3
    state = npu.get_rng_state()
    third = torch.randn(4, device="npu")
    npu.set_rng_state(state)
    assert torch.equal(torch.randn(4, device="npu"), third)
    npu.manual_seed_all(3)
    assert torch.equal(torch.rand(4, device="npu:1").cpu(), first.cpu())
    states = npu.get_rng_state_all()
    there = torch.randperm(9, device="npu:1")
    npu.set_rng_state_all(states)
    assert torch.equal(torch.randperm(9, device="npu:1"), there)


def test_the_device_and_the_cpu_draw_apart() -> None:
    torch.manual_seed(0)
    on_cpu = [torch.rand(3), torch.rand(3)]
    torch.manual_seed(0)
    seen = torch.rand(3)
    torch.rand(3, device="npu")
    torch.nn.functional.dropout(torch.ones(9, device="npu"))
    assert torch.equal(seen, on_cpu[0])
    assert torch.equal(torch.rand(3), on_cpu[1])


def test_a_generator_of_ones_own() -> None:
    generator = torch.Generator(device="npu:1").manual_seed(5)
    assert generator.device == torch.device("npu:1")
    x = torch.randn(3, generator=generator, device="npu:1")
    state = generator.get_state()
    y = torch.empty(3, device="npu:1").normal_(generator=generator)
    generator.set_state(state)
    assert torch.equal(torch.empty(3, device="npu:1").normal_(generator=generator), y)
    generator.manual_seed(5)
    assert torch.equal(torch.randn(3, generator=generator, device="npu:1"), x)
    with pytest.raises(RuntimeError, match="'npu' device type for generator but found 'cpu'"):
        torch.rand(2, device="npu", generator=torch.Generator())


def test_fork_rng() -> None:
    torch.manual_seed(1)
    with torch.random.fork_rng(devices=[0, 1], device_type="npu"):
        inside = torch.rand(2, device="npu:1")
    assert torch.equal(torch.rand(2, device="npu:1"), inside)


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_activations_drop_what_was_dropped(reentrant: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)
    ).npu()
    x = torch.randn(16, 8, device="npu", requires_grad=True)
    gradients = []
    for recomputed in (False, True):
        model.zero_grad()
        torch.manual_seed(5)
        y = checkpoint(model, x, use_reentrant=reentrant) if recomputed else model(x)
        y.sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == 4
    assert all(torch.equal(a, b) for a, b in zip(*gradients))


# ---- what the soft NPU does not have ----


def test_a_graph_of_kernels_is_refused() -> None:
    graph = npu.graph(npu.NPUGraph())
    with pytest.raises(RuntimeError, match="the soft NPU has no aclmdlRICaptureBegin"):
        graph.__enter__()
    npu.set_stream(npu.default_stream())  # which torch_npu does not do
    assert (torch.ones(2, device="npu") + 1).tolist() == [2.0, 2.0]


def test_an_event_of_another_process_is_refused() -> None:
    event = npu.Event(interprocess=True)
    with pytest.raises(RuntimeError, match="the soft NPU has no aclrtIpcGetEventHandle"):
        event.ipc_handle()


def test_one_process_for_several_devices_is_refused() -> None:
    model = torch.nn.DataParallel(torch.nn.Linear(2, 2).npu(), device_ids=[0, 1])
    with pytest.raises(RuntimeError, match="HcclCommInitAll"):
        model(torch.ones(4, 2, device="npu"))
    alone = torch.nn.DataParallel(torch.nn.Linear(2, 2).npu(), device_ids=[0])
    assert alone(torch.ones(4, 2, device="npu")).shape == (4, 2)


@pytest.mark.filterwarnings("ignore:triton-ascend is not installed")
def test_a_code_generator_is_refused() -> None:
    x = torch.ones(3, device="npu")
    with pytest.raises(RuntimeError, match="Device npu not supported"):
        torch.compile(lambda x: x.sin() + 1, backend="inductor")(x)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_functions_without_a_code_generator(backend: str) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return (x.sin() * x).sum()

    x = torch.ones(3, device="npu", requires_grad=True)
    torch.compile(function, backend=backend)(x).backward()
    compiled, x.grad = x.grad, None
    function(x).backward()
    assert torch.equal(compiled, x.grad)

"""What scripts written for CUDA rely on, said as they say it; prints the names of what held.

Run by test_transfer_to_npu.py in a process of its own. Nothing here names an NPU but the
lines that look at where something is.
"""

import io
import json
import os
import tempfile
import warnings

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FILTERS = [f"{action} {category.__name__}" for action, _, category, *_ in warnings.filters]
HELD = []


def holds(check):
    check()
    HELD.append(check.__name__)


def on_npu(*tensors):
    return all(str(tensor.device) == "npu:0" for tensor in tensors)


# First, since the others initialise the device.
@holds
def importing_initialises_nothing():
    assert not torch.npu.is_initialized()
    assert not torch.cuda.is_initialized()


@holds
def a_forked_child_uses_the_device():
    assert torch.cuda.is_available()  # as every script asks before
    assert torch.cuda.device_count() == 1
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = int(torch.ones(3, device="cuda").sum().item() != 3)
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert not torch.npu.is_initialized()


@holds
def forked_loaders():
    data = TensorDataset(torch.arange(8.0))
    how = {"num_workers": 2, "multiprocessing_context": "fork", "pin_memory": True}
    batches = [batch for (batch,) in DataLoader(data, 4, **how)]
    assert all(batch.is_pinned() for batch in batches)
    assert [batch.cuda(non_blocking=True).sum().item() for batch in batches] == [6, 22]


@holds
def devices():
    assert torch.cuda.current_device() == 0
    for device in (0, "cuda:0", torch.device("cuda:0"), torch.device("cuda", 0)):
        torch.cuda.set_device(device)
        assert torch.cuda.get_device_name(device)
        assert torch.cuda.get_device_properties(device).total_memory > 0
        with torch.cuda.device(device):
            assert on_npu(torch.ones(1, device="cuda"))
    with torch.device("cuda"):
        assert on_npu(torch.ones(1))


@holds
def capability():
    # torch_npu answers None, unless this is set; an NPU has no such number.
    os.environ["TORCH_NPU_DEVICE_CAPABILITY"] = "8.0"
    warnings.filterwarnings("ignore", "The return value of get_device_capability")
    assert torch.cuda.get_device_capability() == torch.cuda.get_device_capability(0) == (8, 0)


@holds
def moving():
    x = torch.ones(2)
    for device in (0, "cuda", "cuda:0", torch.device("cuda"), torch.device("cuda", 0)):
        assert on_npu(x.cuda(device), x.to(device), x.to(device, non_blocking=True))
        assert on_npu(x.to(device=device, dtype=torch.float16), x.new_zeros(2, device=device))
        assert on_npu(nn.Linear(2, 2).cuda(device).weight, nn.Linear(2, 2).to(device).weight)
        assert on_npu(torch.zeros(2, device=device), torch.tensor([1.0], device=device))
    assert on_npu(x.cuda(), x.cuda(device=0, non_blocking=True), nn.Linear(2, 2).cuda().weight)
    assert x.cuda().is_cuda
    assert not x.is_cuda
    assert x.cuda().cpu().device.type == "cpu"


@holds
def tensor_types():
    assert torch.equal(torch.cuda.FloatTensor([1, 2]).cpu(), torch.tensor([1.0, 2.0]))
    assert torch.cuda.LongTensor([1]).dtype == torch.int64
    assert isinstance(torch.ones(1).cuda(), torch.cuda.FloatTensor)
    assert not isinstance(torch.ones(1), torch.cuda.FloatTensor)
    assert on_npu(torch.ones(1).type(torch.cuda.FloatTensor))
    assert on_npu(torch.ones(1).type("torch.cuda.FloatTensor"))
    assert torch.ones(1).type() == "torch.FloatTensor"


@holds
def autocast():
    linear, x = nn.Linear(4, 4).cuda(), torch.ones(2, 4).cuda()
    for context in (
        torch.cuda.amp.autocast(),
        torch.cuda.amp.autocast(enabled=True, dtype=torch.float16),
        torch.amp.autocast("cuda"),
        torch.autocast(device_type="cuda", dtype=torch.float16),
    ):
        with context:
            assert torch.is_autocast_enabled()
            assert torch.get_autocast_gpu_dtype() == linear(x).dtype == torch.float16
    assert not torch.is_autocast_enabled()
    assert linear(x).dtype == torch.float32
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert linear(x).dtype == torch.bfloat16
    assert torch.cuda.amp.autocast()(linear)(x).dtype == torch.float16


def scaled_step(scaler, inputs):
    linear = nn.Linear(4, 1).cuda()
    optimizer = torch.optim.SGD(linear.parameters(), 0.1)
    before = linear.weight.detach().clone()
    scaler.scale(linear(inputs).float().mean()).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(linear.parameters(), 10.0)
    scaler.step(optimizer)
    scaler.update()
    return before, linear.weight.detach(), scaler.get_scale()


@holds
def grad_scaler():
    for scaler in (torch.cuda.amp.GradScaler, lambda **how: torch.amp.GradScaler("cuda", **how)):
        before, after, scale = scaled_step(scaler(init_scale=1024.0), torch.ones(2, 4).cuda())
        torch.testing.assert_close(before - after, torch.full_like(after, 0.1))
        assert scale == 1024
        inf = torch.full((2, 4), float("inf")).cuda()
        before, after, scale = scaled_step(scaler(init_scale=1024.0), inf)
        assert torch.equal(before, after)
        assert scale == 512


@holds
def streams():
    side, start, end = torch.cuda.Stream(), *(torch.cuda.Event(enable_timing=True) for _ in "12")
    start.record()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        x = torch.ones(3, device="cuda") * 2
    torch.cuda.current_stream().wait_stream(side)
    x.record_stream(torch.cuda.current_stream())
    end.record()
    torch.cuda.synchronize()
    torch.cuda.synchronize("cuda:0")
    assert start.elapsed_time(end) > 0
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


@holds
def random_numbers():
    def drawn(seed):
        seed(5)
        return torch.rand(3, device="cuda")

    first = drawn(torch.cuda.manual_seed_all)
    assert torch.equal(first, drawn(torch.cuda.manual_seed))
    assert torch.equal(first, drawn(torch.manual_seed))
    state = torch.cuda.get_rng_state()
    after = torch.rand(3, device="cuda")
    torch.cuda.set_rng_state(state)
    assert torch.equal(after, torch.rand(3, device="cuda"))
    assert len(torch.cuda.get_rng_state_all()) == 1
    generator = torch.Generator(device="cuda").manual_seed(5)
    assert isinstance(generator, torch.Generator)
    assert torch.equal(first, torch.rand(3, device="cuda", generator=generator))


@holds
def checkpoints():
    file = io.BytesIO()
    torch.save({"weight": torch.ones(2).cuda()}, file)

    def loaded(**how):
        file.seek(0)
        return torch.load(file, **how)["weight"]

    for place in ("cuda", "cuda:0", torch.device("cuda:0"), lambda s, _: s.cuda(0)):
        assert on_npu(loaded(map_location=place))
    assert on_npu(loaded(), loaded(map_location={"cuda:0": "cuda:0"}))
    assert loaded(map_location="cpu").device.type == "cpu"
    assert loaded(map_location={"cuda:0": "cpu"}).device.type == "cpu"
    with tempfile.TemporaryDirectory(prefix="of_cuda_") as folder:
        path = os.path.join(folder, "cuda.pth")
        torch.save({"weight": torch.ones(2)}, path)
        assert on_npu(torch.load(path, "cuda")["weight"], torch.load(path, "cuda:0")["weight"])
        assert torch.load(f=path, map_location="cpu")["weight"].device.type == "cpu"
        numbers = os.path.join(folder, "numbers")
        torch.ones(2).numpy().tofile(numbers)
        assert torch.from_file(numbers, size=2).tolist() == [1, 1]


@holds
def pinned_memory():
    assert torch.ones(2).pin_memory().is_pinned()
    assert torch.ones(2, pin_memory=True).is_pinned()
    assert not torch.ones(2).is_pinned()


@holds
def memory():
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    x = torch.ones(1 << 20, device="cuda")
    for device in (None, 0, "cuda:0", torch.device("cuda")):
        assert torch.cuda.memory_allocated(device) >= before + 4 * x.numel()
        assert torch.cuda.max_memory_allocated(device) >= torch.cuda.memory_allocated(device)
        assert torch.cuda.memory_reserved(device) >= torch.cuda.memory_allocated(device)
    free, total = torch.cuda.mem_get_info()
    assert 0 < free < total
    del x
    assert torch.cuda.memory_allocated() == before
    torch.cuda.empty_cache()
    assert "allocated" in torch.cuda.memory_summary().lower()


@holds
def settings_of_cudnn():
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    assert not torch.backends.cudnn.is_available()
    x = torch.ones(1, 1, 3, 3).cuda()
    assert torch.equal(nn.functional.conv2d(x, x).cpu(), torch.full((1, 1, 1, 1), 9.0))


@holds
def one_device_data_parallel():
    model = nn.DataParallel(nn.Linear(2, 2).cuda(), device_ids=[0])
    model(torch.ones(3, 2).cuda()).sum().backward()
    assert on_npu(model.module.weight.grad)


@holds
def process_groups():
    with tempfile.TemporaryDirectory(prefix="of_cuda_") as folder:
        meeting = os.path.join(folder, "cuda")
        dist.init_process_group("nccl", f"file://{meeting}", world_size=1, rank=0)
        assert os.path.exists(meeting)
        assert dist.get_backend() == "hccl"
        x = torch.ones(2, device="cuda")
        dist.all_reduce(x)
        assert x.tolist() == [1, 1]
        model = nn.parallel.DistributedDataParallel(nn.Linear(2, 2).cuda(), device_ids=[0])
        model(torch.ones(3, 2).cuda()).sum().backward()
        assert on_npu(model.module.weight.grad)
        dist.destroy_process_group()


@holds
def torchscript():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of torchscript

        @torch.jit.script
        def function(x):
            # transfer_to_npu wraps all of these.
            return x + torch.ones(2) + torch.arange(2) + torch.zeros_like(x)

        linear = torch.jit.script(nn.Linear(2, 2)).cuda()

    assert isinstance(function, torch.jit.ScriptFunction)
    assert torch.equal(function(torch.zeros(2)), torch.tensor([1.0, 2.0]))
    assert isinstance(linear, torch.jit.ScriptModule)
    assert on_npu(linear(torch.ones(1, 2).cuda()))


@holds
def modules_that_were_put_off():
    from torch._inductor.compile_fx import has_triton
    from torch._inductor.fx_passes.post_grad import get_gpu_type
    from torch.utils.cpp_extension import include_paths

    assert not has_triton()
    assert get_gpu_type() == "npu"
    assert include_paths("cuda") == include_paths("npu")


print(json.dumps({"held": HELD, "filters": FILTERS}))

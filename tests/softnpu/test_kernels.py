"""What a kernel of the soft NPU does with memory, devices, errors and random numbers."""

from __future__ import annotations

import io
import threading

import pytest
import torch
from torch import nn

from mx_autopatch.errors import SoftNpuError
from mx_autopatch.softnpu.aten import FUNCTIONS, NATIVE, SPECIAL
from mx_autopatch.softnpu.install import installed_kernels, native_operators

NPU = torch.device("npu:0")


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def two_devices(monkeypatch):
    """The stand-in reads the number of devices whenever it is asked; torch_npu remembers it."""
    monkeypatch.setenv("MX_AUTOPATCH_SOFT_DEVICES", "2")
    if torch.npu.device_count() != 2:
        pytest.skip("torch_npu has counted the devices already")
    yield torch.device("npu:1")
    torch.npu.set_device(0)


def memory(tensor):
    return tensor.untyped_storage().data_ptr()


def both(function, *tensors):
    """Call with CPU tensors and with the same on the device; return the two results."""
    return function(*tensors), function(*[tensor.to(NPU) for tensor in tensors])


# ---- out= ----------------------------------------------------------------------------------


def test_out_that_is_empty_is_resized():
    a, out = torch.randn(3, 4, device=NPU), torch.empty(0, device=NPU)
    assert torch.add(a, 1, out=out) is out
    assert out.shape == (3, 4)
    assert torch.equal(out, a + 1)


@pytest.mark.parametrize("size", [(2,), (7, 9)], ids=["smaller", "larger"])
def test_out_of_another_size_is_resized_with_torchs_warning(size):
    a, out = torch.randn(3, 4, device=NPU), torch.ones(size, device=NPU)
    with pytest.warns(UserWarning, match="An output with one or more elements was resized"):
        torch.add(a, 1, out=out)
    assert out.shape == (3, 4)
    assert out.is_contiguous()
    assert torch.equal(out, a + 1)


def test_out_that_is_not_contiguous_is_written_where_it_lies():
    whole = torch.zeros(4, 6, device=NPU)
    torch.mul(torch.ones(4, 3, device=NPU), 5, out=whole[:, ::2])
    assert whole[:, ::2].eq(5).all()
    assert whole[:, 1::2].eq(0).all()


def test_out_of_a_wrong_dtype_is_refused():
    a = torch.randn(3, device=NPU)
    with pytest.raises(RuntimeError, match="can't be cast to the desired output type Long"):
        torch.add(a, 1, out=torch.empty(3, dtype=torch.int64, device=NPU))


def test_out_that_is_an_argument():
    a = torch.arange(4.0, device=NPU)
    torch.add(a, a, out=a)
    assert a.tolist() == [0, 2, 4, 6]
    with pytest.raises(RuntimeError, match="unsupported operation"):
        torch.add(a[:-1], 1, out=a[1:])


def test_several_outs_and_named_results():
    a = torch.tensor([[3.0, 1.0], [2.0, 5.0]], device=NPU)
    values, indices = torch.empty(0, device=NPU), torch.empty(0, dtype=torch.int64, device=NPU)
    result = torch.sort(a, 1, out=(values, indices))
    assert result.values is values
    assert values.tolist() == [[1, 3], [2, 5]]
    assert indices.tolist() == [[1, 0], [0, 1]]
    assert a.max(1).indices.tolist() == [0, 1]


def test_out_on_the_cpu_is_refused():
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        torch.add(torch.ones(2, device=NPU), 1, out=torch.ones(2))


# ---- views and strides ---------------------------------------------------------------------


def test_in_place_on_a_view_with_an_offset():
    whole = torch.zeros(5, 5, device=NPU)
    whole[1:3, 2:4].add_(1).mul_(3)
    expected = torch.zeros(5, 5)
    expected[1:3, 2:4] = 3
    assert torch.equal(whole.cpu(), expected)


def test_in_place_returns_the_very_tensor():
    a = torch.ones(2, device=NPU)
    assert a.add_(1) is a
    assert a.clamp_(max=1.5) is a
    assert a.tolist() == [1.5, 1.5]


def test_conjugate_and_negative_views():
    z = torch.tensor([1 + 2j, 3 - 1j])
    host, ours = both(lambda x: (x.conj() * 2, x.conj().imag + 1, x.conj() @ x), z)
    for one, two in zip(host, ours):
        assert torch.equal(one, two.cpu())
    lazy = z.to(NPU).conj()
    assert lazy.is_conj()
    assert lazy.imag.is_neg()
    lazy.mul_(2)
    assert torch.equal(lazy.resolve_conj().cpu(), z.conj() * 2)


def test_expanded_inputs_and_empty_ones():
    row = torch.arange(3.0)
    host, ours = both(lambda x: (x.expand(4, 3) + 1).sum(0), row)
    assert torch.equal(host, ours.cpu())
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        row.to(NPU).expand(4, 3).add_(1)
    empty = torch.empty(0, 3, device=NPU)
    assert (empty + 1).shape == (0, 3)
    assert empty.sum().item() == 0
    assert torch.cat((empty, empty)).shape == (0, 3)
    assert empty.clone().shape == empty.zero_().shape == (0, 3)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 1,
        lambda x: x.clone(),
        torch.empty_like,
        lambda x: x.double(),
        lambda x: nn.functional.max_pool2d(x, 2),
        lambda x: nn.functional.conv2d(x, torch.ones(5, 3, 1, 1, device=x.device)),
        lambda x: x.contiguous(),
        lambda x: x.permute(0, 3, 1, 2).clone(),
    ],
    ids=["add", "clone", "empty_like", "cast", "pool", "conv", "contiguous", "permuted"],
)
def test_memory_formats_are_those_of_the_cpu(function):
    host, ours = both(function, torch.randn(2, 3, 4, 6).to(memory_format=torch.channels_last))
    assert ours.stride() == host.stride()
    assert ours.shape == host.shape


def test_to_channels_last():
    x = torch.randn(2, 3, 4, 5, device=NPU)
    y = x.to(memory_format=torch.channels_last)
    assert y.stride() == (60, 1, 15, 3)
    assert torch.equal(x, y)


def test_views_in_place_change_the_tensor():
    a = torch.arange(6.0, device=NPU).view(2, 1, 3)
    at = memory(a)
    assert a.squeeze_(1).shape == (2, 3)
    assert a.t_().stride() == (1, 3)
    assert a.unsqueeze_(0).shape == (1, 3, 2)
    assert memory(a) == at
    assert a.tolist() == [[[0, 3], [1, 4], [2, 5]]]


def test_parts_are_views():
    a = torch.zeros(4, 2, device=NPU)
    for part in (*a.split(2), *a.chunk(2), *a.unbind(1), a.narrow(0, 1, 2), a.diagonal()):
        assert memory(part) == memory(a)
    a.split([1, 3])[1].fill_(7)
    assert a.sum().item() == 42


# ---- lists of tensors ----------------------------------------------------------------------


def test_foreach_in_place_and_new():
    host = [torch.randn(3), torch.randn(2, 2)]
    ours = [tensor.to(NPU) for tensor in host]
    torch._foreach_mul_(ours, 2.0)
    torch._foreach_addcmul_(ours, ours, ours, value=0.5)
    torch._foreach_mul_(host, 2.0)
    torch._foreach_addcmul_(host, host, host, value=0.5)
    norms = torch._foreach_norm(ours)
    for one, two, norm in zip(host, ours, norms):
        assert torch.equal(one, two.cpu())
        assert norm.device == NPU
        assert torch.equal(norm.cpu(), one.norm())


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "fused": True}),
        (torch.optim.SGD, {"momentum": 0.9, "foreach": True, "weight_decay": 0.1}),
        (torch.optim.Adam, {"fused": True, "amsgrad": True}),
        (torch.optim.AdamW, {"fused": True}),
        (torch.optim.AdamW, {"foreach": True}),
        (torch.optim.RMSprop, {}),
    ],
    ids=["SGD-fused", "SGD-foreach", "Adam-fused", "AdamW-fused", "AdamW-foreach", "RMSprop"],
)
def test_optimizers_step_as_on_the_cpu(cls, options):
    def train(device):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1)).to("cpu").to(device)
        optimizer = cls(model.parameters(), lr=0.05, **options)
        x = torch.linspace(-1, 1, 24).view(6, 4).to(device)
        for _ in range(4):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        return torch.cat([p.detach().cpu().flatten() for p in model.parameters()])

    torch.testing.assert_close(train(NPU), train(torch.device("cpu")))


def test_grad_scaler_unscales_and_finds_what_is_not_finite():
    parameter = nn.Parameter(torch.ones(2, device=NPU))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scaler = torch.amp.GradScaler("npu", init_scale=4.0)
    scaler.scale(parameter.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert parameter.tolist() == [0, 0]
    optimizer.zero_grad()
    scaler.scale((parameter * float("inf")).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert parameter.tolist() == [0, 0]
    assert scaler.get_scale() == 2.0


# ---- devices -------------------------------------------------------------------------------


def test_a_scalar_of_the_cpu_goes_with_npu_tensors():
    a = torch.ones(3, device=NPU)
    assert (a * torch.tensor(2.0)).tolist() == [2, 2, 2]
    assert (torch.tensor(2.0) - a).tolist() == [1, 1, 1]
    assert torch.where(a > 0, torch.tensor(5.0), a).tolist() == [5, 5, 5]


@pytest.mark.parametrize(
    "function",
    [
        lambda npu, cpu: npu + cpu,
        lambda npu, cpu: cpu + npu,
        lambda npu, cpu: npu.add_(cpu),
        lambda npu, cpu: torch.cat((npu, cpu)),
        lambda npu, cpu: npu @ cpu,
        lambda npu, cpu: nn.functional.linear(npu, cpu),
        lambda npu, cpu: npu.gather(0, cpu.long()),
        lambda npu, cpu: torch._foreach_add([npu], [cpu]),
    ],
    ids=["add", "radd", "add_", "cat", "matmul", "linear", "gather", "foreach"],
)
def test_a_tensor_of_the_cpu_does_not(function):
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        function(torch.ones(2, 2, device=NPU), torch.ones(2, 2))


def test_where_the_hardware_takes_tensors_of_the_cpu():
    a = torch.arange(5.0, device=NPU)
    assert a[torch.tensor([3, 1])].tolist() == [3, 1]
    assert a[torch.tensor([True, False, True, False, False])].tolist() == [0, 2]
    a[torch.tensor([0])] = 9.0
    a[1:3].copy_(torch.tensor([7.0, 8.0]))
    assert a.tolist() == [9, 7, 8, 3, 4]
    host = torch.zeros(5)
    host.copy_(a)
    assert host.tolist() == a.tolist()


def test_numbers_stand_for_tensors_without_changing_the_dtype():
    a = torch.tensor(5, dtype=torch.int8, device=NPU)
    a |= 2
    assert (a.item(), a.dtype) == (7, torch.int8)
    assert (a + 1).dtype == torch.int8
    assert (a * 0.5).dtype == torch.float32
    assert torch.where(a > 0, 1.0, 2).dtype == torch.float32
    assert (torch.ones(2, dtype=torch.float16, device=NPU) * 3.0).dtype == torch.float16


def test_two_devices(two_devices):
    a, b = torch.ones(2, device=NPU), torch.ones(2, device=two_devices)
    assert (b + 1).device == two_devices
    assert torch.zeros_like(b).device == two_devices
    assert b.to(NPU).device == NPU
    assert torch.equal(a, b.to(NPU))
    with pytest.raises(RuntimeError, match="two devices, npu:0 and npu:1"):
        a + b
    a.copy_(b * 3)
    assert a.tolist() == [3, 3]
    torch.npu.set_device(1)
    assert torch.zeros(1, device="npu").device == two_devices
    assert torch.randn(1, device=NPU).device == NPU


# ---- random numbers ------------------------------------------------------------------------


def test_the_first_draw_after_seeding_is_the_cpus():
    torch.manual_seed(11)
    expected = torch.randn(4)
    torch.manual_seed(11)
    first, second = torch.randn(4, device=NPU), torch.randn(4, device=NPU)
    assert torch.equal(first.cpu(), expected)
    assert not torch.equal(first, second)


def test_draws_leave_the_cpus_stream_alone_and_can_be_replayed():
    torch.manual_seed(5)
    cpu_state, state = torch.get_rng_state(), torch.npu.get_rng_state()
    drawn = [torch.rand(3, device=NPU), torch.randperm(9, device=NPU)]
    drawn.append(nn.functional.dropout(torch.ones(50, device=NPU)))
    assert torch.equal(torch.get_rng_state(), cpu_state)
    torch.npu.set_rng_state(state)
    again = [torch.rand(3, device=NPU), torch.randperm(9, device=NPU)]
    again.append(nn.functional.dropout(torch.ones(50, device=NPU)))
    for one, two in zip(drawn, again):
        assert torch.equal(one, two)


def test_a_generator_of_the_device_and_one_of_the_cpu():
    generator = torch.Generator(device=NPU).manual_seed(7)
    first = torch.randn(3, generator=generator, device=NPU)
    assert not torch.equal(first, torch.randn(3, generator=generator, device=NPU))
    generator.manual_seed(7)
    assert torch.equal(first, torch.empty(3, device=NPU).normal_(generator=generator))
    out = torch.empty(0, dtype=torch.int64, device=NPU)
    torch.randperm(5, generator=generator, out=out)
    assert sorted(out.tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="Expected a 'npu' device type for generator"):
        torch.randn(3, generator=torch.Generator(), device=NPU)


def test_checkpointing_draws_the_same_dropout_again():
    x = torch.ones(200, device=NPU, requires_grad=True)
    y = torch.utils.checkpoint.checkpoint(
        nn.functional.dropout, x, use_reentrant=False, preserve_rng_state=True
    )
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


# ---- autograd, transforms, modes -----------------------------------------------------------


def test_backward_in_another_thread():
    x = torch.arange(3.0, device=NPU, requires_grad=True)
    loss = (x.sigmoid() * x).sum()
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    y = x.detach().cpu().requires_grad_()
    (y.sigmoid() * y).sum().backward()
    assert torch.equal(x.grad.cpu(), y.grad)
    assert x.grad.device == NPU


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_without_gradients(mode):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    x = torch.randn(2, 3, 6, 6)
    with mode():
        expected = model.eval()(x)
        result = model.to(NPU)(x.to(NPU))
        result.add_(1)
    assert not result.requires_grad
    assert result.is_inference() == (mode is torch.inference_mode)
    torch.testing.assert_close(result.cpu() - 1, expected)


def test_function_transforms():
    def loss(weight, x):
        return (torch.tanh(x @ weight) ** 2).sum()

    weight, x = torch.randn(3, 2), torch.randn(5, 3)
    host, ours = both(
        lambda w, x: torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(w, x), weight, x
    )
    torch.testing.assert_close(ours.cpu(), host)
    host, ours = both(lambda w, x: torch.func.jvp(loss, (w, x), (w, x))[1], weight, x)
    torch.testing.assert_close(ours.cpu(), host)


def test_parameters_and_subclasses():
    parameter = nn.Parameter(torch.ones(3, device=NPU))
    assert type(parameter + 1) is torch.Tensor
    assert (parameter + 1).requires_grad

    class Tagged(torch.Tensor):
        pass

    tagged = torch.ones(3, device=NPU).as_subclass(Tagged)
    assert type(tagged * 2) is Tagged
    assert (tagged * 2).tolist() == [2, 2, 2]


def test_a_default_device_is_no_trap():
    torch.set_default_device(NPU)
    try:
        made = torch.ones(2, dtype=torch.int16)
        assert made.device == NPU
        assert (made + made).tolist() == [2, 2]
        assert torch.randperm(3).device == NPU
        assert torch.add(made, 1, out=torch.empty(0, dtype=torch.int16)).tolist() == [2, 2]
    finally:
        torch.set_default_device(None)


# ---- leaving the device --------------------------------------------------------------------


def test_values_come_to_the_host():
    a = torch.tensor([[1.5, 2.0]], device=NPU)
    assert a.tolist() == [[1.5, 2.0]]
    assert a[0, 0].item() == 1.5
    assert bool(a.gt(1).all())
    assert "tensor([[1.5000, 2.0000]], device='npu:0')" in repr(a)
    with pytest.raises(TypeError, match="can't convert npu:0 device type tensor to numpy"):
        a.numpy()


def test_saving_and_loading():
    stream = io.BytesIO()
    torch.save({"a": torch.arange(3, device=NPU)}, stream)
    stream.seek(0)
    loaded = torch.load(stream)["a"]
    assert loaded.device == NPU
    assert loaded.tolist() == [0, 1, 2]
    stream.seek(0)
    assert torch.load(stream, map_location="cpu")["a"].device.type == "cpu"


# ---- operators without a kernel ------------------------------------------------------------


def test_an_operator_that_torch_npu_lacks_goes_over_the_cpu():
    assert "aten::linalg_eigh" not in native_operators()
    symmetric = torch.tensor([[2.0, 1.0], [1.0, 2.0]], device=NPU)
    values = torch.linalg.eigvalsh(symmetric)
    assert values.device == NPU
    torch.testing.assert_close(values.cpu(), torch.tensor([1.0, 3.0]))


def test_sparse_tensors_compute_or_refuse():
    sparse = torch.tensor([[0.0, 1.0], [2.0, 0.0]], device=NPU).to_sparse()
    assert (sparse * 2).to_dense().tolist() == [[0, 2], [4, 0]]
    with pytest.raises(RuntimeError, match="aten::addmm"):
        torch.sparse.mm(sparse, torch.ones(2, 2, device=NPU))


def test_a_refused_operator_names_itself():
    with pytest.raises(SoftNpuError, match=r"aten::to_padded_tensor .* nested tensors"):
        torch.ops.aten.to_padded_tensor(torch.ones(2, device=NPU), 0.0)


def test_every_registered_operator_is_computed_special_native_or_refused():
    ours = {name for name, key in installed_kernels() if key == "PrivateUse1"}
    registered = {name for name in native_operators() if name.startswith("aten::")}
    assert len(registered) > 1000
    assert registered - ours <= NATIVE
    assert set(SPECIAL) | set(FUNCTIONS) <= ours
    refused = {
        name
        for (name, key), kernel in installed_kernels().items()
        if name.startswith("aten::") and kernel.__name__ == "refusal"
    }
    assert refused == {
        "aten::_scaled_grouped_mm",
        "aten::_scaled_grouped_mm_v2",
        "aten::quantize_per_channel",
        "aten::quantize_per_tensor",
        "aten::to_padded_tensor",
    }

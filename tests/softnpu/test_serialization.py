"""Tensors of the soft NPU in files, copies, pickles and other libraries."""

from __future__ import annotations

import copy
import io
import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
from torch import npu


@pytest.fixture(autouse=True)
def _first_device() -> None:
    torch.set_num_threads(1)
    npu.set_device(0)


def saved(value: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(value, file)
    return file


def loaded(file: io.BytesIO, **how: Any) -> Any:
    file.seek(0)
    return torch.load(file, **how)


def test_load_to_where_it_was_or_elsewhere() -> None:
    value = {
        "there": torch.randn(3, device="npu:1"),
        "host": torch.randn(2),
        "parameter": torch.nn.Parameter(torch.randn(2, 2, device="npu")),
    }
    file = saved(value)
    as_it_was = loaded(file)
    assert as_it_was["there"].device == torch.device("npu:1")
    assert as_it_was["host"].device.type == "cpu"
    assert isinstance(as_it_was["parameter"], torch.nn.Parameter)
    assert as_it_was["parameter"].requires_grad
    places: list[tuple[Any, str, str]] = [
        ("cpu", "cpu", "cpu"),
        ("npu:0", "npu:0", "npu:0"),
        (torch.device("npu", 1), "npu:1", "npu:1"),
        ({"npu:1": "npu:0"}, "npu:0", "cpu"),
        ({"npu:1": "cpu"}, "cpu", "cpu"),
        (lambda storage, place: storage, "cpu", "cpu"),
    ]
    for place, there, host in places:
        for weights_only in (True, False):
            found = loaded(file, map_location=place, weights_only=weights_only)
            assert found["there"].device == torch.device(there), place
            assert found["host"].device == torch.device(host), place
            for name, tensor in value.items():
                assert torch.equal(found[name].cpu(), tensor.cpu()), (place, name)


def test_views_share_their_memory_after_loading() -> None:
    base = torch.arange(6.0, device="npu").view(2, 3)
    found = loaded(saved({"base": base, "view": base.t()[1:]}))
    found["base"].zero_()
    assert found["view"].sum().item() == 0
    assert found["view"].stride() == (1, 3)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
)
def test_dtypes(dtype: torch.dtype) -> None:
    x = torch.tensor([0, 1, 1], device="npu").to(dtype)
    assert torch.equal(loaded(saved(x)), x)
    assert torch.equal(pickle.loads(pickle.dumps(x)), x)


def test_a_model_and_the_state_of_its_optimizer() -> None:
    model = torch.nn.Linear(4, 4).npu()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 4, device="npu")).sum().backward()
    optimizer.step()
    file = saved({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    state = loaded(file, map_location="cpu", weights_only=True)
    other = torch.nn.Linear(4, 4).npu()
    resumed = torch.optim.AdamW(other.parameters())
    other.load_state_dict(state["model"])
    resumed.load_state_dict(state["optimizer"])
    moments = [s["exp_avg"] for s in resumed.state.values()]
    assert {m.device for m in moments} == {torch.device("npu:0")}
    for one, stepper in ((model, optimizer), (other, resumed)):
        one.zero_grad()
        one(torch.ones(2, 4, device="npu")).sum().backward()
        stepper.step()
    assert torch.equal(model.weight, other.weight)


def test_a_checkpoint_of_the_cpu_is_loaded_onto_the_device() -> None:
    model = torch.nn.Linear(2, 2)
    found = loaded(saved(model.state_dict()), map_location="npu:1")
    assert found["weight"].device == torch.device("npu:1")
    assert torch.equal(found["weight"].cpu(), model.weight)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch_npu's use of it
def test_copies_and_pickles() -> None:
    x = torch.randn(4, 4, device="npu:1")[1:, ::2]
    for same in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), copy.copy(x)):
        assert same.device == x.device
        assert torch.equal(same, x)
    leaf = torch.randn(3, device="npu", requires_grad=True)
    leaf.sum().backward()
    twin = copy.deepcopy(leaf)
    assert twin.requires_grad
    assert twin.is_leaf
    twin.data.zero_()
    assert leaf.abs().sum().item() > 0
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).npu()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other[0].weight.data_ptr() != model[0].weight.data_ptr()
        for name, tensor in model.state_dict().items():
            assert torch.equal(other.state_dict()[name], tensor), name


def test_numpy_needs_a_copy_on_the_cpu() -> None:
    x = torch.ones(2, device="npu")
    with pytest.raises(TypeError, match=r"can't convert npu:0 device type tensor to numpy"):
        x.numpy()
    assert x.cpu().numpy().tolist() == x.tolist() == [1.0, 1.0]


def test_dlpack() -> None:
    """Within torch; to other libraries the device has no number."""
    x = torch.arange(3.0, device="npu")
    same = torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(x))
    assert same.device == x.device
    assert same.data_ptr() == x.data_ptr()
    with pytest.raises(ValueError, match="Unknown device type npu for Dlpack"):
        x.__dlpack_device__()


def test_the_memory_of_another_process_is_refused() -> None:
    """A tensor that is sent to another process fails where it is sent."""
    x = torch.ones(2, device="npu")
    with pytest.raises(RuntimeError, match="the soft NPU has no aclrtIpcMemGetExportKey"):
        ForkingPickler.dumps(x)
    assert len(ForkingPickler.dumps(x.cpu())) > 0

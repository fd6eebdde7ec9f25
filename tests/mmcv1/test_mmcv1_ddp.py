"""mmcv.ddp and mmcv.ddp_forward on mmcv's own class, with gloo and with the soft NPU's hccl."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch_npu  # noqa: F401  the soft one of this lane
from mmcv.device.npu import NPUDistributedDataParallel
from mmcv.parallel import DataContainer, MMDistributedDataParallel, distributed, is_module_wrapper

from mx_autopatch import bootstrap
from mx_autopatch.model import Status

BOTH = ["mmcv.ddp", "mmcv.ddp_forward"]
CALLS = ("forward", "train_step", "val_step")

torch.set_num_threads(1)


class Model(torch.nn.Module):
    """Wants a list of meta data on the host, beside a tensor on its own device."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, img: Any, metas: Any = ()) -> Any:
        assert img.device == self.layer.weight.device
        assert [meta["name"] for meta in metas] == ["a"]
        sizes = [meta["size"] for meta in metas if meta["size"] is not None]
        assert all(size.device.type == "cpu" for size in sizes)
        return (self.layer(img) ** 2).sum()

    def train_step(self, data: Any, optimizer: Any = None) -> Any:
        return self(**data)

    val_step = train_step


def batch(contained: bool = True) -> dict[str, Any]:
    image = torch.arange(12.0).reshape(3, 4) / 10
    metas = [{"name": "a", "size": torch.ones(2)}]
    if not contained:
        return {"img": image, "metas": metas}
    return {
        "img": DataContainer([image], stack=True),
        "metas": DataContainer([metas], cpu_only=True),
    }


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch_npu's own, and DDP's
        yield


@pytest.fixture(params=["gloo", "hccl"])
def group(request: pytest.FixtureRequest) -> Iterator[str]:
    """A process group of this process alone; the device on which its tensors are."""
    current = torch.npu.current_device()
    dist.init_process_group(request.param, store=dist.HashStore(), rank=0, world_size=1)
    yield "cpu" if request.param == "gloo" else "npu:1"
    dist.destroy_process_group()
    torch.npu.set_device(current)


def wrapped(device: str, cls: Any = MMDistributedDataParallel) -> Any:
    where = {} if device == "cpu" else {"device_ids": [int(device[-1])]}
    return cls(Model().to(device), broadcast_buffers=False, **where)


def loss_and_gradients(model: Any, name: str, data: dict[str, Any]) -> list[torch.Tensor]:
    loss = model(**data) if name == "forward" else getattr(model, name)(data)
    loss.backward()
    return [loss.detach().cpu(), *(p.grad.cpu() for p in model.parameters())]


def expected() -> list[torch.Tensor]:
    return loss_and_gradients(Model(), "forward", batch(contained=False))


def test_torch_2_needs_it(group: str) -> None:
    with pytest.raises(AttributeError, match="_use_replicated_tensor_module"):
        wrapped(group)(**batch(contained=False))


@pytest.mark.parametrize("name", CALLS)
def test_numbers_and_gradients(group: str, name: str, engine: Any) -> None:
    engine(patches__only=BOTH, device="soft")
    assert torch.npu.current_device() == 0
    # On the CPU DDP has no device_ids, and mmcv scatters nothing.
    data = batch(contained=group != "cpu")
    got = loss_and_gradients(wrapped(group), name, data)
    torch.testing.assert_close(got, expected())
    assert torch.npu.current_device() == 0


def test_derived_classes(group: str, engine: Any) -> None:
    class Derived(MMDistributedDataParallel):  # type: ignore[misc]
        pass

    engine(patches__only=BOTH, device="soft")
    model = wrapped(group, Derived)
    assert is_module_wrapper(model)
    got = loss_and_gradients(model, "forward", batch(contained=group != "cpu"))
    torch.testing.assert_close(got, expected())


@pytest.mark.parametrize("group", ["hccl"], indirect=True)
def test_mmcvs_own_class_for_npus(group: str, engine: Any) -> None:
    engine(patches__only=BOTH, device="soft")
    torch.npu.set_device(1)  # to which that class copies, whatever number it is given
    for name in CALLS:
        data = batch()
        if name == "forward":  # it copies what is for the CPU, too
            data["metas"] = DataContainer([[{"name": "a", "size": None}]], cpu_only=True)
        got = loss_and_gradients(wrapped(group, NPUDistributedDataParallel), name, data)
        torch.testing.assert_close(got, expected())


@pytest.mark.parametrize("group", ["hccl"], indirect=True)
def test_without_mmcv_ddp_an_npu_gets_nothing(group: str, engine: Any) -> None:
    engine(patches__only=["mmcv.ddp_forward"], device="soft")
    with pytest.raises(AttributeError, match="'int' object has no attribute 'type'"):
        wrapped(group).train_step(batch())


def members() -> dict[str, Any]:
    return dict(vars(MMDistributedDataParallel))


def test_thrice_is_once_and_revert_gives_the_same_objects(engine: Any) -> None:
    before = members()
    engine(patches__only=BOTH, device="soft")
    for _ in range(2):
        bootstrap.activate(overrides={"patches.only": BOTH, "device": "soft"})
    patched = members()
    changed = {name for name in before if patched[name] is not before[name]}
    assert changed == {"scatter", "to_kwargs", "_run_ddp_forward"}
    for name in ("scatter", "to_kwargs"):  # which fall back to what stood there
        assert patched[name].__wrapped__ is before[name]
    assert {o.status for n in BOTH for o in bootstrap.report().of(n)} <= {
        Status.APPLIED,
        Status.LATE,
    }
    assert distributed.MMDistributedDataParallel is MMDistributedDataParallel
    bootstrap.deactivate()
    assert members() == before

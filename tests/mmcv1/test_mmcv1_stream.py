"""mmcv.stream: mmcv's own scatter, by its background stream."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch_npu  # noqa: F401  the soft one of this lane
from mmcv.parallel import DataContainer, MMDataParallel, _functions, scatter

from mx_autopatch import bootstrap
from mx_autopatch.model import Status

NAME = "mmcv.stream"
IMAGE = torch.arange(12.0).reshape(3, 4)

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transfer_to_npu says
        yield


@pytest.fixture
def on_npu(engine: Any) -> None:
    """mmcv asks for torch.cuda, as scripts written for it do."""
    engine(patches__only=[NAME, "torch.transfer_to_npu"], device="soft")


def test_torch_2_needs_it() -> None:
    with pytest.raises(AttributeError, match="'int' object has no attribute 'type'"):
        _functions.Scatter.forward([0], IMAGE)


@pytest.mark.usefixtures("on_npu")
def test_scatter() -> None:
    nested = {
        "img": DataContainer([IMAGE], stack=True),
        "boxes": DataContainer([[IMAGE + 1, torch.empty(0, 4)]]),
        "metas": DataContainer([["a", IMAGE]], cpu_only=True),
        "points": [IMAGE + 2],
    }
    for device in (0, 1):
        (got,) = scatter(nested, [device])
        tensors = [got["img"], *got["boxes"], *got["points"]]
        assert [str(t.device) for t in tensors] == [f"npu:{device}"] * 4
        expected = [IMAGE, IMAGE + 1, torch.empty(0, 4), IMAGE + 2]
        assert all(torch.equal(t.cpu(), e) for t, e in zip(tensors, expected))
        assert got["metas"][0] == "a"
        assert got["metas"][1].device.type == "cpu"
    (got,) = scatter(nested, [-1])  # mmcv's word for the CPU
    assert got["img"].device.type == "cpu"
    assert _functions._get_stream(-1) is None


@pytest.mark.usefixtures("on_npu")
def test_a_device_is_taken_as_it_is() -> None:
    stream = _functions._get_stream(torch.device("npu", 1))
    assert stream is _functions._get_stream(1)
    assert stream.device_index == 1
    assert _functions._get_stream(torch.device("cpu")) is None


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 2)

    def train_step(self, data: Any, optimizer: Any = None) -> Any:
        return (self.layer(data["img"]) ** 2).sum()


@pytest.mark.usefixtures("on_npu")
def test_data_parallel_has_the_numbers_and_gradients_of_the_cpu() -> None:
    results = []
    for model in (MMDataParallel(Model().cuda(), device_ids=[0]), Model()):
        image = IMAGE if isinstance(model, Model) else DataContainer([IMAGE], stack=True)
        loss = model.train_step({"img": image})
        loss.backward()
        results.append([loss.detach().cpu(), *(p.grad.cpu() for p in model.parameters())])
    torch.testing.assert_close(*results)


def test_thrice_is_once_and_revert_gives_the_same_object(engine: Any) -> None:
    before = _functions._get_stream
    engine(patches__only=[NAME], device="soft")
    for _ in range(2):
        bootstrap.activate(overrides={"patches.only": [NAME], "device": "soft"})
    assert _functions._get_stream.__wrapped__ is before
    (outcome,) = bootstrap.report().of(NAME)
    assert outcome.status in (Status.APPLIED, Status.LATE)
    # torch's own function of that name is nobody's copy.
    assert torch.nn.parallel._functions._get_stream is before
    bootstrap.deactivate()
    assert _functions._get_stream is before

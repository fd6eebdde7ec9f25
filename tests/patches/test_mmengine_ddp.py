"""mmengine.ddp: one rank over gloo, and that mmengine's own way over hccl needs no patch."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.model import Status

torch = pytest.importorskip("torch")
pytest.importorskip("mmengine.runner")

import torch.distributed as dist  # noqa: E402
from mmengine.dist import init_dist, utils  # noqa: E402
from mmengine.model import BaseModel, MMDistributedDataParallel  # noqa: E402
from mmengine.optim import OptimWrapper  # noqa: E402

NAME = "mmengine.ddp"
HAS_NPU = find_spec("torch_npu") is not None
on_cpu = pytest.mark.skipif(HAS_NPU, reason="mmengine takes the NPU that is there")

torch.set_num_threads(1)


class Model(BaseModel):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x: Any, mode: str = "tensor") -> Any:
        return {"loss": (self.layer(x) ** 2).sum()}


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """init_dist chooses a start method for the whole process, and reads its rank."""
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    before = multiprocessing.get_start_method(allow_none=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's and torch_npu's, of groups and devices
        yield
    if dist.is_initialized():
        dist.destroy_process_group()
    multiprocessing.set_start_method(before, force=True)


def begin(folder: Path, *backend: str, **more: Any) -> None:
    init_dist("pytorch", *backend, init_method=f"file://{folder}/store", **more)


def one_step(model: Any, inner: Any) -> list[Any]:
    """A training step as mmengine's loop takes it; loss, gradients and parameters."""
    optimizer = OptimWrapper(torch.optim.SGD(inner.parameters(), lr=0.1))
    data = {"x": torch.arange(12.0).reshape(3, 4) / 10}
    losses = model.train_step(data, optimizer)
    return [losses["loss"].detach().cpu(), *(p.detach().cpu() for p in inner.parameters())]


def expected() -> list[Any]:
    model = Model()
    return one_step(model, model)


@on_cpu
def test_without_it_there_is_no_way(tmp_path: Path) -> None:
    with pytest.raises((AttributeError, AssertionError), match=r"_cuda_setDevice|CUDA"):
        begin(tmp_path, rank=0, world_size=1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    with pytest.raises(ValueError, match="device_ids"):
        MMDistributedDataParallel(module=Model(), device_ids=[0])


@on_cpu
@pytest.mark.parametrize("backend", [(), ("nccl",), ("gloo",)])
def test_numbers_over_gloo(backend: tuple[str, ...], tmp_path: Path, engine: Any) -> None:
    engine(patches__only=[NAME], device="cpu")
    begin(tmp_path, *backend, rank=0, world_size=1)
    assert dist.get_backend() == "gloo"
    inner = Model()
    wrapped = MMDistributedDataParallel(
        module=inner, device_ids=[0], broadcast_buffers=False, find_unused_parameters=False
    )
    assert wrapped.device_ids is None
    assert all(map(torch.equal, one_step(wrapped, inner), expected()))


@on_cpu
def test_a_wrong_backend_is_the_callers(tmp_path: Path, engine: Any) -> None:
    engine(patches__only=[NAME], device="cpu")
    with pytest.raises(AssertionError, match="Unknown backend type nonsense"):
        begin(tmp_path, "nonsense", rank=0, world_size=1)


@pytest.mark.skipif(not HAS_NPU, reason="needs torch-npu")
def test_on_npus_nothing_is_needed_and_nothing_done(tmp_path: Path, engine: Any) -> None:
    report = engine(patches__only=[NAME], device="soft")
    begin(tmp_path)  # mmengine gives rank and number of ranks itself
    assert dist.get_backend() == "hccl"
    inner = Model().to("npu:0")
    wrapped = MMDistributedDataParallel(module=inner, device_ids=[0])
    torch.testing.assert_close(one_step(wrapped, inner), expected())
    assert {o.status for o in report().of(NAME)} == {Status.UNMET}


def functions() -> list[Any]:
    init = vars(MMDistributedDataParallel)["__init__"]
    return [init_dist, utils.init_dist, utils._init_dist_pytorch, init]


def test_thrice_is_once_and_revert_gives_the_same_objects(engine: Any) -> None:
    before = functions()
    engine(patches__only=[NAME], device="cpu")
    for _ in range(2):
        bootstrap.activate(overrides={"patches.only": [NAME], "device": "cpu"})
    patched = functions()
    assert all(new is not old for new, old in zip(patched, before))
    assert patched[1].__wrapped__ is before[1]
    assert patched[3].__wrapped__ is before[3]
    assert {o.status for o in bootstrap.report().of(NAME)} <= {Status.APPLIED, Status.LATE}
    bootstrap.deactivate()
    assert all(new is old for new, old in zip(functions(), before))

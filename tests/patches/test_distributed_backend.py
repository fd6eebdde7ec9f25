"""torch.distributed_backend: without a device in every lane, on the soft one in lane npu."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.model import Status
from mx_autopatch.patches.torch.distributed_backend import translated

torch = pytest.importorskip("torch")
dist = pytest.importorskip("torch.distributed")

NAME = "torch.distributed_backend"
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("named", "used"),
    [
        ("nccl", "hccl"),
        ("NCCL", "hccl"),
        ("cuda:nccl", "npu:hccl"),
        ("cuda:nccl,cpu:gloo", "npu:hccl,cpu:gloo"),
        ("cpu:gloo,cuda:nccl", "cpu:gloo,npu:hccl"),
        ("gloo", "gloo"),
        ("cpu:gloo", "cpu:gloo"),
        ("hccl", "hccl"),
        ("npu:hccl,cpu:gloo", "npu:hccl,cpu:gloo"),
        ("mpi", "mpi"),
        ("my_nccl", "my_nccl"),
        (None, None),
    ],
)
def test_names_of_backends(named: Any, used: Any) -> None:
    assert translated(named) == used
    if isinstance(named, str):
        assert translated(dist.Backend(named)) == used.lower()


def functions() -> list[Any]:
    """What the patch may change, by every name that it has."""
    c10d = importlib.import_module("torch.distributed.distributed_c10d")
    mesh = importlib.import_module("torch.distributed.device_mesh")
    names = ("init_process_group", "new_group", "is_nccl_available")
    return [vars(module).get(name) for module in (dist, c10d, mesh) for name in names]


def test_on_another_device_nothing_is_touched(engine: Any) -> None:
    before = functions()
    report = engine(patches__only=[NAME], device="cpu")
    assert {o.status for o in report().of(NAME)} == {Status.UNMET}
    assert all("requires the device npu" in o.reason for o in report().of(NAME))
    assert all(one is other for one, other in zip(functions(), before))


def test_what_is_bound_and_what_is_given_back(engine: Any) -> None:
    before = functions()
    c10d = importlib.import_module("torch.distributed.distributed_c10d")
    true = c10d.is_nccl_available
    report = engine(patches__only=[NAME], device="soft")
    assert {o.status for o in report().of(NAME)} == {Status.LATE}
    assert dist.init_process_group is c10d.init_process_group is not before[0]
    assert c10d.is_nccl_available is true  # torch goes on to ProcessGroupNCCL behind it
    assert dist.is_nccl_available is not true
    assert dist.init_process_group.__name__ == "init_process_group"
    bootstrap.deactivate()
    assert all(one is other for one, other in zip(functions(), before))


class TestOnTheSoftDevice:
    """One rank; what several do is tested with the backend."""

    @pytest.fixture(autouse=True)
    def patched(self, engine: Any) -> Iterator[None]:
        pytest.importorskip("torch_npu")
        engine(patches__only=[NAME], device="soft")
        yield
        if dist.is_initialized():
            dist.destroy_process_group()

    def begin(self, *args: Any, **kwargs: Any) -> None:
        dist.init_process_group(
            *args, store=dist.HashStore(), rank=0, world_size=1, timeout=MINUTE, **kwargs
        )

    def works(self, group: Any = None) -> None:
        tensor = torch.ones(2, device="npu")
        dist.all_reduce(tensor, group=group)
        assert tensor.tolist() == [1, 1]

    def test_positional(self) -> None:
        self.begin("nccl")
        assert dist.get_backend() == "hccl"
        self.works()

    def test_keyword_and_groups(self) -> None:
        self.begin(backend="cuda:nccl,cpu:gloo")
        self.works()
        dist.all_reduce(torch.ones(1))  # by gloo
        for group in (
            dist.new_group([0], None, "nccl"),
            dist.new_group([0], backend="nccl"),
            dist.new_subgroups(1, backend="nccl")[0],
        ):
            assert dist.get_backend(group) == "hccl"
            self.works(group)
        assert dist.get_backend(dist.new_group(backend="gloo")) == "gloo"

    def test_scripts_that_ask_first(self) -> None:
        assert dist.is_nccl_available()
        assert dist.is_backend_available("nccl")
        self.begin("nccl" if dist.is_nccl_available() else "gloo")
        self.works()
        torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2).to("npu"))

    def test_without_the_patch(self) -> None:
        bootstrap.deactivate()
        with pytest.raises(RuntimeError, match="NCCL"):
            self.begin("nccl")
        assert not dist.is_nccl_available()

    def test_a_config_of_mmengine(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Its launcher ``mpi`` passes the config's backend on, also on an NPU."""
        utils = pytest.importorskip("mmengine.dist.utils")
        monkeypatch.setattr(torch.cuda, "set_device", torch.npu.set_device)  # transfer_to_npu's
        for name, value in (
            ("OMPI_COMM_WORLD_LOCAL_RANK", "0"),
            *(("OMPI_COMM_WORLD_SIZE", "1"), ("OMPI_COMM_WORLD_RANK", "0")),
            ("MASTER_ADDR", "127.0.0.1"),
        ):
            monkeypatch.setenv(name, value)
        import multiprocessing

        monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none=False: "spawn")
        store = f"file://{tmp_path / 'store'}"
        utils.init_dist("mpi", backend="nccl", init_method=store, rank=0, world_size=1)
        assert dist.get_backend() == "hccl"
        assert utils.get_comm_device() == torch.device("npu", 0)
        self.works()

"""What every collective of backend ``hccl`` on the soft NPU rests on."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed import distributed_c10d as c10d

from mx_autopatch.softnpu.hccl.agreement import agreed
from mx_autopatch.softnpu.hccl.peers import Peers
from mx_autopatch.softnpu.hccl.work import Queue, SoftWork, joined

__all__ = ["Collectives", "by_device", "options", "shares"]

_CPU = torch.device("cpu")

#: While it is in force, cuda is another word for npu.
_TRANSFER = "torch_npu.contrib.transfer_to_npu"


def _first(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (list, tuple)):
        return next((t for item in value if (t := _first(item)) is not None), None)
    return None


def by_device(method: Callable[..., Any]) -> Callable[..., Any]:
    """Give tensors of the CPU to the group's backend for the CPU, if it has one."""
    name = method.__name__

    @functools.wraps(method)
    def routed(self: Any, *args: Any, **kwargs: Any) -> Any:
        tensor = _first(args)
        if tensor is not None and tensor.device.type == "cpu":
            return getattr(self._get_backend(_CPU), name)(*args, **kwargs)
        return method(self, *args, **kwargs)

    return routed


def options(kind: type[Any], timeout: timedelta | None, **fields: Any) -> Any:
    """Options of c10d, of class ``kind``; what is None keeps its default."""
    made = kind()
    for name, value in (*fields.items(), ("timeout", timeout)):
        if value is not None:
            setattr(made, name, value)
    return made


def shares(what: str, tensor: Tensor, splits: Sequence[int], size: int) -> list[int]:
    """The number of elements for each of ``size`` ranks, from sizes along the first axis.

    Without ``splits`` they are equal.

    Raises:
        RuntimeError: the axis does not split so.
    """
    if tensor.dim() == 0:
        raise RuntimeError(f"hccl: {what}: a tensor without axes cannot be split")
    length = tensor.size(0)
    if not splits and length % size == 0:
        splits = [length // size] * size
    if len(splits) != size or sum(splits) != length:
        raise RuntimeError(
            f"hccl: {what}: the first axis of {list(tensor.shape)} does not split into "
            f"{list(splits) or 'equal parts'} for {size} ranks"
        )
    width = tensor.numel() // length if length else 0
    return [int(split) * width for split in splits]


class Collectives(dist.ProcessGroup):
    """A process group that is its own backend, and how one of its collectives is carried out.

    Args:
        store: For Gloo to find its peers by.
        rank: Of this process in the group.
        size: Number of ranks.
        options: ProcessGroupHCCL.Options; the timeout and the global ranks count.
    """

    supports_splitting = False
    supports_coalescing = True
    supports_time_estimate = False
    supports_shrinking = False

    def __init__(self, store: Store, rank: int, size: int, options: Any) -> None:
        super().__init__(rank, size)  # type: ignore[call-arg]
        self.options = options
        self._names = [int(r) for r in options.global_ranks_in_group] or list(range(size))
        self._store = store
        self._on_cpu: dist.ProcessGroupGloo | None = None
        self._gathered: list[dist.Work] | None = None
        self._number = 0
        self._connect()
        # torch keeps the name of a group in its backends. None of ours is ever called there.
        kind = dist.ProcessGroup.BackendType.CUSTOM
        self._register_backend(torch.device("npu"), kind, self._gloo)

    def _connect(self) -> None:
        # Of class Any, since torch's stubs know ProcessGroupGloo by its constructor only.
        self._gloo: Any = self._new_gloo("hccl")
        self._queue = Queue(f"hccl {self.options.group_id}")
        self._peers = Peers(self._gloo, self._names)

    def _new_gloo(self, name: str) -> dist.ProcessGroupGloo:
        # A group that is made anew after destroy_process_group has the store and the name
        # of its predecessor, whose peers Gloo would look for: so each is given a number.
        number = self._store.add(f"{name} of rank {self.rank()}", 1)
        store = PrefixStore(f"{name} {number}", self._store)
        return dist.ProcessGroupGloo(store, self.rank(), self.size(), self.options._timeout)

    # -- what a group is asked about itself --------------------------------------

    def get_group_store(self) -> Store:
        return self._store

    def getBackendName(self) -> str:
        return "hccl"

    def _backends(self) -> dict[str, str]:
        """Device -> backend, as the group was made; known once it has been."""
        config = c10d._world.pg_backend_config.get(self)
        if config is None:
            return {"npu": "hccl"}
        backends = c10d.BackendConfig(c10d.Backend(config)).get_device_backend_map()
        return {device: str(backend) for device, backend in backends.items()}

    @property
    def _device_types(self) -> list[torch.device]:
        return [torch.device(device) for device in self._backends()]

    def _get_backend(self, device: torch.device) -> Any:
        """This group for npu; a group of Gloo's for the CPU, if the group was made with one.

        Raises:
            RuntimeError: the group has no backend for the device, or one that is not Gloo.
        """
        kind = torch.device(device).type
        if kind == "npu" or (kind == "cuda" and _TRANSFER in sys.modules):
            return self
        backend = self._backends().get(kind)
        if backend is None:
            raise RuntimeError(f"No backend type associated with device type {kind}")
        if kind != "cpu" or backend != "gloo":
            raise RuntimeError(
                f"hccl on the soft NPU: beside it a group may have 'cpu:gloo', not "
                f"'{kind}:{backend}'"
            )
        if self._on_cpu is None:
            self._on_cpu = self._new_gloo("cpu")
        return self._on_cpu

    def get_hccl_comm_name(self, rank: int, init_comm: bool = True) -> str:
        """The name of the communicator, which fused operators take."""
        return f"{self.options.group_id}"

    def supports_tensor_alloc(self, device: torch.device) -> bool:
        return False

    def _set_sequence_number_for_group(self) -> None:
        self._number = 0

    def _get_sequence_number_for_group(self) -> int:
        return self._number

    def _set_default_timeout(self, timeout: timedelta) -> None:
        self.options._timeout = timeout
        for gloo in (self._gloo, self._on_cpu):
            if gloo is not None:
                gloo._set_default_timeout(timeout)

    def set_timeout(self, timeout: timedelta) -> None:
        self._set_default_timeout(timeout)

    def shutdown(self) -> None:
        """End the threads; collectives that are under way get a moment to finish."""
        self._queue.close(seconds=5)
        self._peers.close(seconds=1)

    def abort(self) -> None:
        """End the threads; what has not begun yet fails, and nothing is waited for."""
        self._queue.abort()
        self._peers.abort()

    def abort_hccl_comm(self, reason: str = "") -> None:
        """Give up what is under way, and connect anew: torch_npu's reinit_process_group."""
        self.abort()
        self._connect()

    def resume_hccl_comm(self, device: int) -> None:
        """Nothing to do: torch_npu's reinit_process_group without new connections."""

    def _delete_tcpstore_key(self) -> None:
        """Nothing to do: each connection has keys of its own."""

    # -- carrying out --------------------------------------------------------------

    def _device(self) -> torch.device:
        return torch.device("npu", torch.npu.current_device())  # type: ignore[attr-defined]

    def _run(
        self,
        text: str,
        results: list[Tensor],
        job: Callable[[Any, Tensor], None],
        opts: Any,
        counts: Sequence[int] = (),
    ) -> dist.Work | None:
        """Carry out a collective once all ranks have come to it.

        Args:
            text: What must be the same on all ranks.
            results: The tensors that the work's future has.
            job: Moves the data; given Gloo, and what the ranks passed as ``counts``.
            opts: Options of c10d: the timeout, and whether the caller goes on meanwhile.
        """
        self._number += 1
        timeout = opts.timeout
        numbers, gloo, names = list(counts), self._gloo, self._names

        def whole() -> None:
            try:
                job(gloo, agreed(gloo, text, numbers, timeout, names))
            except dist.DistBackendError:
                raise
            except RuntimeError as error:  # of Gloo: a peer is gone, or does not come
                raise dist.DistBackendError(f"hccl: {text}: {error}") from error

        device = results[0].device if results else self._device()
        waits = not opts.asyncOp and self._gathered is None
        work = self._queue.run(SoftWork(results, device), whole, at_once=waits)
        return self._noted(work)

    def _noted(self, work: dist.Work) -> dist.Work | None:
        """While calls are being gathered, only the end of that has a work to give."""
        if self._gathered is None:
            return work
        self._gathered.append(work)
        return None

    def _start_coalescing(self, device: torch.device | None = None) -> None:
        self._gathered = []

    def _end_coalescing(self, device: torch.device | None = None) -> Any:
        works, self._gathered = self._gathered, None
        return joined(works, self._device()) if works else None

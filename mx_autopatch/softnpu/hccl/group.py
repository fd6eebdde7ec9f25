"""The process group of backend ``hccl`` on the soft NPU.

Gloo moves the data, on CPU tensors that alias the npu tensors' memory. What may be called,
with which tensors, and what comes of it follows ProcessGroupHCCL of torch_npu 2.13.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch._C import _distributed_c10d as c10d

from mx_autopatch.softnpu.hccl.agreement import described
from mx_autopatch.softnpu.hccl.base import by_device
from mx_autopatch.softnpu.hccl.buffers import checked
from mx_autopatch.softnpu.hccl.exchanges import Exchanges

__all__ = ["ProcessGroupSoftHCCL"]


class ProcessGroupSoftHCCL(Exchanges):
    """A process group for tensors on ``npu``, and its own backend.

    In a group of several backends ("cpu:gloo,npu:hccl") it stands for the whole group, since
    torch lets a process group that is written in Python be nothing less.
    """

    @by_device
    def send(self, tensors: Any, dst: int, tag: int = 0) -> Any:
        """Send the only tensor to rank ``dst`` of the group; HCCL knows no tags."""
        checked(tensors, "send")
        (tensor,) = tensors
        return self._noted(self._peers.send(tensor, dst))

    @by_device
    def recv(self, tensors: Any, src: int, tag: int = 0) -> Any:
        """Receive into the only tensor from rank ``src`` of the group."""
        checked(tensors, "recv")
        (tensor,) = tensors
        return self._noted(self._peers.receive(tensor, src))

    @by_device
    def recv_anysource(self, tensors: Any, tag: int = 0) -> Any:
        raise RuntimeError("ProcessGroupHCCL does not support recv from any source: name the rank")

    def batch_isend_irecv(
        self, op_type: Sequence[str], tensors: Sequence[Tensor], ranks: Sequence[int]
    ) -> Any:
        """torch_npu's own: several sends and receives as one work."""
        self._start_coalescing()
        for op, tensor, rank in zip(op_type, tensors, ranks):
            (self.send if op == "isend" else self.recv)([tensor], rank)
        return self._end_coalescing()

    def barrier(self, opts: Any = None, timeout: Any = None) -> Any:  # type: ignore[override]
        """Return when all ranks have come: which is what every collective begins with."""
        opts = opts if isinstance(opts, c10d.BarrierOptions) else c10d.BarrierOptions()
        if timeout is not None:
            opts.timeout = timeout
        if opts.device is not None and opts.device.type == "cpu" and "cpu" in self._backends():
            return self._get_backend(opts.device).barrier(opts)
        return self._run(described("barrier"), [], lambda gloo, _: None, opts)

    # torch 2.13's names of the same.
    all_gather_single = Exchanges._allgather_base
    all_gather_single_coalesced = Exchanges.allgather_into_tensor_coalesced
    reduce_scatter_single = Exchanges._reduce_scatter_base
    reduce_scatter_single_coalesced = Exchanges.reduce_scatter_tensor_coalesced
    all_to_all_single = Exchanges.alltoall_base

"""Collectives that copy: what they send is taken as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C import _distributed_c10d as c10d

from mx_autopatch.softnpu.hccl.agreement import described
from mx_autopatch.softnpu.hccl.base import by_device, options, shares
from mx_autopatch.softnpu.hccl.buffers import checked, elements, octets
from mx_autopatch.softnpu.hccl.reductions import Reductions

__all__ = ["Exchanges"]


class Exchanges(Reductions):
    """Broadcast, gather, scatter, all-to-all."""

    @by_device
    def broadcast(self, tensors: Any, opts: Any = None, timeout: Any = None) -> Any:
        tensors = [tensors] if isinstance(tensors, Tensor) else tensors
        if not isinstance(opts, c10d.BroadcastOptions):
            opts = options(c10d.BroadcastOptions, timeout, rootRank=opts)
        checked(tensors, "broadcast")

        def job(gloo: Any, _: Tensor) -> None:
            for tensor in tensors:
                if tensor.numel():
                    how = options(c10d.BroadcastOptions, opts.timeout, rootRank=opts.rootRank)
                    gloo.broadcast([octets(tensor)], how).wait()

        shapes = [f"{tensor.numel()} {tensor.dtype}" for tensor in tensors]
        text = described("broadcast", *shapes, f"from rank {self._names[opts.rootRank]}")
        return self._run(text, tensors, job, opts)

    # -- all gather ----------------------------------------------------------------------

    @by_device
    def allgather(self, outputs: Any, inputs: Any, opts: Any = None) -> Any:
        if isinstance(inputs, Tensor):
            outputs, inputs = [outputs], [inputs]
        (parts,), (tensor,) = outputs, inputs
        return self._all_gather("all_gather", list(parts), tensor, opts)

    def _all_gather(self, what: str, parts: list[Tensor], tensor: Tensor, opts: Any) -> Any:
        """Gather ``tensor`` of each rank into ``parts``, which may be of different sizes."""
        opts, size = opts or c10d.AllgatherOptions(), self.size()
        checked([*parts, tensor], what)
        if len(parts) != size or any(part.dtype != tensor.dtype for part in parts):
            raise RuntimeError(f"hccl: {what}: expected {size} outputs of dtype {tensor.dtype}")

        def job(gloo: Any, numbers: Tensor) -> None:
            expected, given = numbers[:, :size], numbers[:, size]
            if not torch.equal(expected, given.expand_as(expected)):
                raise dist.DistBackendError(
                    f"hccl: {what}: the ranks give {given.tolist()} elements, and expect "
                    f"{expected.tolist()}"
                )
            longest = int(given.max())
            if not longest:
                return
            mine = elements(tensor)
            room = torch.empty(size, longest, dtype=tensor.dtype)
            padded = mine if len(mine) == longest else room.new_zeros(longest)
            padded[: len(mine)] = mine
            how = options(c10d.AllgatherOptions, opts.timeout)
            gloo._allgather_base(
                room.view(-1).view(torch.uint8), padded.view(torch.uint8), how
            ).wait()
            for part, row in zip(parts, room):
                values = elements(part)
                values.copy_(row[: len(values)])

        counts = [*(part.numel() for part in parts), tensor.numel()]
        return self._run(described(what, tensor.dtype), parts, job, opts, counts)

    @by_device
    def allgather_into_tensor_coalesced(self, outputs: Any, inputs: Any, opts: Any = None) -> Any:
        opts = opts or c10d.AllgatherOptions()
        what = "all_gather_into_tensor"
        checked([*outputs, *inputs], what)
        for output, tensor in zip(outputs, inputs):
            if output.dtype != tensor.dtype or output.numel() != tensor.numel() * self.size():
                raise RuntimeError(
                    f"hccl: {what}: the output must have the dtype of the input and "
                    f"{self.size()} times its elements; found {list(output.shape)} "
                    f"{output.dtype} for {list(tensor.shape)} {tensor.dtype}"
                )

        def job(gloo: Any, _: Tensor) -> None:
            for output, tensor in zip(outputs, inputs):
                if tensor.numel():
                    how = options(c10d.AllgatherOptions, opts.timeout)
                    gloo._allgather_base(octets(output), octets(tensor), how).wait()

        sizes = [f"{tensor.numel()} {tensor.dtype}" for tensor in inputs]
        return self._run(described(what, *sizes), list(outputs), job, opts)

    @by_device
    def _allgather_base(self, output: Any, input: Any, opts: Any = None) -> Any:
        return self.allgather_into_tensor_coalesced([output], [input], opts)

    def all_gather_into_tensor_uneven(
        self, output: Tensor, input: Tensor, output_split_sizes: Any = (), opts: Any = None
    ) -> Any:
        """torch_npu's own: parts of different sizes, counted along the first axis."""
        what = "all_gather_into_tensor_uneven"
        checked([output], what)
        sizes = shares(what, output, output_split_sizes, self.size())
        parts = output.view(-1).split(sizes)
        return self._all_gather(what, list(parts), input, opts)

    def allgather_coalesced(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("Backend hccl does not support allgather_coalesced")

    # -- one to all, all to one ------------------------------------------------------------

    @by_device
    def gather(self, outputs: Any, inputs: Any, opts: Any = None, timeout: Any = None) -> Any:
        if isinstance(inputs, Tensor):
            outputs, inputs = [outputs] if outputs else [], [inputs]
        if not isinstance(opts, c10d.GatherOptions):
            opts = options(c10d.GatherOptions, timeout, rootRank=opts)
        (tensor,) = inputs
        parts = self._of_root("gather", outputs, tensor, opts.rootRank)
        checked([tensor, *parts], "gather")

        def job(gloo: Any, _: Tensor) -> None:
            if tensor.numel():
                how = options(c10d.GatherOptions, opts.timeout, rootRank=opts.rootRank)
                rows = [[octets(part) for part in parts]] if parts else []
                gloo.gather(rows, [octets(tensor)], how).wait()

        text = self._rooted("gather", tensor, "to", opts.rootRank)
        return self._run(text, parts or [tensor], job, opts)

    @by_device
    def scatter(self, outputs: Any, inputs: Any, opts: Any = None, timeout: Any = None) -> Any:
        if isinstance(outputs, Tensor):
            outputs, inputs = [outputs], [inputs] if inputs else []
        if not isinstance(opts, c10d.ScatterOptions):
            opts = options(c10d.ScatterOptions, timeout, rootRank=opts)
        (tensor,) = outputs
        parts = self._of_root("scatter", inputs, tensor, opts.rootRank)
        checked([tensor, *parts], "scatter")

        def job(gloo: Any, _: Tensor) -> None:
            if tensor.numel():
                how = options(c10d.ScatterOptions, opts.timeout, rootRank=opts.rootRank)
                rows = [[octets(part) for part in parts]] if parts else []
                gloo.scatter([octets(tensor)], rows, how).wait()

        text = self._rooted("scatter", tensor, "from", opts.rootRank)
        return self._run(text, [tensor], job, opts)

    def _of_root(self, what: str, rows: Any, tensor: Tensor, root: int) -> list[Tensor]:
        """The list of tensors that the root has, and only the root."""
        parts = list(rows[0]) if rows else []
        if len(parts) != (self.size() if self.rank() == root else 0):
            raise ValueError(
                f"hccl: {what}: rank {self._names[root]} needs {self.size()} tensors and all "
                f"others none; rank {self._names[self.rank()]} has {len(parts)}"
            )
        if any(part.shape != tensor.shape or part.dtype != tensor.dtype for part in parts):
            raise ValueError(
                f"hccl: {what}: expected tensors of shape {list(tensor.shape)} and dtype "
                f"{tensor.dtype}, found {[(list(p.shape), p.dtype) for p in parts]}"
            )
        return parts

    def _rooted(self, what: str, tensor: Tensor, word: str, root: int) -> str:
        root = self._names[root]
        return described(what, list(tensor.shape), tensor.dtype, f"{word} rank {root}")

    # -- all to all ------------------------------------------------------------------------

    @by_device
    def alltoall_base(
        self,
        output: Any,
        input: Any,
        output_split_sizes: Sequence[int] = (),
        input_split_sizes: Sequence[int] = (),
        opts: Any = None,
    ) -> Any:
        what = "all_to_all_single"
        checked([output, input], what)
        taken = shares(what, output, output_split_sizes, self.size())
        given = shares(what, input, input_split_sizes, self.size())
        return self._all_to_all(what, [output], [input], taken, given, opts)

    @by_device
    def alltoall(self, outputs: Any, inputs: Any, opts: Any = None) -> Any:
        if len(outputs) != self.size() or len(inputs) != self.size():
            raise RuntimeError(f"hccl: all_to_all: expected {self.size()} inputs and outputs")
        checked([*outputs, *inputs], "all_to_all")
        taken, given = ([t.numel() for t in tensors] for tensors in (outputs, inputs))
        return self._all_to_all("all_to_all", list(outputs), list(inputs), taken, given, opts)

    def alltoallvc(self, output: Tensor, input: Tensor, matrix: Sequence[int]) -> Any:
        """torch_npu's own: ``matrix[i * ranks + j]`` elements go from rank i to rank j."""
        rank, size = self.rank(), self.size()
        checked([output, input], "all_to_all_vc")
        taken = list(matrix[rank::size])
        given = list(matrix[rank * size : (rank + 1) * size])
        return self._all_to_all("all_to_all_vc", [output], [input], taken, given, None)

    def _all_to_all(
        self,
        what: str,
        outputs: list[Tensor],
        inputs: list[Tensor],
        taken: list[int],
        given: list[int],
        opts: Any,
    ) -> Any:
        """Pass elements of ``inputs``, one after the other, on to the ranks."""
        opts, size = opts or c10d.AllToAllOptions(), self.size()
        dtype = inputs[0].dtype
        if any(tensor.dtype != dtype for tensor in (*outputs, *inputs)):
            raise RuntimeError(f"hccl: {what}: all tensors must have the same dtype")
        for tensors, counts in ((outputs, taken), (inputs, given)):
            if sum(tensor.numel() for tensor in tensors) != sum(counts):
                raise RuntimeError(
                    f"hccl: {what}: {[list(t.shape) for t in tensors]} does not have the "
                    f"{sum(counts)} elements to be passed"
                )

        def job(gloo: Any, numbers: Tensor) -> None:
            gives, takes = numbers[:, :size], numbers[:, size:]
            if not torch.equal(gives, takes.T):
                raise dist.DistBackendError(
                    f"hccl: {what}: the ranks give {gives.tolist()} elements, and expect "
                    f"{takes.tolist()}"
                )
            if not gives.any():
                return
            width = dtype.itemsize
            source = torch.cat([octets(tensor) for tensor in inputs])
            target = torch.empty(sum(taken) * width, dtype=torch.uint8)
            how = options(c10d.AllToAllOptions, opts.timeout)
            gloo.alltoall_base(
                target, source, [n * width for n in taken], [n * width for n in given], how
            ).wait()
            lengths = [tensor.numel() * width for tensor in outputs]
            for tensor, part in zip(outputs, target.split(lengths)):
                octets(tensor).copy_(part)

        text = described(what, dtype)
        return self._run(text, outputs, job, opts, [*given, *taken])

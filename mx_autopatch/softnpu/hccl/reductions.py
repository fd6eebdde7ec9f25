"""Collectives that compute."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch._C import _distributed_c10d as c10d

from mx_autopatch.softnpu.hccl.agreement import described
from mx_autopatch.softnpu.hccl.base import Collectives, by_device, options, shares
from mx_autopatch.softnpu.hccl.buffers import Reduction, checked, elements

__all__ = ["Reductions"]


class Reductions(Collectives):
    """All-reduce, reduce, reduce-scatter."""

    def _reduce_all(self, gloo: Any, tensor: Tensor, how: Reduction, timeout: timedelta) -> Tensor:
        """The reduction of ``tensor`` over all ranks, perhaps in its own memory."""
        opts = options(c10d.AllreduceOptions, timeout, reduceOp=how.gloo)
        values = how.before(tensor)
        if values.numel():
            gloo.allreduce([values], opts).wait()
        return how.after(values, self.size())

    @by_device
    def allreduce(self, tensors: Any, opts: Any = None, timeout: Any = None) -> Any:
        tensors = [tensors] if isinstance(tensors, Tensor) else tensors
        if not isinstance(opts, (c10d.AllreduceOptions, c10d.AllreduceCoalescedOptions)):
            opts = options(c10d.AllreduceOptions, timeout, reduceOp=opts)
        checked(tensors, "all_reduce")
        hows = [Reduction(opts.reduceOp, t.dtype, "all_reduce", casts=True) for t in tensors]
        shapes = [f"{list(t.shape)} {t.dtype}" for t in tensors]

        def job(gloo: Any, _: Tensor) -> None:
            for tensor, how in zip(tensors, hows):
                values = elements(tensor)
                result = self._reduce_all(gloo, values, how, opts.timeout)
                if result is not values:
                    values.copy_(result)

        text = described("all_reduce", hows[0].name, *shapes)
        return self._run(text, tensors, job, opts)

    @by_device
    def allreduce_coalesced(self, tensors: Any, opts: Any = None) -> Any:
        return self.allreduce(tensors, opts or c10d.AllreduceCoalescedOptions())

    @by_device
    def reduce(self, tensors: Any, opts: Any = None, op: Any = None, timeout: Any = None) -> Any:
        tensors = [tensors] if isinstance(tensors, Tensor) else tensors
        if not isinstance(opts, c10d.ReduceOptions):
            opts = options(c10d.ReduceOptions, timeout, rootRank=opts, reduceOp=op)
        checked(tensors, "reduce")
        (tensor,) = tensors
        how = Reduction(opts.reduceOp, tensor.dtype, "reduce", casts=True)

        def job(gloo: Any, _: Tensor) -> None:
            values = elements(tensor)
            result = self._reduce_all(gloo, values.clone(), how, opts.timeout)
            if self.rank() == opts.rootRank:
                values.copy_(result)

        root = self._names[opts.rootRank]
        text = described("reduce", how.name, list(tensor.shape), tensor.dtype, f"to rank {root}")
        return self._run(text, tensors, job, opts)

    def _scatter_sums(
        self, what: str, outputs: list[Tensor], inputs: list[list[Tensor]], opts: Any, sizes: Any
    ) -> Any:
        """Reduce, for each output, its inputs over all ranks, and keep this rank's share."""
        checked(outputs, what)
        checked([tensor for row in inputs for tensor in row], what)
        hows = [Reduction(opts.reduceOp, t.dtype, what, casts=False) for t in outputs]
        for output, row in zip(outputs, inputs):
            if any(tensor.dtype != output.dtype for tensor in row):
                raise RuntimeError(f"hccl: {what}: input and output must have the same dtype")
        for output, row, split in zip(outputs, inputs, sizes):
            if sum(split) != sum(t.numel() for t in row) or split[self.rank()] != output.numel():
                raise RuntimeError(
                    f"hccl: {what}: the input has {[t.numel() for t in row]} elements for "
                    f"{self.size()} ranks, the output of rank {self.rank()} {output.numel()}"
                )

        def job(gloo: Any, _: Tensor) -> None:
            for output, row, split, how in zip(outputs, inputs, sizes, hows):
                # cat makes a copy: the input stays as it is.
                values = torch.cat([elements(tensor) for tensor in row])
                summed = self._reduce_all(gloo, values, how, opts.timeout)
                elements(output).copy_(summed.split(split)[self.rank()])

        text = described(what, hows[0].name, outputs[0].dtype, *map(list, sizes))
        return self._run(text, outputs, job, opts)

    @by_device
    def reduce_scatter(self, outputs: Any, inputs: Any, opts: Any = None) -> Any:
        opts = opts or c10d.ReduceScatterOptions()
        if any(len(row) != self.size() for row in inputs):
            raise RuntimeError(f"hccl: reduce_scatter: expected {self.size()} inputs")
        sizes = [[tensor.numel() for tensor in row] for row in inputs]
        return self._scatter_sums("reduce_scatter", outputs, inputs, opts, sizes)

    @by_device
    def reduce_scatter_tensor_coalesced(self, outputs: Any, inputs: Any, opts: Any = None) -> Any:
        opts = opts or c10d.ReduceScatterOptions()
        sizes = [[output.numel()] * self.size() for output in outputs]
        rows = [[tensor] for tensor in inputs]
        return self._scatter_sums("reduce_scatter_tensor", outputs, rows, opts, sizes)

    @by_device
    def _reduce_scatter_base(self, output: Any, input: Any, opts: Any = None) -> Any:
        return self.reduce_scatter_tensor_coalesced([output], [input], opts)

    def reduce_scatter_tensor_uneven(
        self, output: Tensor, input: Tensor, input_split_sizes: Any = (), opts: Any = None
    ) -> Any:
        """torch_npu's own: shares of different sizes, counted along the first axis."""
        what, opts = "reduce_scatter_tensor_uneven", opts or c10d.ReduceScatterOptions()
        sizes = shares(what, input, input_split_sizes, self.size())
        return self._scatter_sums(what, [output], [[input]], opts, [sizes])

"""The memory of tensors as HCCL sees it: so many elements from an address on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mx_autopatch.softnpu.alias import on_host

__all__ = ["Reduction", "checked", "elements", "octets"]

# What HCCL adds up on Atlas A2 and A3. Where it has no more than copied, anything goes.
_REDUCED = frozenset(
    (
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32),
    )
)

#: What torch_npu casts for HCCL, and Gloo needs cast: dtype -> dtype of the reduction.
_CAST = {torch.bool: torch.int32, torch.uint8: torch.int32, torch.int16: torch.int32}

_SCALED = frozenset((torch.float16, torch.bfloat16, torch.float32))

_OPERATIONS = ("SUM", "PRODUCT", "MIN", "MAX", "AVG", "PREMUL_SUM")


def checked(tensors: Sequence[Tensor], what: str) -> None:
    """Refuse what ProcessGroupHCCL refuses.

    Raises:
        RuntimeError: a tensor is not of the device, is sparse, complex, or has gaps.
    """
    if not tensors:
        raise RuntimeError(f"hccl: {what}: the list of tensors is empty")
    for tensor in tensors:
        if tensor.device.type != "npu" or tensor.layout != torch.strided:
            raise RuntimeError(
                f"hccl: {what}: expected dense tensors on npu, found one on {tensor.device} "
                f"with layout {tensor.layout}"
            )
        if tensor.dtype.is_complex:
            raise RuntimeError(
                f"hccl: {what}: HCCL has no {tensor.dtype}; pass torch.view_as_real(tensor)"
            )
        if not _is_dense(tensor):
            raise RuntimeError(
                f"hccl: {what}: tensors must be contiguous, found strides "
                f"{tuple(tensor.stride())} for the shape {tuple(tensor.shape)}"
            )


def _is_dense(tensor: Tensor) -> bool:
    if tensor.is_contiguous():
        return True
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    layout = layouts.get(tensor.dim())
    return layout is not None and tensor.is_contiguous(memory_format=layout)


def elements(tensor: Tensor) -> Tensor:
    """All elements of a dense npu tensor, in the order of memory: a CPU tensor, one axis."""
    return on_host(tensor).as_strided((tensor.numel(),), (1,))


def octets(tensor: Tensor) -> Tensor:
    """The same as bytes, for what is only copied: Gloo does not know every dtype."""
    return elements(tensor).view(torch.uint8)


class Reduction:
    """A reduce operation as torch_npu puts it together from HCCL's.

    HCCL itself sums, multiplies and takes the least or greatest; an average is a sum that is
    divided, and a scaled sum is scaled before.

    Args:
        op: torch.distributed's ReduceOp.
        dtype: Of the tensors.
        what: The collective, for messages.
        casts: Whether torch_npu casts bool and uint8 for this collective.

    Raises:
        RuntimeError: HCCL has no such operation, or not for this dtype.
    """

    def __init__(self, op: Any, dtype: torch.dtype, what: str, casts: bool) -> None:
        whole: Any = op if isinstance(op, dist.ReduceOp) else dist.ReduceOp(op)
        self._factor: float | Tensor | None = whole.__getstate__()[1]
        kind = next((k for k in _OPERATIONS if whole == getattr(dist.ReduceOp, k)), None)
        if kind is None:
            raise RuntimeError(f"hccl: {what}: HCCL cannot reduce with {whole.op}")
        self.name = kind
        if dtype not in _REDUCED and not (casts and dtype in _CAST):
            raise RuntimeError(
                f"hccl: {what}: HCCL does not reduce {dtype} on this device; cast it to float32"
            )
        if kind == "AVG" and not dtype.is_floating_point:
            raise RuntimeError(f"hccl: {what}: HCCL cannot average {dtype}; use SUM, and divide")
        if kind == "PREMUL_SUM" and dtype not in _SCALED:
            raise RuntimeError(f"hccl: {what}: a scaled sum needs a floating dtype, found {dtype}")
        #: The dtype in which Gloo computes.
        self.dtype = _CAST.get(dtype, dtype)
        self.gloo = getattr(dist.ReduceOp, "SUM" if kind in ("AVG", "PREMUL_SUM") else kind)

    def before(self, values: Tensor) -> Tensor:
        """The tensor to reduce: ``values`` itself, scaled, or a copy in another dtype."""
        if self._factor is not None:
            values.mul_(_on_cpu(self._factor))
        return values if values.dtype == self.dtype else values.to(self.dtype)

    def after(self, reduced: Tensor, size: int) -> Tensor:
        """The result, which may be ``reduced`` itself, still in the dtype of the reduction."""
        return reduced.div_(size) if self.name == "AVG" else reduced


def _on_cpu(factor: float | Tensor) -> float | Tensor:
    return factor.cpu() if isinstance(factor, Tensor) else factor

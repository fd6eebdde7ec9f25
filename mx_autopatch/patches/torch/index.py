"""Indexing by a bool mask as masked_select, and filling by one without waiting, on NPUs.

Why: torch_npu turns a mask into positions (nonzero, which the host waits for) and then
     gathers by them. And for ``x[mask] = 0`` it reads the value, which is on the device,
     back (``.item()``), so that the host waits. 13 of 61 published migrations replace the
     former by masked_select, by hand.
How: kernels for tensors of the device npu, over torch_npu's at torch's dispatcher (key
     PrivateUse1), below autograd. Reading ``x[mask]`` is masked_select where the mask covers
     all dimensions of x, or all but the last. Writing one value by a mask is masked_fill with
     the value where it is. The gradient of ``x[mask]`` is masked_scatter. Everything else
     goes to the kernel that stood there, with 4 us on top: positions, several indices, masks
     of type uint8 or on another device, float64, complex numbers, overlapping memory.
     A tensor of another device pays nothing, and torch.compile sees aten::index as ever.
     While a rehearsal counts operators, it counts the script's own indexing instead.
     That masked_select is the faster on hardware is what those migrations rely on; the soft
     NPU cannot measure it. Where launches are blocking nothing is covered (see overriding.py).
Upstream: aten::index.Tensor, aten::index_put_ and aten::_index_put_impl_ of torch_npu
     (op-plugin's IndexKernelNpuOpApi.cpp, IndexPutKernelNpuOpApi.cpp).
Remove when: torch_npu selects by masks, and fills by them without reading the value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mx_autopatch.model import Call, Context, Patch

if TYPE_CHECKING:
    from torch import Tensor


def _bind(context: Context) -> tuple[str, Callable[[], None]]:
    import torch

    from mx_autopatch.patches.overriding import Kernel, override

    # What CANN's MaskedSelect, MaskedScatter and InplaceMaskedFillTensor all compute.
    dtypes = {
        *(torch.float32, torch.float16, torch.bfloat16, torch.bool),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    }

    def mask_of(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor | None:
        """The mask, if that is the only index; its shape is that of the first dimensions."""
        if len(indices) != 1:
            return None
        mask = indices[0]
        if mask is None or mask.dtype is not torch.bool or mask.device != x.device:
            return None
        shape = mask.shape
        if not shape or shape != x.shape[: len(shape)] or x.dtype not in dtypes:
            return None  # of a wrong shape: the message is torch_npu's
        return mask if x.numel() else None

    def full(mask: Tensor, x: Tensor) -> Tensor:
        return mask[(...,) + (None,) * (x.dim() - mask.dim())]

    def index(below: Any, x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
        mask = mask_of(x, indices)
        if mask is None or x.dim() - mask.dim() > 1:
            result: Tensor = below(x, indices)
            return result
        chosen = torch.masked_select(x, full(mask, x))
        # torch_npu gives it memory for all that there is.
        if chosen.untyped_storage().nbytes() > 2 * chosen.nbytes:
            chosen = chosen.clone()
        return chosen if x.dim() == mask.dim() else chosen.view(-1, x.size(-1))

    def filled(x: Tensor, indices: Any, values: Tensor) -> bool:
        """Write one value by a mask; false if that is not what is asked for."""
        if values.numel() != 1 or values.dtype is not x.dtype or values.device != x.device:
            return False
        mask = mask_of(x, indices)
        if mask is None or torch._debug_has_internal_overlap(x):
            return False
        x.masked_fill_(full(mask, x), values.reshape(()))
        return True

    def index_put_(
        below: Any, x: Tensor, indices: Any, values: Tensor, accumulate: bool = False
    ) -> Tensor:
        if accumulate or not filled(x, indices, values):
            below(x, indices, values, accumulate)
        return x

    def index_put_impl_(
        below: Any,
        x: Tensor,
        indices: Any,
        values: Tensor,
        accumulate: bool = False,
        unsafe: bool = False,
    ) -> Tensor:
        if not accumulate and filled(x, indices, values):
            return x
        # Only derivatives say unsafe: then there are as many values as the mask selects.
        mask = mask_of(x, indices) if accumulate and unsafe else None
        if (
            mask is None
            or x.dim() - mask.dim() > 1
            or values.dim() != 1 + x.dim() - mask.dim()
            or values.shape[1:] != x.shape[mask.dim() :]
            or values.dtype is not x.dtype
            or values.device != x.device
        ):
            below(x, indices, values, accumulate, unsafe)
            return x
        return x.add_(torch.zeros_like(x).masked_scatter_(full(mask, x), values))

    kernels: dict[str, Kernel] = {
        "aten::index.Tensor": index,
        "aten::index_put_": index_put_,
        "aten::_index_put_impl_": index_put_impl_,
    }
    return f"over the kernels of {', '.join(kernels)}", override(kernels)


PATCHES = (
    Patch(
        name="torch.index",
        edits=(Call("torch_npu", _bind, copies=False),),
        # torch.library.get_kernel, by which the kernel that stood there can be called.
        requires=("device:npu", "torch>=2.9"),
    ),
)

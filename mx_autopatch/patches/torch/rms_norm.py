"""F.rms_norm and nn.RMSNorm by one kernel on NPUs.

Why: torch_npu has no kernel for aten::rms_norm, so that torch composes it: a square, a mean,
     an addition, a root, two products, and casts to and from float32 in half precision. 9
     of 61 published migrations call npu_rms_norm by hand.
How: a kernel for tensors of the device npu, over torch's composition at its dispatcher:
     torch_npu.npu_rms_norm, which has a derivative of its own, where there is a weight of the
     last dimensions in one of the documented pairs of types. Everything else is composed as
     before, with 4 us on top; tensors of another device pay nothing. Rounding differs:
     torch rounds to half precision before it multiplies by the weight.
Upstream: aten::rms_norm, torch >= 2.4; torch_npu.npu_rms_norm.
Remove when: torch_npu has a kernel for aten::rms_norm or aten::_fused_rms_norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mx_autopatch.model import Call, Context, Patch

if TYPE_CHECKING:
    from torch import Tensor


def _bind(context: Context) -> tuple[str, Callable[[], None]]:
    import torch

    from mx_autopatch.patches.npu_calls import can_rms_norm, rms_norm
    from mx_autopatch.patches.overriding import AUTOGRAD, DEVICE, override

    def kernel(
        below: Any,
        x: Tensor,
        shape: Sequence[int],
        weight: Tensor | None = None,
        eps: float | None = None,
    ) -> Tensor:
        if weight is None or list(shape) != list(weight.shape) or not can_rms_norm(x, weight):
            result: Tensor = below(x, shape, weight, eps)
            return result
        # Of the type in which torch computes.
        wide = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
        return rms_norm(x, weight, torch.finfo(wide).eps if eps is None else eps)

    end = override({"aten::rms_norm": kernel}, keys=(AUTOGRAD, DEVICE))
    return "over the kernel of aten::rms_norm", end


PATCHES = (
    Patch(
        name="torch.rms_norm",
        edits=(Call("torch_npu", _bind, copies=False),),
        # torch.library.get_kernel, by which the kernel that stood there can be called.
        requires=("device:npu", "torch>=2.9"),
    ),
)

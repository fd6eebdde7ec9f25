"""Many small matrices times a vector each as an elementwise product, on NPUs.

Why: ``rots.view(B, N, 1, 1, 1, 3, 3).matmul(points.unsqueeze(-1))``, by which BEV models
     project points, is a batched product of millions of 3 x 3 by 3 x 1, for a matrix unit that
     is made for tiles of 16 x 16. 8 of 61 published migrations replace it.
How: a kernel for tensors of the device npu, over torch_npu's at torch's dispatcher: the
     elementwise product with broadcasting, summed over the last dimension, for matrices up to
     4 x 4 in tensors of 4 to 7 dimensions times a column each. In half precision the sum is
     taken in float32, as the matrix unit does. Gradients are those of the two operators.
     Every other product goes to the kernel that stood there, with 4 us on top; tensors
     of another device pay nothing. Sums are taken in another order: the last digits differ.
     Its speed on hardware is what those migrations rely on; measured is that it takes less
     memory than torch's composition (benchmarks/patched_calls.py; what CANN's takes is not
     known). Where launches are blocking nothing is covered (see overriding.py).
Upstream: aten::matmul, any version.
Remove when: CANN's Matmul has a way of its own for small matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mx_autopatch.model import Call, Context, Patch

if TYPE_CHECKING:
    from torch import Tensor


def _bind(context: Context) -> tuple[str, Callable[[], None]]:
    import torch

    from mx_autopatch.patches.overriding import AUTOGRAD, DEVICE, override

    halves = (torch.float16, torch.bfloat16)
    dtypes = (torch.float32, *halves)

    def is_small(a: Tensor, b: Tensor) -> bool:
        left, right = a.shape, b.shape
        if len(left) != len(right) or not 4 <= len(left) <= 7 or right[-1] != 1:
            return False
        rows = left[-2]
        if rows > 4 or rows != left[-1] or rows != right[-2]:
            return False
        if a.dtype not in dtypes or a.dtype is not b.dtype or a.device != b.device:
            return False
        return all(m == n or m == 1 or n == 1 for m, n in zip(left[:-2], right[:-2]))

    def matmul(below: Any, a: Tensor, b: Tensor) -> Tensor:
        if not is_small(a, b):
            result: Tensor = below(a, b)
            return result
        columns = b.transpose(-1, -2)
        if a.dtype in halves:
            return (a.float() * columns.float()).sum(-1, keepdim=True).to(a.dtype)
        return (a * columns).sum(-1, keepdim=True)

    # torch_npu has a derivative of its own for matmul, so both keys; under no_grad, too, the
    # upper one is called, in inference mode the lower.
    end = override({"aten::matmul": matmul}, keys=(AUTOGRAD, DEVICE))
    return "over the kernel of aten::matmul", end


PATCHES = (
    Patch(
        name="torch.batch_matmul",
        edits=(Call("torch_npu", _bind, copies=False),),
        # torch.library.get_kernel, by which the kernel that stood there can be called.
        requires=("device:npu", "torch>=2.9"),
    ),
)

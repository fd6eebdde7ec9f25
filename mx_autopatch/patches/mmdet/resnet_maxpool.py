"""The pooling after the stem of a ResNet as mx_driving's kernel, on NPUs.

Why: torch_npu pools with a mask of where each maximum was, which only a gradient needs. The
     stem of a ResNet is frozen in most detectors, so that there is none; 12 of 61 published
     migrations replace the whole ``forward`` for this.
How: where ``forward`` calls ``self.maxpool`` (in whatever package), this call alone is
     rewritten. Whether the kernel fits is decided for each call; where it does not, or where a
     gradient is to flow, the module itself is called.
Upstream: ResNet.forward in mmdet, mmseg, mmpretrain, mmcv 1.x, …; mx_driving's npu_max_pool2d
     (docs/zh/api/context/npu_max_pool2d.md: no gradient; kernel 3, stride 2, padding 1;
     float32, at most 1024 channels, a multiple of 8, best from 64 on; height and width above
     100; at most a thousand million elements. For float16 csrc/MaxPool2d.cpp asks for a
     multiple of 16).
Remove when: torch_npu pools without the mask where no gradient is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mx_autopatch.model import Patch, Rewrite, Subclasses
from mx_autopatch.patches.resnets import chip, pools_once

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


#: For which the kernel is built: AddConfig in kernels/max_pool2d/op_host.
CHIPS = ("Ascend910B", "Ascend910_93", "Ascend310P")


def max_pool(pool: Module, x: Tensor) -> Tensor:
    """``pool(x)``."""
    if _fits(pool, x):
        from mx_autopatch.ops.npu._mx_driving import mx_driving

        kernel = mx_driving("npu_max_pool2d")
        if kernel is not None:
            pooled: Tensor = kernel(x, 3, 2, 1)
            return pooled
    result: Tensor = pool(x)
    return result


def _fits(pool: Any, x: Tensor) -> bool:
    import torch

    if type(pool) is not torch.nn.MaxPool2d or x.device.type != "npu" or x.dim() != 4:
        return False
    _, channels, height, width = x.shape
    multiple = {torch.float32: 8, torch.float16: 16}.get(x.dtype)
    sizes = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    return (
        multiple is not None
        and not (x.requires_grad and torch.is_grad_enabled())
        and all(size in (n, (n, n)) for size, n in zip(sizes, (3, 2, 1, 1)))
        and not (pool.ceil_mode or pool.return_indices)
        and 64 <= channels <= 1024
        and channels % multiple == 0
        and min(height, width) > 100
        and x.numel() <= 10**9
        and not (pool._forward_hooks or pool._forward_pre_hooks)
        and not torch.compiler.is_compiling()
        and chip(x.device).startswith(CHIPS)
    )


PATCHES = (
    Patch(
        name="mmdet.resnet_maxpool",
        edits=(
            Subclasses(
                "torch:nn.Module",
                match=pools_once,
                edits=(
                    Rewrite(
                        "*:forward",
                        find="self.maxpool($x)",
                        replace="max_pool(self.maxpool, $x)",
                        names={"max_pool": max_pool},
                    ),
                ),
            ),
        ),
        requires=("device:npu", "module:mx_driving", "torch>=2.1"),
    ),
)

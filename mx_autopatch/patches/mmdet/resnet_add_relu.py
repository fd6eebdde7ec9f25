"""The sum at the end of a residual block and its ReLU as one kernel of mx_driving's, on NPUs.

Why: ``out += identity; out = self.relu(out)`` reads and writes the block's output twice; 12 of
     61 published migrations replace the whole ``forward`` to fuse it.
How: where ``forward`` has the shape of a residual block's (see patches/resnets.py), in whatever
     package, these two statements alone are rewritten. What is fused is decided for each call:
     sizes above two million elements, from which on the kernel is the faster, its data types,
     and an activation that is a plain nn.ReLU. Everything else computes as before. With
     checkpointing the ReLU moves into the part that is calculated again.
     Like ``+=`` the kernel writes to ``out``. It does not say so to autograd; we do, so that a
     layer whose gradient needs its own output is an error here as it is without us.
Upstream: the forward of BasicBlock and Bottleneck in mmdet, mmseg, mmpretrain, mmcv 1.x, …;
     mx_driving's npu_add_relu (docs/zh/api/context/npu_add_relu.md: float32, equal shapes,
     less than 2^31 elements; kernels/add_relu has float16 too).
Remove when: torch_npu fuses the two by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mx_autopatch.model import Patch, Rewrite, Subclasses
from mx_autopatch.patches.resnets import chip, residual_shape

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

#: Below it the documentation says that nothing is won.
LEAST = 2_000_000
#: For which it is built: AddConfig in kernels/add_relu/op_host.
CHIPS = ("Ascend910B", "Ascend910_93", "Ascend950")


def add_relu(relu: Module, out: Tensor, identity: Tensor) -> Tensor:
    """``relu(out + identity)``; ``out`` is written to, as by ``out += identity``."""
    import torch

    if _fits(relu, out, identity):
        from mx_autopatch.ops.npu._mx_driving import mx_driving

        kernel = mx_driving("npu_add_relu")
        if kernel is not None:
            if not out.is_inference():
                torch.autograd.graph.increment_version(out)
            fused: Tensor = kernel(out, identity)
            return fused
    out += identity
    activated: Tensor = relu(out)
    return activated


def _fits(relu: Module, out: Tensor, identity: Tensor) -> bool:
    import torch

    return (
        out.device.type == "npu"
        and LEAST <= out.numel() < 2**31
        and out.dtype in (torch.float32, torch.float16)
        and (identity.dtype, identity.shape) == (out.dtype, out.shape)
        and identity.device == out.device
        and out.is_contiguous()
        and identity.is_contiguous()
        and type(relu) is torch.nn.ReLU
        and not (relu._forward_hooks or relu._forward_pre_hooks)
        and not (relu._backward_hooks or relu._backward_pre_hooks)
        and not torch.compiler.is_compiling()
        and chip(out.device).startswith(CHIPS)
    )


def _rewritten(find: str, replace: str) -> Rewrite:
    names = {"add_relu": add_relu} if "add_relu" in replace else {}
    return Rewrite("*:forward", find=find, replace=replace, names=names)


def _of_shape(shape: str, *edits: Rewrite) -> Subclasses:
    def match(cls: type) -> bool:
        return residual_shape(cls) == shape

    return Subclasses("torch:nn.Module", match=match, edits=edits)


PATCHES = (
    Patch(
        name="mmdet.resnet_add_relu",
        edits=(
            _of_shape(
                "flat",
                _rewritten(
                    "$out += $identity; $out = self.relu($out)",
                    "$out = add_relu(self.relu, $out, $identity)",
                ),
            ),
            _of_shape(
                "returned",
                _rewritten(
                    "$out += $identity; return self.relu($out)",
                    "return add_relu(self.relu, $out, $identity)",
                ),
            ),
            _of_shape(
                "checkpointed",
                _rewritten(
                    "$out += $identity; return $out",
                    "return add_relu(self.relu, $out, $identity)",
                ),
                _rewritten("$out = self.relu($out); return $out", "return $out"),
            ),
        ),
        # torch.autograd.graph.increment_version
        requires=("device:npu", "module:mx_driving", "torch>=2.1"),
    ),
)

"""Synchronized batch normalization on NPUs.

Why: mmcv's ``SyncBatchNorm`` asserts that the input is one of four types of tensor, those of
     the CPU and of CUDA: ``only support Half or Float Tensor, but torch.npu.FloatTensor``.
How: in its place the dtypes of those types are asked for; what follows is computed by
     the extension on any device. One expression is rewritten.
Upstream: mmcv/ops/sync_bn.py, mmcv 1.3 - 2.2.
Remove when: mmcv asks for the dtype.
"""

from mx_autopatch.model import Patch, Rewrite

PATCHES = (
    Patch(
        name="mmcv.sync_bn",
        edits=(
            Rewrite(
                "mmcv.ops.sync_bn:SyncBatchNormFunction.forward",
                find="isinstance(input, (torch.HalfTensor, torch.FloatTensor, "
                "torch.cuda.HalfTensor, torch.cuda.FloatTensor))",
                replace="input.dtype in (torch.float16, torch.float32)",
            ),
        ),
        requires=("module:torch", "device:npu"),
    ),
)

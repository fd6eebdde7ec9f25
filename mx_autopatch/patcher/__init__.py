"""The Patcher API of DrivingSDK, 1.0 and 2.0, over the engine of mx_autopatch.

Migrations are written against ``mx_driving.patcher``. Where mx_driving is not installed
and mx_autopatch is active, this package answers to that name; elsewhere it is a library,
and starts the engine by itself when something is applied::

    from mx_autopatch.patcher import Patch, PatcherBuilder, msda

    def my_patch(mmcv, options):
        mmcv.cnn.bricks.conv.build_conv_layer = ...

    builder = PatcherBuilder().add_module_patch("mmcv", Patch(msda), Patch(my_patch))
    with builder.build():
        main()
"""

from __future__ import annotations

from mx_autopatch.patcher._mmcv_version import ensure_mmcv_version, patch_mmcv_version
from mx_autopatch.patcher._predefined import ALL as _ALL_PATCH_CLASSES
from mx_autopatch.patcher._predefined import BY_LEGACY_NAME as _LEGACY_NAME_TO_CLASS
from mx_autopatch.patcher._predefined import DEFAULT as _DEFAULT_PATCH_CLASSES
from mx_autopatch.patcher.legacy import (
    LegacyPatcherBuilder,
    LegacyPatchWrapper,
    PatcherBuilder,
    default_patcher_builder,
)
from mx_autopatch.patcher.mmcv_patch import (
    DDP,
    DeformConv,
    ModulatedDeformConv,
    MultiScaleDeformableAttention,
    OptimizerHooks,
    SigmoidFocalLoss,
    SparseConv3D,
    Stream,
    Voxelization,
    dc,
    ddp,
    ddp_forward,
    mdc,
    msda,
    optimizer_hooks,
    spconv3d,
    stream,
)
from mx_autopatch.patcher.mmdet3d_patch import (
    NuScenes,
    NuScenesDataset,
    NuScenesMetric,
    nuscenes_dataset,
    nuscenes_metric,
)
from mx_autopatch.patcher.mmdet_patch import (
    PseudoSampler,
    ResNetAddRelu,
    ResNetFP16,
    ResNetMaxPool,
    pseudo_sampler,
    resnet_add_relu,
    resnet_fp16,
    resnet_maxpool,
)
from mx_autopatch.patcher.mmengine_patch import OptimizerWrapper, optimizer_wrapper
from mx_autopatch.patcher.numpy_patch import NumpyCompat, numpy_type
from mx_autopatch.patcher.patch import (
    AtomicPatch,
    BasePatch,
    LegacyPatch,
    Patch,
    RegistryPatch,
    with_imports,
)
from mx_autopatch.patcher.patcher import Patcher, replace_with
from mx_autopatch.patcher.patcher_logger import (
    configure_patcher_logging,
    patcher_logger,
    set_patcher_log_level,
)
from mx_autopatch.patcher.python_patch import CollectionsCompat
from mx_autopatch.patcher.reporting import PatchResult, PatchStatus
from mx_autopatch.patcher.torch_patch import (
    BatchMatmul,
    NpuFusedAdamwStep,
    TensorIndex,
    batch_matmul,
    index,
)
from mx_autopatch.patcher.torch_scatter_patch import TorchScatter, scatter
from mx_autopatch.patcher.transformers_patch import (
    FlashAttention,
    FlashAttentionVarlen,
    Qwen3RMSNorm,
    Qwen3RoPE,
    QWen3VLNPU,
    TransformersNPU,
)
from mx_autopatch.patcher.version import (
    check_version,
    get_version,
    is_mmcv_v1x,
    is_mmcv_v2x,
    mmcv_version,
)

MSDA = MultiScaleDeformableAttention

#: The predefined patches that most migrations need, in a Patcher.
default_patcher = Patcher().add(*_DEFAULT_PATCH_CLASSES)

__all__ = [
    "DDP",
    "MSDA",
    "_ALL_PATCH_CLASSES",
    "_DEFAULT_PATCH_CLASSES",
    "_LEGACY_NAME_TO_CLASS",
    "AtomicPatch",
    "BasePatch",
    "BatchMatmul",
    "CollectionsCompat",
    "DeformConv",
    "FlashAttention",
    "FlashAttentionVarlen",
    "LegacyPatch",
    "LegacyPatchWrapper",
    "LegacyPatcherBuilder",
    "ModulatedDeformConv",
    "MultiScaleDeformableAttention",
    "NpuFusedAdamwStep",
    "NuScenes",
    "NuScenesDataset",
    "NuScenesMetric",
    "NumpyCompat",
    "OptimizerHooks",
    "OptimizerWrapper",
    "Patch",
    "PatchResult",
    "PatchStatus",
    "Patcher",
    "PatcherBuilder",
    "PseudoSampler",
    "QWen3VLNPU",
    "Qwen3RMSNorm",
    "Qwen3RoPE",
    "RegistryPatch",
    "ResNetAddRelu",
    "ResNetFP16",
    "ResNetMaxPool",
    "SigmoidFocalLoss",
    "SparseConv3D",
    "Stream",
    "TensorIndex",
    "TorchScatter",
    "TransformersNPU",
    "Voxelization",
    "batch_matmul",
    "check_version",
    "configure_patcher_logging",
    "dc",
    "ddp",
    "ddp_forward",
    "default_patcher",
    "default_patcher_builder",
    "ensure_mmcv_version",
    "get_version",
    "index",
    "is_mmcv_v1x",
    "is_mmcv_v2x",
    "mdc",
    "mmcv_version",
    "msda",
    "numpy_type",
    "nuscenes_dataset",
    "nuscenes_metric",
    "optimizer_hooks",
    "optimizer_wrapper",
    "patch_mmcv_version",
    "patcher_logger",
    "pseudo_sampler",
    "replace_with",
    "resnet_add_relu",
    "resnet_fp16",
    "resnet_maxpool",
    "scatter",
    "set_patcher_log_level",
    "spconv3d",
    "stream",
    "with_imports",
]

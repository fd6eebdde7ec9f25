"""What the model migrations published with DrivingSDK ask of ``mx_driving.patcher``.

Read off ``model_examples`` at e667017eb751 (April 2026): the names that each of them imports,
module by module, and its builder's calls, with the patches that
are its own as ``own``. Where a model has several scripts, it is all that they ask for.
"""

from __future__ import annotations

from typing import NamedTuple


class Builder(NamedTuple):
    """A migration to the API 1.0.

    Attributes:
        imports: Submodule of mx_driving.patcher -> names.
        patches: Module -> patches added for it.
        brake: The argument of brake_at, if it is called.
        default: Whether it begins with default_patcher_builder.
        disabled: The arguments of disable_patches.
        internal_format: The argument of build, if it has one.
    """

    imports: dict[str, tuple[str, ...]]
    patches: dict[str, tuple[str, ...]]
    brake: int | None = None
    default: bool = False
    disabled: tuple[str, ...] = ()
    internal_format: bool | None = None


BUILDERS = {
    "BEVDet": Builder(
        {"": ("PatcherBuilder", "Patch", "batch_matmul")}, {"torch": ("batch_matmul",)}
    ),
    "BEVDet4D": Builder(
        {"": ("PatcherBuilder", "Patch", "batch_matmul")},
        {
            "torch": ("batch_matmul",),
            "mmdet3d.models.necks.view_transformer": ("own",),
            "mmdet3d.models.backbones.swin": ("own",),
        },
        brake=250,
    ),
    "BEVFormer": Builder(
        {"": ("PatcherBuilder", "Patch", "numpy_type")},
        {
            "numpy": ("numpy_type",),
            "nuscenes.eval.detection.data_classes": ("own",),
            "torch.nn.parallel.data_parallel": ("own",),
            "mmcv.ops.focal_loss": ("own",),
            "mmcv.ops.modulated_deform_conv": ("own",),
        },
        brake=500,
    ),
    "BEVFusion": Builder(
        {
            "": ("batch_matmul", "patch_mmcv_version", "default_patcher_builder"),
            "patcher": ("PatcherBuilder", "Patch"),
        },
        {"torch": ("own",)},
        brake=1000,
        default=True,
        internal_format=True,
    ),
    "BEVNeXt": Builder(
        {"": ("PatcherBuilder", "Patch", "batch_matmul")}, {"torch": ("batch_matmul",)}
    ),
    "Cosmos-Transfer1": Builder(
        {"": ("PatcherBuilder", "Patch")}, {"megatron.core.tensor_parallel.random": ("own",)}
    ),
    "FBOCC": Builder(
        {
            "": (
                "PatcherBuilder",
                "Patch",
                "index",
                "batch_matmul",
                "numpy_type",
                "ddp",
                "stream",
                "msda",
                "resnet_add_relu",
                "resnet_maxpool",
            )
        },
        {
            "mmcv": ("msda", "stream", "ddp"),
            "torch": ("index", "batch_matmul"),
            "numpy": ("numpy_type",),
            "mmdet": ("resnet_add_relu", "resnet_maxpool"),
            "mmdet3d": ("own",),
            "mmdet3d.models.fbbev.modules.resnet3d": ("own",),
            "mmdet3d.models.fbbev.modules.fpn3d": ("own",),
            "mmdet3d.models.fbbev.heads.occupancy_head": ("own",),
        },
        brake=600,
    ),
    "FCOS": Builder(
        {"": ("PatcherBuilder", "Patch", "resnet_add_relu", "resnet_maxpool")},
        {"mmdet": ("resnet_add_relu", "resnet_maxpool")},
    ),
    "FCOS3D": Builder(
        {"": ("PatcherBuilder", "Patch", "dc", "mdc")}, {"mmcv": ("dc", "mdc")}, brake=1000
    ),
    "FlashOCC": Builder(
        {"": ("PatcherBuilder", "Patch", "batch_matmul", "resnet_add_relu", "resnet_fp16")},
        {"torch": ("batch_matmul",), "mmdet": ("resnet_add_relu", "resnet_fp16")},
    ),
    "Mask2Former": Builder({"": ("PatcherBuilder", "Patch", "msda")}, {"mmcv": ("msda",)}),
    "OpenDWM": Builder(
        {"": ("PatcherBuilder", "Patch")},
        {
            "diffusers.models.normalization": ("own",),
            "transformers.models.clip.modeling_clip": ("own",),
        },
    ),
    "OpenVLA": Builder(
        {"": ("PatcherBuilder", "Patch")}, {"transformers.models.llama.modeling_llama": ("own",)}
    ),
    "SalsaNext": Builder(
        {"": ("PatcherBuilder", "Patch", "numpy_type")},
        {
            "numpy": ("numpy_type",),
            "tasks.semantic.modules.Lovasz_Softmax": ("own",),
            "tasks.semantic.modules.ioueval": ("own",),
        },
    ),
    "Sparse4D": Builder(
        {
            "": (
                "PatcherBuilder",
                "Patch",
                "index",
                "batch_matmul",
                "numpy_type",
                "ddp",
                "stream",
                "resnet_add_relu",
                "resnet_maxpool",
            )
        },
        {
            "torch": ("index", "batch_matmul"),
            "numpy": ("numpy_type",),
            "mmcv": ("ddp", "stream"),
            "mmdet": ("resnet_add_relu", "resnet_maxpool"),
            "projects.mmdet3d_plugin.models.detection3d.detection3d_blocks": ("own",),
            "projects.mmdet3d_plugin.models.detection3d.losses": ("own",),
            "projects.mmdet3d_plugin.models.blocks": ("own",),
            "projects.mmdet3d_plugin.models.detection3d.target": ("own",),
            "projects.mmdet3d_plugin.models.sparse4d_head": ("own",),
            "mmcv.runner.hooks.optimizer": ("own",),
            "torch.nn.parallel.data_parallel": ("own",),
            "mmcv.ops.focal_loss": ("own",),
            "mmcv.ops.modulated_deform_conv": ("own",),
        },
        brake=500,
    ),
    "SparseDrive": Builder(
        {
            "": (
                "PatcherBuilder",
                "Patch",
                "index",
                "batch_matmul",
                "numpy_type",
                "ddp",
                "stream",
                "resnet_add_relu",
                "resnet_maxpool",
            )
        },
        {
            "torch": ("index", "batch_matmul"),
            "numpy": ("numpy_type",),
            "mmcv": ("ddp", "stream"),
            "mmdet": ("resnet_add_relu", "resnet_maxpool"),
            "projects.mmdet3d_plugin.models.attention": ("own",),
            "projects.mmdet3d_plugin.models.detection3d.losses": ("own",),
            "projects.mmdet3d_plugin.models.blocks": ("own",),
            "projects.mmdet3d_plugin.models.detection3d.target": ("own",),
            "projects.mmdet3d_plugin.models.map.target": ("own",),
            "projects.mmdet3d_plugin.models.motion.target": ("own",),
            "projects.mmdet3d_plugin.models.motion.instance_queue": ("own",),
            "mmcv.runner.hooks.optimizer": ("own",),
        },
        brake=1000,
    ),
    "UniAD": Builder(
        {"": ("default_patcher_builder",)}, {}, brake=500, default=True, disabled=("index",)
    ),
    "VAD": Builder(
        {
            "": (
                "PatcherBuilder",
                "Patch",
                "index",
                "numpy_type",
                "ddp",
                "stream",
                "msda",
                "resnet_add_relu",
                "resnet_maxpool",
            )
        },
        {
            "mmcv": ("msda", "own", "stream", "ddp"),
            "torch": ("index",),
            "numpy": ("numpy_type",),
            "mmdet": ("resnet_add_relu", "resnet_maxpool"),
            "projects.mmdet3d_plugin.VAD.modules.spatial_cross_attention": ("own",),
            "projects.mmdet3d_plugin.VAD.modules.temporal_self_attention": ("own",),
        },
        brake=800,
    ),
}

#: The names that the migrations to the API 2.0 import.
TWO = {
    "DiffusionDrive": {
        "": (
            "default_patcher",
            "Patcher",
            "Patch",
            "AtomicPatch",
            "TorchScatter",
            "ResNetFP16",
            "ResNetMaxPool",
        ),
        "patch": ("with_imports",),
    },
    "PanoOcc": {
        "": (
            "default_patcher",
            "Patcher",
            "Patch",
            "AtomicPatch",
            "OptimizerHooks",
            "ensure_mmcv_version",
        ),
        "patch": ("with_imports",),
    },
}

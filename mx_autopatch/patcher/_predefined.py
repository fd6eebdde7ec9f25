"""The predefined patches: names, and which built-in patches they stand for.

The patches themselves are in ``mx_autopatch/patches``, and are looked up by name when they
are applied. With ``MX_AUTOPATCH=1`` most of them are on without a patcher.
"""

from __future__ import annotations

from typing import Any, Callable

from mx_autopatch.patcher._base import BasePatch, Options, Patch
from mx_autopatch.patcher._ledger import ledger
from mx_autopatch.patcher._units import Unit
from mx_autopatch.patcher.patcher_logger import patcher_logger


class CatalogPatch(BasePatch):
    """A built-in patch, by its name in the catalog (``mmcv.msda``)."""

    def __init__(self, name: str, label: str = "", quiet: bool = False) -> None:
        self._name, self._label, self._quiet = name, label, quiet

    @property
    def name(self) -> str:
        return self._name

    def units(self) -> list[Unit]:
        return [_unit(self._label or self._name, self.module, (self._name,), self._quiet)]


class Predefined(Patch):
    """The base of the predefined patches.

    Attributes:
        legacy_name: The function that stands for it in the API 1.0.
        target_module: The package that it patches.
        catalog: The built-in patches behind it.
    """

    legacy_name: str = ""
    target_module: str = ""
    catalog: tuple[str, ...] = ()

    @classmethod
    def patches(cls, options: Options | None = None) -> list[BasePatch]:
        return [CatalogPatch(name, cls.name) for name in cls.catalog]

    @classmethod
    def group(
        cls,
        options: Options | None = None,
        without: frozenset[str] = frozenset(),
        patches: list[BasePatch] | None = None,
    ) -> list[Unit]:
        return cls.units_of(cls.name, options, without)

    @classmethod
    def units_of(
        cls, label: str, options: Options | None, without: frozenset[str] = frozenset()
    ) -> list[Unit]:
        """The units of the built-in patches, under this label."""
        if options:
            patcher_logger.warning(
                f"patch {label} takes no options here; set patches.options in autopatch.toml"
            )
        names = tuple(name for name in cls.catalog if name not in without)
        return [_unit(label, cls.target_module, names)] if names else []


def _unit(label: str, where: str, names: tuple[str, ...], quiet: bool = False) -> Unit:
    identity = ("catalog", names)
    return Unit(label=label, where=where, identity=identity, catalog=names, quiet=quiet)


def function_of(patch: type[Predefined]) -> Callable[[Any, Any], None]:
    """The patch function of the API 1.0 that stands for ``patch``."""

    def function(module: Any, options: Any = None) -> None:
        ledger().apply(patch.units_of(patch.legacy_name, options))

    function.__name__ = function.__qualname__ = patch.legacy_name
    function.__doc__ = f"The predefined patch {patch.__name__}, for ``Patch({patch.legacy_name})``."
    function.predefined = patch  # type: ignore[attr-defined]
    return function


def _define(
    class_name: str, name: str, legacy_name: str, target_module: str, *catalog: str, **more: Any
) -> type[Predefined]:
    doc = f"{', '.join(catalog)}: see ``mx-autopatch show``."
    attributes = {
        "name": name,
        "legacy_name": legacy_name,
        "target_module": target_module,
        "catalog": catalog,
        "__doc__": doc,
        "__module__": __name__,
        **more,
    }
    return type(class_name, (Predefined,), attributes)


MultiScaleDeformableAttention = _define(
    *("MultiScaleDeformableAttention", "multi_scale_deformable_attention", "msda"),
    *("mmcv", "mmcv.msda"),
)
DeformConv = _define("DeformConv", "deform_conv", "dc", "mmcv", "mmcv.deform_conv2d")
ModulatedDeformConv = _define(
    *("ModulatedDeformConv", "modulated_deform_conv", "mdc"),
    *("mmcv", "mmcv.modulated_deform_conv2d"),
)
SparseConv3D = _define("SparseConv3D", "spconv3d", "spconv3d", "mmcv", "mmcv.sparse_conv3d")
Voxelization = _define("Voxelization", "voxelization", "voxelization", "mmcv", "mmcv.voxelization")
SigmoidFocalLoss = _define(
    *("SigmoidFocalLoss", "sigmoid_focal_loss", "sigmoid_focal_loss"),
    *("mmcv", "mmcv.sigmoid_focal_loss"),
)
Stream = _define("Stream", "stream", "stream", "mmcv", "mmcv.stream")
DDP = _define("DDP", "ddp", "ddp", "mmcv", "mmcv.ddp", "mmcv.ddp_forward", "mmengine.ddp")
#: Of an early release; today a part of DDP.
DDPForward = _define("DDPForward", "ddp_forward", "ddp_forward", "mmcv", "mmcv.ddp_forward")
OptimizerHooks = _define(
    "OptimizerHooks", "optimizer_hooks", "optimizer_hooks", "mmcv", "mmcv.optimizer_hooks"
)
OptimizerWrapper = _define(
    *("OptimizerWrapper", "optimizer_wrapper", "optimizer_wrapper"),
    *("mmengine", "mmengine.optimizer_wrapper"),
)
PseudoSampler = _define(
    "PseudoSampler", "pseudo_sampler", "pseudo_sampler", "mmdet", "mmdet.pseudo_sampler"
)
ResNetAddRelu = _define(
    "ResNetAddRelu", "resnet_add_relu", "resnet_add_relu", "mmdet", "mmdet.resnet_add_relu"
)
ResNetMaxPool = _define(
    "ResNetMaxPool", "resnet_maxpool", "resnet_maxpool", "mmdet", "mmdet.resnet_maxpool"
)
ResNetFP16 = _define(
    *("ResNetFP16", "resnet_fp16", "resnet_fp16", "mmdet", "mmdet.resnet_fp16"),
    conflicts_with=["resnet_maxpool"],
)
NuScenesDataset = _define(
    *("NuScenesDataset", "nuscenes_dataset", "nuscenes_dataset"),
    *("mmdet3d", "mmdet3d.nuscenes_dataset"),
)
NuScenesMetric = _define(
    *("NuScenesMetric", "nuscenes_metric", "nuscenes_metric"),
    *("mmdet3d", "mmdet3d.nuscenes_metric"),
)
NumpyCompat = _define(
    *("NumpyCompat", "numpy_compat", "numpy_type", "numpy", "numpy.aliases"),
    apply_before_collect=True,
)
CollectionsCompat = _define(
    *("CollectionsCompat", "Iterable", "Iterable", "python", "python.collections_aliases"),
    apply_before_collect=True,
)
TensorIndex = _define("TensorIndex", "tensor_index", "index", "torch", "torch.index")
BatchMatmul = _define("BatchMatmul", "batch_matmul", "batch_matmul", "torch", "torch.batch_matmul")
NpuFusedAdamwStep = _define(
    *("NpuFusedAdamwStep", "npu_fused_adamw_step", "npu_fused_adamw_step"),
    *("torch_npu", "torch.optimizers"),
)
TorchScatter = _define(
    "TorchScatter", "torch_scatter", "scatter", "torch_scatter", "torch_scatter.provided"
)
FlashAttention = _define(
    *("FlashAttention", "flash_attention", "flash_attention"),
    *("transformers", "flash_attn.provided"),
)
FlashAttentionVarlen = _define(
    *("FlashAttentionVarlen", "flash_attention_varlen", "flash_attention_varlen"),
    *("transformers", "flash_attn.provided"),
)
Qwen3RMSNorm = _define(
    *("Qwen3RMSNorm", "qwen3_rmsnorm", "qwen3_rmsnorm"),
    *("transformers", "projects.rms_norm", "torch.rms_norm"),
)
Qwen3RoPE = _define("Qwen3RoPE", "qwen3_rope", "qwen3_rope", "transformers", "transformers.rotary")
TransformersNPU = _define(
    *("TransformersNPU", "transformers_npu", "transformers_npu", "transformers"),
    *("projects.rms_norm", "torch.rms_norm", "transformers.rotary", "flash_attn.provided"),
)
QWen3VLNPU = _define(
    *("QWen3VLNPU", "qwen3vl_npu", "qwen3vl_npu", "transformers"),
    *("projects.rms_norm", "torch.rms_norm", "transformers.rotary"),
)

ALL: list[type[Predefined]] = [
    *(MultiScaleDeformableAttention, DeformConv, ModulatedDeformConv, SparseConv3D),
    *(Voxelization, SigmoidFocalLoss, Stream, DDP, DDPForward, OptimizerHooks),
    *(OptimizerWrapper, PseudoSampler, ResNetAddRelu, ResNetMaxPool, ResNetFP16),
    *(NumpyCompat, NuScenesDataset, NuScenesMetric, TensorIndex, BatchMatmul, TorchScatter),
    *(Qwen3RMSNorm, Qwen3RoPE, FlashAttention, FlashAttentionVarlen, TransformersNPU),
    *(QWen3VLNPU, CollectionsCompat, NpuFusedAdamwStep),
]

#: Those of ``default_patcher`` and ``default_patcher_builder``.
DEFAULT: list[type[Predefined]] = [
    *(MultiScaleDeformableAttention, DeformConv, ModulatedDeformConv, SparseConv3D),
    *(Stream, DDP, ResNetAddRelu, ResNetMaxPool, NumpyCompat),
    *(NuScenesDataset, NuScenesMetric, TensorIndex, BatchMatmul),
]

BY_LEGACY_NAME: dict[str, type[Predefined]] = {patch.legacy_name: patch for patch in ALL}

#: The functions of the API 1.0.
FUNCTIONS = {patch.legacy_name: function_of(patch) for patch in ALL}


def named(names: frozenset[str]) -> list[str]:
    """The built-in patches of the predefined ones that these names disable."""
    found = [p for p in ALL if p.name in names or p.legacy_name in names]
    catalog = [name for patch in found for name in patch.catalog]
    return list(dict.fromkeys([*catalog, *(n for p in ALL for n in p.catalog if n in names)]))

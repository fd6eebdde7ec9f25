"""The names and signatures that the documentation of the Patcher API, 1.0 and 2.0, promises."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from typing import Any

import pytest

from mx_autopatch import patcher
from mx_autopatch.patcher import _predefined
from mx_autopatch.patches.index import INDEX

#: Module -> its names. What is not listed with a module is of the package.
NAMES = {
    "": """Patcher BasePatch Patch AtomicPatch RegistryPatch LegacyPatch replace_with
        patcher_logger configure_patcher_logging set_patcher_log_level PatchStatus PatchResult
        get_version check_version mmcv_version is_mmcv_v1x is_mmcv_v2x default_patcher
        MultiScaleDeformableAttention MSDA DeformConv ModulatedDeformConv SparseConv3D Voxelization
        SigmoidFocalLoss Stream DDP OptimizerHooks OptimizerWrapper PseudoSampler ResNetAddRelu
        ResNetMaxPool ResNetFP16 NuScenesDataset NuScenesMetric NuScenes NumpyCompat
        CollectionsCompat TensorIndex BatchMatmul TorchScatter NpuFusedAdamwStep FlashAttention
        FlashAttentionVarlen Qwen3RMSNorm Qwen3RoPE TransformersNPU QWen3VLNPU PatcherBuilder
        LegacyPatcherBuilder LegacyPatchWrapper
        default_patcher_builder msda dc mdc spconv3d patch_mmcv_version ensure_mmcv_version stream
        ddp ddp_forward optimizer_hooks optimizer_wrapper index batch_matmul numpy_type
        pseudo_sampler resnet_add_relu resnet_maxpool resnet_fp16 nuscenes_dataset nuscenes_metric
        scatter _ALL_PATCH_CLASSES _DEFAULT_PATCH_CLASSES _LEGACY_NAME_TO_CLASS""",
    "patch": """BasePatch Patch AtomicPatch RegistryPatch LegacyPatch with_imports PatchResult
        PatchStatus get_version check_version mmcv_version is_mmcv_v1x is_mmcv_v2x""",
    "patcher": "Patch Patcher PatcherBuilder replace_with",
    "legacy": "LegacyPatchWrapper LegacyPatcherBuilder PatcherBuilder default_patcher_builder",
    "mmcv_patch": """dc mdc msda patch_mmcv_version spconv3d MultiScaleDeformableAttention
        DeformConv ModulatedDeformConv SparseConv3D Voxelization SigmoidFocalLoss Stream DDP
        OptimizerHooks""",
    "mmengine_patch": "stream ddp optimizer_hooks optimizer_wrapper OptimizerWrapper",
    "mmdet_patch": """pseudo_sampler resnet_add_relu resnet_maxpool resnet_fp16 PseudoSampler
        ResNetAddRelu ResNetMaxPool ResNetFP16""",
    "mmdet3d_patch": "nuscenes_dataset nuscenes_metric NuScenesDataset NuScenesMetric NuScenes",
    "numpy_patch": "numpy_type NumpyCompat",
    "python_patch": "CollectionsCompat",
    "torch_patch": "index batch_matmul TensorIndex BatchMatmul NpuFusedAdamwStep",
    "torch_scatter_patch": "scatter TorchScatter",
    "transformers_patch": """Qwen3RMSNorm Qwen3RoPE FlashAttention FlashAttentionVarlen
        TransformersNPU QWen3VLNPU""",
    "version": "get_version check_version mmcv_version is_mmcv_v1x is_mmcv_v2x",
    "patcher_logger": """patcher_logger configure_patcher_logging set_patcher_log_level PatchError
        PatcherLogger""",
    "reporting": "PatchResult PatchStatus",
}

#: Callable -> its parameters, with their defaults.
SIGNATURES = {
    "Patch": "func, options=None, priority=0, patch_failure_warning=True",
    "Patcher": "module_patches, blacklist, allow_internal_format=False",
    "Patcher.apply": "self, allow_internal_format=None",
    "Patcher.add": "self, *items, options=None",
    "Patcher.disable": "self, *names",
    "Patcher.print_info": "self, diff=False",
    "Patcher.skip_import": "self, *module_paths",
    "Patcher.inject_import": "self, source_module, class_name, target_module",
    "Patcher.replace_import": (
        "self, module_path, replacement=None, *, base_module=None, exports=None, **attrs"
    ),
    "Patcher.allow_internal_format": "self, allow=True",
    "Patcher.disallow_internal_format": "self",
    "PatcherBuilder.add_module_patch": "self, module_name, *patches",
    "PatcherBuilder.disable_patches": "self, *patch_names",
    "PatcherBuilder.with_profiling": (
        "self, path, level=0, skip_first=20, wait=1, warmup=1, active=1, repeat=1"
    ),
    "PatcherBuilder.brake_at": "self, brake_step",
    "PatcherBuilder.with_brake": "self, brake_step",
    "PatcherBuilder.build": "self, allow_internal_format=False",
    "AtomicPatch": (
        "target, replacement=None, *, aliases=None, precheck=None, runtime_check=None, "
        "replacement_wrapper=None, target_wrapper=None"
    ),
    "RegistryPatch": (
        "registry, module_cls=None, *, name=None, force=True, precheck=None, module_factory=None"
    ),
    "LegacyPatch": "func, options=None, target_module=None",
    "Patch.patches": "options=None",
    "Patch.apply_all": "options=None",
    "patch_mmcv_version": "expected_version",
    "get_version": "package",
    "check_version": "package, major=None, minor=None",
    "configure_patcher_logging": "on_apply=None, on_skip=None, on_fail=None, on_error=None",
    "set_patcher_log_level": "level",
    "replace_with.module": "base=None, **exports",
    "PatchResult": "status, name, module, reason=None",
}


@pytest.mark.parametrize("module", NAMES)
def test_every_documented_name_is_there(module: str) -> None:
    found = importlib.import_module(f"mx_autopatch.patcher.{module}".rstrip("."))
    missing = [name for name in NAMES[module].split() if not hasattr(found, name)]
    assert not missing
    public = set(found.__all__)
    assert {name for name in NAMES[module].split() if name != "PatcherBuilder"} <= public


def test_a_name_is_the_same_object_everywhere() -> None:
    for module, names in NAMES.items():
        found = importlib.import_module(f"mx_autopatch.patcher.{module}".rstrip("."))
        for name in names.split():
            assert getattr(found, name) is getattr(patcher, name, getattr(found, name)), name


@pytest.mark.parametrize("path", SIGNATURES)
def test_signatures(path: str) -> None:
    found: Any = patcher
    for name in path.split("."):
        found = getattr(found, name)
    parameters = inspect.signature(found).parameters.values()
    plain = [parameter.replace(annotation=parameter.empty) for parameter in parameters]
    text = str(inspect.Signature(plain))[1:-1]
    # A Patcher of the API 2.0 is made without arguments, a group without a function.
    if path in ("Patcher", "Patch"):
        text = text.replace("module_patches=None, blacklist=None", "module_patches, blacklist")
        text = text.replace("func=None", "func")
    assert text == SIGNATURES[path]


def test_one_class_serves_both_versions() -> None:
    def change(module: Any, options: Any) -> None:
        pass

    patch = patcher.Patch(change)
    assert isinstance(patch, patcher.Patch)
    assert (patch.name, patch.options, patch.priority) == ("change", {}, 0)
    assert patch.func is change
    assert patcher.Patch(change, priority=-1) < patch
    assert patcher.LegacyPatchWrapper is patcher.Patch
    assert patcher.LegacyPatcherBuilder is patcher.PatcherBuilder
    assert isinstance(patcher.PatcherBuilder().build(), patcher.Patcher)
    assert issubclass(patcher.MSDA, patcher.Patch)
    with pytest.raises(TypeError, match="expected a function, got None"):
        patcher.Patch()


def test_predefined_patches_and_functions_belong_together() -> None:
    for name, cls in patcher._LEGACY_NAME_TO_CLASS.items():
        function = _predefined.FUNCTIONS[name]
        assert (function.__name__, cls.legacy_name) == (name, name)
        assert [patch.name for patch in cls.patches()] == list(cls.catalog)
        assert cls.target_module
    assert set(patcher._DEFAULT_PATCH_CLASSES) <= set(patcher._ALL_PATCH_CLASSES)
    assert patcher.ResNetFP16.conflicts_with == ["resnet_maxpool"]
    assert (patcher.MSDA.name, patcher.TensorIndex.name, patcher.NumpyCompat.name) == (
        *("multi_scale_deformable_attention", "tensor_index"),
        "numpy_compat",
    )


@pytest.mark.parametrize("name", sorted({n for p in _predefined.ALL for n in p.catalog}))
def test_every_predefined_patch_is_in_the_catalog(name: str) -> None:
    assert name in INDEX


def test_importing_it_imports_neither_torch_nor_numpy() -> None:
    script = (
        "import sys; import mx_autopatch.patcher; "
        "print([n for n in ('torch', 'numpy', 'mmcv', 'mmengine', 'wrapt') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

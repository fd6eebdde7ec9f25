"""What published migrations import and call is there, by the name that they know it under."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from migrations import BUILDERS, TWO, Builder

from mx_autopatch import bootstrap


@pytest.fixture
def mx_driving(engine: Any) -> Iterator[None]:
    """``mx_driving.patcher``, answered for by mx_autopatch; nothing of it stays."""
    engine(patches__disable=["mmcv.training_steps", "mmengine.training_steps"])
    yield
    bootstrap.deactivate()
    assert "mx_driving.patcher" not in sys.modules


def names(imports: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    found = {}
    for module, wanted in imports.items():
        answering = importlib.import_module(f"mx_driving.patcher.{module}".rstrip("."))
        for name in wanted:
            found[name] = getattr(answering, name)
    return found


@pytest.mark.usefixtures("mx_driving")
@pytest.mark.parametrize("model", BUILDERS)
def test_builders(model: str, monkeypatch: pytest.MonkeyPatch, said: Any) -> None:
    migration: Builder = BUILDERS[model]
    have = names(migration.imports)
    called = []

    def own(module: Any, options: Any) -> None:
        called.append(module.__name__)

    builder = have["default_patcher_builder"] if migration.default else have["PatcherBuilder"]()
    # The builder of all is not to be changed for other tests.
    for attribute in ("module_patches", "blacklist", "_brake"):
        value = getattr(builder, attribute)
        monkeypatch.setitem(vars(builder), attribute, copy.deepcopy(value))
    for module, patches in migration.patches.items():
        added = [have["Patch"](own if name == "own" else have[name]) for name in patches]
        assert builder.add_module_patch(module, *added) is builder
    if migration.brake is not None:
        assert builder.brake_at(migration.brake) is builder
    assert builder.disable_patches(*migration.disabled) is builder
    arguments = {} if migration.internal_format is None else {"allow_internal_format": True}
    loaded = set(sys.modules)
    with builder.build(**arguments) as patcher:
        assert patcher.is_applied
        assert not {"torch", "mmcv", "mmdet"} & (set(sys.modules) - loaded)
    assert not [line for line in said.lines if "has no patch" in line]
    errors = [line for line in said.lines if line.startswith(("ERROR", "WARNING"))]
    assert all("cannot be imported: No module named" in line for line in errors), errors


@pytest.mark.usefixtures("mx_driving")
@pytest.mark.parametrize("model", TWO)
def test_names_of_the_second_version(model: str) -> None:
    have = names(TWO[model])
    assert issubclass(have["AtomicPatch"], sys.modules["mx_driving.patcher"].BasePatch)


def project(write: Any) -> None:
    """A project of the shape that DiffusionDrive's migration is written for."""
    plugin = "projects/plugin"
    write(
        {
            f"{plugin}/__init__.py": "from .models import *",
            f"{plugin}/models/__init__.py": """
                from .attention import FlashAttention
                __all__ = ["FlashAttention"]
            """,
            f"{plugin}/models/attention.py": """
                from flash_attn.flash_attn_interface import some_cuda_function
                from ..ops.deformable_aggregation import DeformableAggregationFunction
                from torch_scatter import scatter_mean
                def auto_double(f): return lambda *a: 2 * f(*a)
                class FlashAttention:
                    scale = 3
                    def forward(self, q): return some_cuda_function(q)
                    def aggregate(self, x): return DeformableAggregationFunction.apply(x)
                class FlashMHA:
                    def forward(self, q): return -1
            """,
            f"{plugin}/models/head_v1.py": "class V1Head: pass",
            f"{plugin}/ops/__init__.py": "",
            f"{plugin}/ops/deformable_aggregation.py": "import cuda_extension",
        }
    )


@pytest.mark.usefixtures("mx_driving")
def test_a_migration_of_the_second_version(write: Any, said: Any) -> None:
    """The steps of DiffusionDrive's configure_patcher, on a project of its shape."""
    torch = pytest.importorskip("torch")
    project(write)
    from mx_driving.patcher import (
        AtomicPatch,
        Patch,
        ResNetFP16,
        ResNetMaxPool,
        TorchScatter,
        default_patcher,
    )
    from mx_driving.patcher.patch import with_imports

    class Aggregation:
        @staticmethod
        def apply(x: Any) -> Any:
            return ("npu", x)

    class FlashAttention(Patch):
        name = "project_flash_attention"

        @classmethod
        def patches(cls, options: Any = None) -> Any:
            base = "projects.plugin.models.attention"
            return [
                AtomicPatch(f"{base}.FlashAttention.forward", cls._forward),
                AtomicPatch(f"{base}.FlashMHA.forward", cls._mha),
            ]

        @staticmethod
        @with_imports(("projects.plugin.models.attention", "auto_double"), "@auto_double")
        def _forward(self: Any, q: int) -> int:
            return int(self.scale * q)

        @staticmethod
        def _mha(self: Any, q: int) -> int:
            return q

    patcher = default_patcher.__class__()
    patcher.add(*sys.modules["mx_driving.patcher"]._DEFAULT_PATCH_CLASSES)
    patcher.skip_import("flash_attn")
    patcher.skip_import("torch_scatter")
    patcher.replace_import(
        "projects.plugin.ops.deformable_aggregation", DeformableAggregationFunction=Aggregation
    )
    patcher.inject_import("projects.plugin.models.head_v1", "V1Head", "projects.plugin.models")
    patcher.add(TorchScatter)
    patcher.disable(ResNetMaxPool).add(ResNetFP16)
    patcher.add(FlashAttention)
    patcher.brake_at(1000)
    with patcher:
        models = importlib.import_module("projects.plugin.models")
        attention = models.FlashAttention()
        assert attention.forward(5) == 30
        assert attention.aggregate(1) == ("npu", 1)
        assert models.V1Head.__name__ == "V1Head"
        session = bootstrap.active().session  # type: ignore[union-attr]
        assert session is not None
        assert session.is_on("mmdet.resnet_fp16")
        assert not session.is_on("mmdet.resnet_maxpool")
        index = torch.tensor([0, 0, 1])
        mean = sys.modules["torch_scatter"].scatter_mean(torch.tensor([1.0, 3.0, 5.0]), index)
        assert mean.tolist() == [2.0, 5.0]
    assert not said.about("Failed")
    assert session.is_on("mmdet.resnet_maxpool")
    assert not session.is_on("mmdet.resnet_fp16")

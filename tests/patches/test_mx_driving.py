"""``mx_driving.patcher`` where there is no mx_driving, and where there is."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from mx_autopatch import bootstrap, patcher
from mx_autopatch.engine.requires import Requirements
from mx_autopatch.ops.npu._mx_driving import _module, mx_driving

SUBMODULES = (
    *("patch", "patcher", "legacy", "mmcv_patch", "mmdet_patch", "mmdet3d_patch"),
    *("mmengine_patch", "numpy_patch", "torch_patch", "torch_scatter_patch", "python_patch"),
    *("transformers_patch", "version", "patcher_logger", "reporting"),
)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    if importlib.util.find_spec("mx_driving") is not None:
        pytest.skip("mx_driving is installed here")
    _module.cache_clear()
    yield
    _module.cache_clear()
    bootstrap.deactivate()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mx_driving"]:
        del sys.modules[name]


def test_its_patcher_is_ours_submodules_included(engine: Any) -> None:
    report = engine()
    from mx_driving.patcher import Patch, PatcherBuilder
    from mx_driving.patcher.patch import with_imports

    assert (Patch, PatcherBuilder) == (patcher.Patch, patcher.PatcherBuilder)
    assert with_imports is patcher.with_imports
    for name in SUBMODULES:
        found = importlib.import_module(f"mx_driving.patcher.{name}")
        assert found is importlib.import_module(f"mx_autopatch.patcher.{name}")
    statuses = [str(outcome.status) for outcome in report().of("mx_driving.patcher")]
    assert statuses == ["APPLIED", "APPLIED"]
    bootstrap.deactivate()
    assert not [name for name in sys.modules if name.startswith("mx_driving")]


@pytest.mark.parametrize(
    "statement", ["import mx_driving.patcher as p", "import mx_driving.patcher"]
)
def test_other_forms_of_import(engine: Any, statement: str) -> None:
    engine()
    namespace: dict[str, Any] = {}
    exec(statement, namespace)
    found = namespace["p"] if "p" in namespace else namespace["mx_driving"].patcher
    assert found is patcher


def test_mx_driving_itself_is_not_there(engine: Any) -> None:
    engine()
    with pytest.raises(ModuleNotFoundError, match="No module named 'mx_driving'"):
        importlib.import_module("mx_driving")
    assert importlib.util.find_spec("mx_driving") is None
    with pytest.raises(ModuleNotFoundError, match="mx_driving"):
        importlib.import_module("mx_driving._C")
    assert importlib.util.find_spec("mx_driving.patcher") is not None


def test_nor_do_its_kernels_seem_to_be_once_its_patcher_is_loaded(engine: Any) -> None:
    engine()
    importlib.import_module("mx_driving.patcher")
    place = importlib.import_module("mx_driving")
    with pytest.raises(AttributeError, match="not installed; mx_autopatch answers for"):
        place.multi_scale_deformable_attn  # noqa: B018
    with pytest.raises(ImportError, match="bev_pool_v3"):
        from mx_driving import bev_pool_v3  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mx_driving._C")
    assert Requirements({}, lambda name: None).unmet(("module:mx_driving",)) == (
        "requires the module mx_driving, which is not installed"
    )
    assert mx_driving("multi_scale_deformable_attn") is None


def test_a_real_one_is_used(engine: Any, write: Any) -> None:
    write({"mx_driving/__init__.py": "kernel = 1", "mx_driving/patcher.py": "Patch = 'its own'"})
    report = engine()
    from mx_driving.patcher import Patch

    assert Patch == "its own"
    reasons = [outcome.reason for outcome in report().of("mx_driving.patcher")]
    assert reasons == ["mx_driving is installed", "mx_driving.patcher is installed"]
    assert Requirements({}, lambda name: None).unmet(("module:mx_driving",)) == ""


def test_a_real_one_without_a_patcher_gets_ours(engine: Any, write: Any) -> None:
    write({"mx_driving/__init__.py": "kernel = 1"})
    engine()
    from mx_driving.patcher import Patch

    assert Patch is patcher.Patch
    assert importlib.import_module("mx_driving").kernel == 1

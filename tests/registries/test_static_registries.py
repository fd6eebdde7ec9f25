"""Registries found in sources, beside what the packages have registered when imported."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers import environment, python

from mx_autopatch.registries.search import find, hindrance
from mx_autopatch.registries.static import Entry, Model

PACKAGES = [name for name in ("mmengine", "mmcv", "mmdet", "mmseg") if find_spec(name)]
needs_openmmlab = pytest.mark.skipif(len(PACKAGES) < 4, reason="needs the OpenMMLab packages")


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    script = Path(__file__).with_name("live_entries.py")
    done = python(
        script,
        *PACKAGES,
        cwd=tmp_path_factory.mktemp("live"),
        env=environment(active=True),
        warnings=False,
        timeout=200,
    )
    return json.loads(done.stdout)


@needs_openmmlab
def test_whatever_is_registered_is_found_in_the_sources(
    model: Model, live: list[dict[str, Any]]
) -> None:
    unknown = []
    for package in PACKAGES:
        found = {
            (entry.registry.scope, entry.registry.name, entry.name)
            for entry in model.entries(model.sources.of(package))
        }
        theirs = [row for row in live if row["module"].split(".")[0] == package]
        assert theirs
        unknown += [
            f"{row['scope']}::{row['registry']} {row['name']} of {row['module']}"
            for row in theirs
            if (row["scope"], row["registry"], row["name"]) not in found
        ]
    # mmcv registers a class that mmengine has put together.
    assert unknown == ["mmengine::model SyncBN of mmengine.utils.dl_utils.parrots_wrapper"]


@needs_openmmlab
def test_every_variable_that_holds_a_registry_leads_to_the_one_object(
    model: Model, live: list[dict[str, Any]]
) -> None:
    registries = {(row["scope"], row["registry"]): row for row in live}
    checked = 0
    for (scope, name), row in registries.items():
        places = set()
        for variable in row["names"]:
            module, _, attribute = variable.partition(":")
            source = model.sources.get(module)
            if source is not None and module.split(".")[0] in PACKAGES:
                found = model.registry(source, attribute)
                assert found is not None, variable
                registry = found[0]
                assert (registry.scope, registry.name) == (scope, name), variable
                assert registry.root.name == row["root"]
                places.add(registry.place)
                checked += 1
        assert len(places) == 1, row["names"]
    assert checked > 200


def _named(model: Model, package: str, name: str) -> Entry:
    (entry,) = find(model, model.sources.of(package), name).entries
    return entry


@needs_openmmlab
def test_a_sampler_of_mmseg_is_a_task_util_whatever_its_decorator_says(model: Model) -> None:
    entry = _named(model, "mmseg", "OHEMPixelSampler")
    assert entry.registry.name == "task util"
    assert entry.registry.place == "mmseg.registry.registry:TASK_UTILS"
    assert entry.registry.root.place == "mmengine.registry.root:TASK_UTILS"
    names = [place.rpartition(":")[2] for place in entry.trail]
    assert names == ["PIXEL_SAMPLERS"] * 2 + ["TASK_UTILS"] * 3


@needs_openmmlab
def test_functions_that_build_are_known_by_what_they_return(model: Model) -> None:
    built = {b.place: b.registry.name for b in model.builders(model.sources.of("mmseg"))}
    assert built["mmseg.models.builder:build_backbone"] == "model"
    assert built["mmseg.structures.sampler.builder:build_pixel_sampler"] == "task util"


PROJECT = {
    "fakegic/__init__.py": "",
    "fakegic/registry/__init__.py": "from .registry import *\nfrom .more import EVALUATORS\n",
    "fakegic/registry/registry.py": """
        from mmengine.registry import EVALUATOR as MMENGINE_EVALUATOR, MODELS as _MODELS
        from mmengine import Registry as R
        from fakegic.base import Named

        EVALUATORS = R("evaluator", parent=MMENGINE_EVALUATOR, locations=["fakegic.evaluation"])
        MODELS = Named("model", parent=_MODELS, scope="gic")
        HEADS = BACKBONES = MODELS
    """,
    "fakegic/registry/more.py": "from . import registry\nEVALUATORS = registry.EVALUATORS\n",
    "fakegic/base.py": """
        from mmengine.registry import Registry

        class Named(Registry):
            pass
    """,
    "fakegic/models.py": """
        import functools
        import torch_of_nowhere
        import fakegic.registry as registry
        from fakegic.registry import HEADS

        @functools.lru_cache
        @HEADS.register_module(name=["A", "Alias"])
        class Head:
            @registry.BACKBONES.register_module()
            class Inner:
                pass

        @HEADS.register_module("by_position", force=True)
        def function():
            pass

        class Called:
            pass

        registry.MODELS.register_module(module=Called)
        for each in (Head, Called):
            registry.MODELS.register_module(name=None, module=each)

        def later(classes):
            for cls in classes:
                HEADS.register_module(module=cls)

        @unrelated.register_module()
        class No:
            pass
    """,
    "fakegic/uses.py": "from fakegic.models import Head\n",
    "fakegic/optional.py": "try:\n    import torch_of_nowhere\nexcept ImportError:\n    pass\n",
    "data/one/two/three/not_ours.py": "",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import textwrap

    for name, text in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.skipif(not find_spec("mmengine"), reason="needs mmengine")
def test_renamed_registries_of_a_project_are_resolved(project: Path) -> None:
    model = Model()
    modules = model.sources.project(project)
    assert "data.one.two.three.not_ours" not in [source.name for source in modules]
    held = {place: str(registry) for place, registry, _ in model.names(modules)}
    assert held["fakegic.registry:EVALUATORS"] == "fakegic::evaluator"
    assert held["fakegic.registry.more:EVALUATORS"] == "fakegic::evaluator"
    assert held["fakegic.registry.registry:BACKBONES"] == "gic::model"
    assert held["fakegic.models:HEADS"] == "gic::model"
    assert held["fakegic.registry.registry:MMENGINE_EVALUATOR"] == "mmengine::evaluator"
    entries = [(e.name, e.qualname, str(e.registry)) for e in model.entries(modules)]
    assert sorted(entries) == [
        ("", "", "gic::model"),  # in a loop over what the caller gives
        ("A", "Head", "gic::model"),
        ("Alias", "Head", "gic::model"),
        ("Called", "Called", "gic::model"),
        ("Called", "Called", "gic::model"),
        ("Head", "Head", "gic::model"),
        ("Inner", "Head.Inner", "gic::model"),
        ("by_position", "function", "gic::model"),
    ]
    (registry,) = {r for _, r, _ in model.names(modules) if r.scope == "fakegic"}
    assert registry.locations == ("fakegic.evaluation",)
    assert registry.parent is not None


@pytest.mark.skipif(not find_spec("mmengine"), reason="needs mmengine")
def test_near_names_and_what_hinders_an_import(project: Path) -> None:
    model = Model()
    modules = model.sources.project(project)
    finding = find(model, modules, "gic.Heed")
    assert not finding.entries
    assert [entry.name for entry in finding.near] == ["Head"]
    reason = "fakegic.models imports torch_of_nowhere, which is not installed"
    assert hindrance(model, "fakegic.uses").startswith(reason)
    assert hindrance(model, "fakegic.optional") == ""
    assert hindrance(model, "fakegic.registry") == ""


def test_sources_that_cannot_be_read_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "other.py").write_bytes(b"# coding: no-such\nx = 1\n")
    (tmp_path / "circle.py").write_text(
        "from circle import MODELS\nMODELS.register_module(module=a)"
    )
    model = Model()
    modules = model.sources.project(tmp_path)
    assert [source.name for source in modules] == ["broken", "circle", "other"]
    assert list(model.entries(modules)) == []
    assert list(model.names(modules)) == []

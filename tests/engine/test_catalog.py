"""The registry semantics that OpenMMLab users know, on the catalog."""

from __future__ import annotations

from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.engine.catalog import Catalog
from mx_autopatch.errors import CatalogError
from mx_autopatch.model import Define, Patch


@pytest.fixture
def root() -> Catalog:
    return Catalog()


def test_decorator_and_call_for_functions_classes_and_objects(root: Catalog) -> None:
    @root.register
    def function() -> int:
        return 1

    @root.register(name="other")
    class Class:
        pass

    patch = Patch("mmcv.nms", (Define("a:b", 1),))
    assert root.register(patch) is patch
    assert root.get("function") is function
    assert root["other"] is Class
    assert root.get("mmcv.nms") is patch
    assert root.children["mmcv"].get("nms") is patch
    assert list(root) == ["function", "other", "mmcv.nms"]
    assert (len(root), "mmcv.nms" in root, "nms" in root) == (3, True, False)


def test_look_up_goes_to_parents_and_siblings(root: Catalog) -> None:
    mmdet, mmcv = Catalog("mmdet", root), Catalog("mmcv", root)
    project = Catalog("project", mmdet)
    root.register(1, name="shared")
    mmcv.register(2, name="nms")
    mmdet.register(3, name="nms")
    assert project.get("shared") == 1
    assert project.get("nms") == 3
    assert project.get("mmcv.nms") == 2
    assert mmdet.get("mmdet.nms") == 3
    assert root.get("mmdet.nms") == 3
    with pytest.raises(
        CatalogError, match=r"patches: no entry 'nms'; did you mean 'mmdet.nms', 'mmcv.nms'\?"
    ):
        root.get("nms")


def test_build_with_type_defaults_and_build_func(root: Catalog) -> None:
    child = Catalog("child", root)

    @child.register
    def make(a: int, b: int = 2) -> tuple[int, int]:
        return a, b

    assert child.build({"type": "make", "a": 1}) == (1, 2)
    assert child.build({"type": "make", "a": 1}, b=5) == (1, 5)
    assert root.build({"type": "child.make", "a": 1, "b": 3}, b=5) == (1, 3)
    child.register({"an": "object"}, name="thing")
    assert child.build({"type": "thing"}) == {"an": "object"}

    def build_func(cfg: Any, catalog: Catalog, **kwargs: Any) -> Any:
        return (catalog.scope, cfg, kwargs)

    custom = Catalog("custom", root, build_func=build_func)
    below = Catalog("below", custom)
    assert below.build({"x": 1}, y=2) == ("below", {"x": 1}, {"y": 2})


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"a": 1}, "patches: build needs a dict with a key 'type', got {'a': 1}"),
        ("make", "patches: build needs a dict with a key 'type', got 'make'"),
        ({"type": "mke"}, "patches: no entry 'mke'; did you mean 'make'?"),
        ({"type": "make", "c": 1}, "patches: 'make': got an unexpected keyword argument 'c'"),
        ({"type": "thing", "c": 1}, "patches: 'thing' takes no arguments, got {'c': 1}"),
    ],
)
def test_build_errors(root: Catalog, cfg: Any, message: str) -> None:
    root.register(lambda a=1: a, name="make")
    root.register(3, name="thing")
    with pytest.raises(CatalogError) as caught:
        root.build(cfg)
    assert str(caught.value) == message


def test_a_duplicate_key_names_both_places_and_refuses_unless_forced(root: Catalog) -> None:
    def first() -> None: ...

    def second() -> None: ...

    root.register(first, name="x.same")
    root.register(first, name="x.same")  # the same object again is no duplicate
    with pytest.raises(CatalogError) as caught:
        root.register(second, name="x.same")
    message = str(caught.value)
    for function in (first, second):
        assert f"test_catalog.py:{function.__code__.co_firstlineno}" in message
    assert "patches.x: 'same' is registered already at" in message
    root.register(second, name="x.same", force=True)
    assert root.get("x.same") is second


def test_scopes_are_named_once(root: Catalog) -> None:
    Catalog("mmcv", root)
    with pytest.raises(CatalogError, match="scope 'mmcv' is there already"):
        Catalog("mmcv", root)
    with pytest.raises(CatalogError, match=r"'a\.b' cannot name a scope"):
        Catalog("a.b", root)


def test_remove(root: Catalog) -> None:
    root.register(1, name="a.b")
    root.remove("a.b")
    assert "a.b" not in root


# -- through the public register() -------------------------------------------------


def test_register_takes_effect_late_and_is_reverted(write: Any, engine: Any) -> None:
    write({"lib.py": "X = 1"})
    import lib

    engine()
    bootstrap.register(Patch("lib.y", (Define("lib:Y", 2),)))
    assert lib.Y == 2
    assert [str(outcome.status) for outcome in bootstrap.report().of("lib.y")] == ["LATE"]
    bootstrap.deactivate()
    assert not hasattr(lib, "Y")


def test_register_before_activation(write: Any, engine: Any) -> None:
    write({"lib.py": "X = 1"})

    @bootstrap.register(name="lib.made")
    def make(value: int = 5) -> Patch:
        return Patch("lib.made", (Define("lib:Z", value),))

    engine(patches__options={"lib.made": {"value": 8}})
    import lib

    assert lib.Z == 8


def test_builtin_patches_are_in_the_catalog_without_being_imported() -> None:
    import sys

    for name in [name for name in sys.modules if name.startswith("mx_autopatch.patches.")]:
        if name.count(".") > 2:
            del sys.modules[name]
    root = bootstrap.catalog()
    assert root.get("mmcv.ext").triggers == ("mmcv._ext",)
    assert not any(name.startswith("mx_autopatch.patches.mmcv.") for name in sys.modules)

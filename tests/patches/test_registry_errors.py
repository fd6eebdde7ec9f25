"""mmengine.registry_errors on the installed mmengine: what is said, and what is let pass."""

from __future__ import annotations

import importlib
import sys
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable

import pytest

from mx_autopatch import bootstrap

pytest.importorskip("mmengine.registry")
needs_mmdet = pytest.mark.skipif(not find_spec("mmdet"), reason="needs mmdet")

PATCH = "mmengine.registry_errors"


def said(error: BaseException) -> str:
    """What a traceback shows below the exception's own text."""
    if sys.version_info >= (3, 11):
        return "\n".join(getattr(error, "__notes__", []))
    return str(error.args[0]).partition("[mx_autopatch: ")[2]


@pytest.fixture
def plugin(write: Callable[..., Path], engine: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a registry of its own; the working folder, and the engine on."""
    folder = write(
        {
            "plug/__init__.py": "",
            "plug/registry.py": """
                from mmengine.registry import HOOKS as ROOT, MODELS as MODEL_ROOT, Registry
                MODELS = Registry("model", parent=MODEL_ROOT)
                HOOKS = Registry("hook", parent=ROOT, scope="plug")
            """,
            "plug/heads.py": """
                from plug.registry import MODELS

                @MODELS.register_module()
                class PlugHead:
                    def __init__(self, part=None):
                        self.part = part and MODELS.build(part)
            """,
            "plug/lost.py": """
                import package_of_nowhere
                from plug.registry import MODELS

                @MODELS.register_module()
                class LostHead:
                    pass
            """,
        }
    )
    engine(patches__only=[PATCH])
    monkeypatch.chdir(folder)
    from mmengine.registry import DefaultScope

    # What another test has set would send a look-up to the registry of that scope.
    monkeypatch.setattr(DefaultScope, "_instance_dict", OrderedDict())
    yield folder
    # A registry stays with its parent, where the next test's would be a second one.
    from mmengine.registry import HOOKS, MODELS

    for registry in (MODELS, HOOKS):
        registry._children.pop("plug", None)


def failure(registry: Any, name: str, **more: Any) -> str:
    with pytest.raises(KeyError, match="is not in the") as caught:
        registry.build({"type": name, **more})
    return said(caught.value)


def test_a_module_that_was_not_imported(plugin: Path) -> None:
    from plug.registry import MODELS

    text = failure(MODELS, "PlugHead")
    assert f"plug.heads ({plugin / 'plug' / 'heads.py'}:5) registers it in plug::model" in text
    assert "custom_imports = dict(imports=['plug.heads'], allow_failed_imports=False)" in text
    importlib.import_module("plug.heads")
    assert MODELS.build({"type": "PlugHead"}).part is None
    assert "write type='plug.PlugHead'" in failure(MODELS.root, "PlugHead")


def test_the_import_that_hides_a_module(plugin: Path) -> None:
    from plug.registry import MODELS

    text = failure(MODELS, "plug.LostHead")
    assert "it cannot be imported: plug.lost imports package_of_nowhere" in text


def test_a_slip_and_the_wrong_kind(plugin: Path) -> None:
    from plug.registry import HOOKS, MODELS

    importlib.import_module("plug.heads")
    assert "did you mean 'PlugHead' (plug::model)?" in failure(MODELS, "PlugHed")
    text = failure(HOOKS, "PlugHead")
    assert "that is a 'model', and what was asked for a 'hook'" in text
    assert "no file of the project, registers 'Ghjkl'" in failure(MODELS, "Ghjkl")


def test_a_nested_build_is_explained_once(plugin: Path) -> None:
    from plug.registry import MODELS

    importlib.import_module("plug.heads")
    text = failure(MODELS, "PlugHead", part={"type": "PlugHed"})
    assert text.count("did you mean") == 1


def test_other_errors_of_a_build_are_left_alone(plugin: Path) -> None:
    from plug.registry import MODELS

    @MODELS.register_module()
    def broken() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        MODELS.build({"type": "broken"})
    assert said(caught.value) == ""


@needs_mmdet
def test_a_model_of_another_package(plugin: Path) -> None:
    from mmengine.registry import MODELS

    text = failure(MODELS, "RetinaNet")
    assert "mmdet.models.detectors.retinanet" in text or "mmdet::model has it" in text
    assert "write type='mmdet.RetinaNet', or default_scope = 'mmdet'" in text


def test_two_copies_of_a_package(plugin: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from plug.registry import MODELS

    other = tmp_path / "elsewhere" / "plug"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path, str(other.parent)])
    text = failure(MODELS, "PlugHead")
    both = f"{(plugin / 'plug').resolve()}, {other.resolve()}"
    assert f"plug is on the path more than once; the first one counts: {both}" in text


def test_a_reload_registers_the_new_class(plugin: Path) -> None:
    module = importlib.import_module("plug.heads")
    first = module.PlugHead
    from plug.registry import MODELS

    importlib.reload(module)
    assert module.PlugHead is not first
    assert MODELS.get("PlugHead") is module.PlugHead


def test_the_same_file_under_another_name_changes_nothing(plugin: Path) -> None:
    from plug.registry import MODELS

    first = importlib.import_module("plug.heads").PlugHead
    spec = importlib.util.spec_from_file_location("heads", plugin / "plug" / "heads.py")
    twin = importlib.util.module_from_spec(spec)
    sys.modules["heads"] = twin
    try:
        spec.loader.exec_module(twin)
    finally:
        del sys.modules["heads"]
    assert twin.PlugHead is not first
    assert MODELS.get("PlugHead") is first


TWICE = """
    from plug.registry import MODELS

    @MODELS.register_module()
    class Twice:
        def one(self): pass

    @MODELS.register_module()
    class Twice:
        def one(self): pass
"""


def test_two_classes_of_one_name_are_both_named(plugin: Path, write: Any) -> None:
    write({"plug/twice.py": TWICE})
    with pytest.raises(KeyError, match="Twice is already registered in model") as caught:
        importlib.import_module("plug.twice")
    file = plugin / "plug" / "twice.py"
    assert f"({file}:{line_of(4)}); the other one is plug.twice:Twice" in said(caught.value)
    assert f"({file}:{line_of(8)})" in said(caught.value)


def line_of(decorator: int) -> int:
    """Since Python 3.13 a class begins where its first decorator does."""
    return decorator if sys.version_info >= (3, 13) else decorator + 1


def test_override_is_an_option(plugin: Path, write: Any) -> None:
    bootstrap.deactivate()
    settings = {"patches.only": [PATCH], "patches.options": {PATCH: {"override": True}}}
    bootstrap.activate(overrides=settings, script=str(plugin / "x.py"))
    write({"plug/twice.py": TWICE})
    module = importlib.import_module("plug.twice")
    from plug.registry import MODELS

    assert MODELS.get("Twice") is module.Twice


def test_revert_gives_back_what_was_there(engine: Any) -> None:
    from mmengine.registry import Registry, build_functions

    before = (Registry._register_module, build_functions.build_from_cfg)
    engine(patches__only=[PATCH])
    assert Registry._register_module is not before[0]
    assert build_functions.build_from_cfg is not before[1]
    bootstrap.deactivate()
    assert (Registry._register_module, build_functions.build_from_cfg) == before

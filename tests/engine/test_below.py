"""``Call(…, below=True)``: a function that reaches into submodules, loaded or not."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.model import Call, Patch, Replace


@pytest.fixture(autouse=True)
def _pkg(write: Any) -> None:
    write(
        {
            "pkg/__init__.py": """
                TABLE = {}
                class Registry:
                    def __init__(self): self._module_dict = {}
                R = Registry()
                def __getattr__(name):
                    if name == "lazy": return "lazily"
                    raise AttributeError(name)
            """,
            "pkg/sub/__init__.py": "class Base: word = 'base'",
            "pkg/sub/leaf.py": """
                from pkg import R
                from pkg.sub import Base
                class Leaf(Base): pass
                R._module_dict["Leaf"] = Leaf
                def f(): return "f"
            """,
            "pkg/sub/broken.py": "import no_such_thing",
            "pkg/other.py": "value = 1",
            "elsewhere.py": """
                import pkg
                class Here: pass
                pkg.R._module_dict["Here"] = Here
            """,
        }
    )


def load(name: str) -> Any:
    return importlib.import_module(name)


def run(engine: Any, function: Any, *more: Patch, module: str = "pkg") -> Any:
    patch = Patch("trial.below", (Call(module, function, below=True),))
    return engine(patch, *more)


def test_submodules_are_imported_when_they_are_asked_for(engine: Any) -> None:
    def change(context: Any) -> None:
        pkg = context.module
        assert pkg.lazy == "lazily"
        assert "pkg.sub" not in sys.modules
        pkg.sub.leaf.f = "new f"
        pkg.sub.Base.word = "new word"
        pkg.TABLE = "new table"
        pkg.R._module_dict["mine"] = 1

    report = run(engine, change)
    pkg = load("pkg")
    handler = vars(pkg)["__getattr__"]
    assert handler.__module__ == "pkg"  # its own again
    assert "__getattr__" not in vars(pkg.sub)
    assert (pkg.sub.leaf.f, pkg.sub.leaf.Leaf.word, pkg.TABLE) == ("new f", "new word", "new table")
    (outcome,) = report()
    assert set(outcome.reason.split(", ")) == {
        *("pkg.sub.leaf.f", "Base.word", "pkg.TABLE", "dict['mine']")
    }
    bootstrap.deactivate()
    assert (pkg.sub.leaf.f(), pkg.sub.leaf.Leaf.word, pkg.TABLE) == ("f", "base", {})
    assert list(pkg.R._module_dict) == ["Leaf"]
    assert pkg.sub.leaf is sys.modules["pkg.sub.leaf"]


@pytest.mark.parametrize("name", ["pkg.sub.leaf", "elsewhere"])
def test_what_modules_do_when_they_are_imported_is_theirs(engine: Any, name: str) -> None:
    def change(context: Any) -> None:
        context.module.R._module_dict["before"] = 1
        importlib.import_module(name)
        context.module.R._module_dict["after"] = 2

    run(engine, change)
    pkg = load("pkg")
    registered = {"pkg.sub.leaf": "Leaf", "elsewhere": "Here"}[name]
    assert list(pkg.R._module_dict) == ["before", registered, "after"]
    bootstrap.deactivate()
    assert list(pkg.R._module_dict) == [registered]


def test_the_patches_of_a_submodule_come_before_the_function_sees_it(engine: Any) -> None:
    seen = []

    def change(context: Any) -> None:
        seen.append(context.module.other.value)
        context.module.other.value = 3

    run(engine, change, Patch("trial.other", (Replace("pkg.other:value", 2),)))
    load("pkg")
    assert seen == [2]
    assert load("pkg.other").value == 3


def test_a_name_that_is_no_submodule_and_a_submodule_that_breaks(engine: Any) -> None:
    errors: list[BaseException] = []

    def change(context: Any) -> None:
        pkg = context.module
        assert not hasattr(pkg, "absent")
        assert not hasattr(pkg.sub, "__path_of_no_kind__")
        for ask in (lambda: pkg.sub.absent, lambda: pkg.sub.broken):
            try:
                ask()
            except Exception as error:
                errors.append(error)

    run(engine, change)
    load("pkg")
    assert [type(error) for error in errors] == [AttributeError, ModuleNotFoundError]
    assert str(errors[0]) == (
        "module 'pkg.sub' has no attribute 'absent', nor a submodule of that name"
    )
    assert str(errors[1]) == "No module named 'no_such_thing'"


def test_a_function_that_raises_has_changed_nothing(engine: Any) -> None:
    def change(context: Any) -> None:
        context.module.sub.leaf.f = 1
        importlib.import_module("pkg.other").value = 2  # type: ignore[attr-defined]
        context.module.TABLE = 3
        raise RuntimeError("enough")

    report = run(engine, change)
    pkg = load("pkg")
    assert (pkg.sub.leaf.f(), pkg.other.value, pkg.TABLE) == ("f", 1, {})
    assert "RuntimeError: enough" in report().outcomes[0].reason
    assert not [finder for finder in sys.meta_path if type(finder).__name__ == "Below"]


def test_imports_of_other_threads_are_not_watched(engine: Any) -> None:
    def change(context: Any) -> None:
        thread = threading.Thread(target=load, args=("pkg.other",))
        thread.start()
        thread.join()
        context.module.TABLE = 1

    run(engine, change)
    pkg = load("pkg")
    assert pkg.TABLE == 1
    bootstrap.deactivate()
    assert pkg.TABLE == {}
    assert pkg.other is sys.modules["pkg.other"]


def test_modules_keep_their_loaders_and_specs(engine: Any) -> None:
    def change(context: Any) -> None:
        assert context.module.sub.leaf.f() == "f"
        importlib.import_module("elsewhere")

    run(engine, change, Patch("trial.leaf", (Replace("pkg.sub.leaf:f", lambda: "f"),)))
    load("pkg")
    for name in ("pkg", "pkg.sub", "pkg.sub.leaf", "elsewhere"):
        module = sys.modules[name]
        assert module.__spec__ is not None
        assert module.__spec__.loader is module.__loader__
        assert type(module.__loader__).__name__ == "SourceFileLoader"
        assert vars(module.__loader__).keys() == {"name", "path"}

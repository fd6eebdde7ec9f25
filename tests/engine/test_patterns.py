"""Provide("*.name"): a module that every project keeps in a package of its own."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import environment, python, write_files

from mx_autopatch import bootstrap
from mx_autopatch.errors import TargetError
from mx_autopatch.model import Before, Call, Define, Patch, Provide, Redirect

PATCH = Patch("projects.work", (Provide("*.work_ext", source="substitute"),))

FILES = {
    "substitute.py": "def work(): return 'virtual'\n",
    "one/__init__.py": "",
    "one/ops/__init__.py": "from . import work_ext\n",
    "two/__init__.py": "from .work_ext import work\n",
    "three/__init__.py": "",
    "three/my_work_ext.py": "",
}


@pytest.fixture
def tree(write: Any) -> Any:
    write(FILES)
    return write


def told(report: Any) -> list[tuple[str, str, str]]:
    return [(o.target, str(o.status), o.reason) for o in report()]


def test_provided_in_every_package_that_asks(tree: Any, engine: Any) -> None:
    report = engine(PATCH)
    assert told(report) == [("*.work_ext", "PENDING", "")]
    ops, two = importlib.import_module("one.ops"), importlib.import_module("two")
    assert (ops.work_ext.work(), two.work()) == ("virtual", "virtual")
    assert ops.work_ext is sys.modules["one.ops.work_ext"]
    assert ops.work_ext is not sys.modules["two.work_ext"]
    assert (ops.work_ext.__name__, ops.work_ext.__package__) == ("one.ops.work_ext",) * 2
    assert told(report) == [
        ("one.ops.work_ext", "APPLIED", "from substitute"),
        ("two.work_ext", "APPLIED", "from substitute"),
    ]
    assert [o.trigger for o in report()] == ["one.ops.work_ext", "two.work_ext"]


def test_looked_for_is_not_imported(tree: Any, engine: Any) -> None:
    report = engine(PATCH)
    spec = importlib.util.find_spec("three.work_ext")
    assert spec is not None
    assert spec.origin == "substitute"
    assert "three.work_ext" not in sys.modules
    assert [status for _, status, _ in told(report)] == ["PENDING"]


def test_only_that_name_and_only_in_a_package(tree: Any, engine: Any) -> None:
    report = engine(PATCH)
    assert importlib.import_module("three.my_work_ext").__name__ == "three.my_work_ext"
    for name in ("work_ext", "three.work_ext2", "three.Work_ext"):
        assert importlib.util.find_spec(name) is None
    with pytest.raises(ModuleNotFoundError, match="No module named 'work_ext'"):
        importlib.import_module("work_ext")
    with pytest.raises(ModuleNotFoundError, match="No module named 'four'"):
        importlib.import_module("four.work_ext")
    assert [status for _, status, _ in told(report)] == ["PENDING"]


def test_a_real_one_is_left_alone(tree: Any, engine: Any) -> None:
    tree({"three/work_ext.py": "def work(): return 'real'\n"})
    report = engine(PATCH)
    module = importlib.import_module("three.work_ext")
    assert module.work() == "real"
    assert module.__spec__ is not None
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert module.__spec__.loader is module.__loader__
    assert importlib.reload(module) is module
    assert told(report) == [("three.work_ext", "UNMET", "three.work_ext is installed")]


@pytest.mark.parametrize("extension", [False, True])
def test_one_that_does_not_load_is_replaced(tree: Any, engine: Any, extension: bool) -> None:
    from importlib.machinery import EXTENSION_SUFFIXES

    name = f"work_ext{EXTENSION_SUFFIXES[0]}" if extension else "work_ext.py"
    tree({f"three/{name}": "raise ImportError('undefined symbol: _ZN3c10')\n"})
    report = engine(PATCH)
    assert importlib.import_module("three.work_ext").work() == "virtual"
    ((target, status, reason),) = told(report)
    assert (target, status) == ("three.work_ext", "APPLIED")
    assert reason.startswith("the installed one does not load: ")


def test_an_edit_of_that_very_module_comes_first(tree: Any, engine: Any) -> None:
    tree({"other.py": "def work(): return 'other'\n"})
    other = Patch("projects.other", (Provide("one.ops.work_ext", source="other"),))
    engine(PATCH, other)
    assert importlib.import_module("one.ops").work_ext.work() == "other"
    assert importlib.import_module("two").work() == "virtual"


def test_unmet_says_of_which_module(tree: Any, engine: Any) -> None:
    patch = Patch("projects.work", PATCH.edits, requires=("module:nowhere",))
    report = engine(patch)
    with pytest.raises(ImportError):
        importlib.import_module("two")
    ((target, status, reason),) = told(report)
    assert (target, status) == ("two.work_ext", "UNMET")
    assert "nowhere" in reason


def test_reverted(tree: Any, engine: Any) -> None:
    engine(PATCH)
    ops = importlib.import_module("one.ops")
    importlib.import_module("two")
    session = bootstrap.active().session
    bootstrap.deactivate()
    assert [(o.target, str(o.status)) for o in session.report().of("projects.work")] == [
        ("one.ops.work_ext", "REVERTED"),
        ("two.work_ext", "REVERTED"),
    ]
    assert not hasattr(ops, "work_ext")
    assert not [name for name in sys.modules if name.endswith(".work_ext")]
    assert importlib.util.find_spec("one.ops.work_ext") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("one.ops.work_ext")


def test_registered_while_active(tree: Any, engine: Any) -> None:
    engine()
    assert importlib.util.find_spec("three.work_ext") is None
    bootstrap.register(PATCH)
    assert importlib.import_module("three.work_ext").work() == "virtual"


def test_the_finder_pays_for_it_only_where_there_is_one(tree: Any, engine: Any) -> None:
    engine(Patch("projects.none", (Define("one:nothing", 1),)))
    importlib.import_module("substitute")
    finder = bootstrap.active()
    assert finder is not None
    assert finder.find_spec.__name__ == "_steady"
    bootstrap.deactivate()
    bootstrap.activate(patches=[PATCH], overrides={"patches.only": ["projects.work"]})
    importlib.import_module("one")
    finder = bootstrap.active()
    assert finder is not None
    assert finder.find_spec.__name__ == "_steady_with_last_names"


def test_with_a_rule_for_whole_packages(tree: Any, engine: Any) -> None:
    report = engine(PATCH, modules__stub=["absent"])
    assert importlib.import_module("absent.work_ext").__spec__.origin.startswith("stub")
    assert importlib.import_module("two").work() == "virtual"
    assert told(report) == [("two.work_ext", "APPLIED", "from substitute")]


@pytest.mark.parametrize("target", ["*", "*.", "*.a.b", "*.1", "a.*", "*a", "**.a"])
def test_what_is_no_pattern(target: str) -> None:
    with pytest.raises(TargetError, match="not a dotted module name"):
        Provide(target, source="substitute")


def test_other_edits_take_none() -> None:
    for make in (
        lambda: Define("*.work_ext:work", 1),
        lambda: Call("*.work_ext", lambda context: None),
        lambda: Before("*.work_ext", lambda context: None),
        lambda: Redirect("*.work_ext", to="substitute"),
        lambda: Provide("work_ext", source="*.substitute"),
    ):
        with pytest.raises(TargetError):
            make()


def test_as_the_first_import_of_a_process(tmp_path: Path) -> None:
    """The finder is asked for it while it is not prepared yet."""
    files = {
        "substitute.py": FILES["substitute.py"],
        "ours.py": """
            from mx_autopatch.model import Patch, Provide
            PATCHES = (Patch("trial.work", (Provide("*.work_ext", source="substitute"),)),)
        """,
        "script.py": """
            import sys, types
            package = sys.modules["package"] = types.ModuleType("package")
            package.__path__ = []
            from package import work_ext
            print(work_ext.work())
            from mx_autopatch import report
            print([o.target for o in report().of("trial.work")])
        """,
    }
    write_files(tmp_path, files)
    more = {
        "MX_AUTOPATCH_PLUGINS_MODULES": "ours",
        "MX_AUTOPATCH_PATCHES_ONLY": "trial.*",
    }
    env = environment([tmp_path], active=True, **more)
    done = python("script.py", cwd=tmp_path, env=env)
    assert done.stdout == "virtual\n['package.work_ext']\n"

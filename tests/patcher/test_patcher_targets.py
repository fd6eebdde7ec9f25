"""Where the module of a dotted path ends, found out without importing anything."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mx_autopatch.errors import TargetError
from mx_autopatch.patcher._targets import missing_module, resolve, split


@pytest.fixture(autouse=True)
def _project(write: Any) -> None:
    write(
        {
            # Namespace packages down to the one that has an __init__.
            "project_x/plugin/models/__init__.py": "from .ops import ops\nclass Head: size = 1",
            "project_x/plugin/models/ops.py": "def ops(): pass\nTABLE = {'key': 2}",
            "single_x.py": "class Lower: pass\nvalue = 1",
        }
    )


@pytest.mark.parametrize(
    ("path", "module", "qualname"),
    [
        ("project_x.plugin.models.Head.forward", "project_x.plugin.models", "Head.forward"),
        ("project_x.plugin.models.ops.ops", "project_x.plugin.models.ops", "ops"),
        ("project_x.plugin.models.ops", "project_x.plugin.models", "ops"),
        ("project_x.plugin.value", "project_x.plugin", "value"),
        ("single_x.Lower.method", "single_x", "Lower.method"),
        ("single_x.REGISTRY._module_dict.Name", "single_x", "REGISTRY._module_dict[Name]"),
        ("os.path.join", "os.path", "join"),
        ("json.decoder.JSONDecoder.decode", "json.decoder", "JSONDecoder.decode"),
    ],
)
def test_split(path: str, module: str, qualname: str) -> None:
    before = set(sys.modules)
    target = split(path)
    assert (target.module, target.qualname, target.missing) == (module, qualname, "")
    assert not {name for name in set(sys.modules) - before if name.startswith("project_x")}


@pytest.mark.parametrize(
    ("path", "module", "qualname"),
    [
        ("absent_x.models.Head.forward", "absent_x.models", "Head.forward"),
        ("absent_x.models.function", "absent_x.models", "function"),
        ("absent_x.Head", "absent_x", "Head"),
    ],
)
def test_a_package_that_is_not_there_is_guessed_by_its_capitals(
    path: str, module: str, qualname: str
) -> None:
    target = split(path)
    assert (target.module, target.qualname) == (module, qualname)
    assert target.missing == "No module named 'absent_x'"


@pytest.mark.parametrize("path", ["", "one", "a..b", "a.b()", ".a.b", 3, None, "a.b:c"])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(TargetError, match=r"expected 'package\.module\.name'"):
        split(path)


def test_modules_that_are_missing_are_named() -> None:
    assert missing_module("project_x.plugin.models.ops") == ""
    assert missing_module("project_x.plugin.none.x") == "No module named 'project_x.plugin.none'"
    assert missing_module("single_x.below") == "No module named 'single_x.below'"
    assert missing_module("sys") == missing_module("os.path") == ""


def test_archives_are_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("zipped_x/__init__.py", "")
        archive.writestr("zipped_x/deep.py", "")
    monkeypatch.syspath_prepend(str(tmp_path / "x.zip"))
    assert split("zipped_x.deep.function").module == "zipped_x.deep"


def test_resolve_imports_what_it_needs_and_tells_what_is_missing() -> None:
    assert resolve("project_x.plugin.models.Head.size") == 1
    assert resolve("project_x.plugin.models.ops.TABLE.key") == 2
    with pytest.raises(LookupError, match=r"project_x.plugin.models has no 'Tail' there"):
        resolve("project_x.plugin.models.Tail.size")
    with pytest.raises(LookupError, match=r"absent_x\.models cannot be imported: No module"):
        resolve("absent_x.models.Head")


def test_a_patch_below_namespace_packages_and_for_one(said: Any) -> None:
    from mx_autopatch.patcher import AtomicPatch, LegacyPatch, Patcher

    def mark(module: Any, options: Any) -> None:
        module.plugin.models.Head.size = 5

    with Patcher().add(
        AtomicPatch("project_x.plugin.models.ops.ops", int),
        LegacyPatch(mark, target_module="project_x"),
    ):
        from project_x.plugin.models.ops import ops  # type: ignore[import-not-found]

        assert ops is int
        assert resolve("project_x.plugin.models.Head.size") == 5
    assert resolve("project_x.plugin.models.Head.size") == 1
    assert not said.about("Failed")

"""Patches from entry points, modules and files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.engine import plugins
from mx_autopatch.errors import ConfigError

PLUGIN = """
from mx_autopatch.model import Define, Patch
PATCHES = (Patch("{name}", (Define("lib:{attribute}", 1),)),)
"""


@pytest.fixture
def lib(write: Any, monkeypatch: Any, tmp_path: Path) -> Any:
    write({"lib.py": "X = 1\n"})
    monkeypatch.chdir(tmp_path)
    return lambda: __import__("lib")


def distribution(write: Any, name: str, entry_point: str) -> None:
    info = f"{name}-1.0.dist-info"
    write(
        {
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            f"{info}/entry_points.txt": f"[mx_autopatch.patches]\n{name} = {entry_point}\n",
        }
    )


def test_entry_points_modules_and_files(lib: Any, write: Any, tmp_path: Path) -> None:
    write({"by_point.py": PLUGIN.format(name="p.point", attribute="A")})
    write({"by_name.py": PLUGIN.format(name="p.name", attribute="B")})
    (tmp_path / "my patches.py").write_text(PLUGIN.format(name="p.file", attribute="C"))
    distribution(write, "by_point", "by_point")
    bootstrap.activate(
        overrides={"plugins.modules": ["by_name"], "plugins.files": ["my patches.py"]}, script=""
    )
    assert [getattr(lib(), name) for name in "ABC"] == [1, 1, 1]
    names = set(bootstrap.report().by_patch())
    assert {"p.point", "p.name", "p.file"} <= names


def test_an_entry_point_may_name_the_patches(lib: Any, write: Any) -> None:
    write({"by_point2.py": PLUGIN.format(name="p.direct", attribute="A")})
    distribution(write, "by_point2", "by_point2:PATCHES")
    bootstrap.activate(script="")
    assert lib().A == 1


def test_without_an_entry_point_the_library_is_not_imported(monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setitem(sys.modules, "importlib_metadata", None)  # importing it would raise
    assert plugins.entry_points() == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("x = 1", "TypeError: it offers no PATCHES (a tuple of mx_autopatch.Patch)"),
        ("PATCHES = (3,)", "patches: 3 has no name; pass name=..."),
        (
            PLUGIN.format(name="mmcv.ext", attribute="A"),
            "patches.mmcv: 'ext' is registered already at mx_autopatch.patches.mmcv.ext",
        ),
    ],
)
def test_a_bad_plugin_is_an_error_that_says_why(
    lib: Any, tmp_path: Path, source: str, message: str
) -> None:
    (tmp_path / "bad.py").write_text(source)
    with pytest.raises(ConfigError) as caught:
        bootstrap.activate(overrides={"plugins.files": ["bad.py"]}, script="")
    assert message in str(caught.value)
    assert bootstrap.active() is None


def test_a_missing_plugin_file_is_an_error(lib: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.py"):
        bootstrap.activate(overrides={"plugins.files": ["nowhere.py"]}, script="")


def test_a_plugin_file_is_a_module_that_can_be_imported_again(tmp_path: Path) -> None:
    path = tmp_path / "again.py"
    path.write_text("PATCHES = ()\nVALUE = 4\n")
    module = plugins.load_file(str(path))
    assert plugins.load_file(str(path)) is module
    del sys.modules[module.__name__]
    bootstrap.activate(script="")
    assert __import__(module.__name__).VALUE == 4
    del sys.modules[module.__name__]


def test_vouched_for_content_is_what_runs(tmp_path: Path) -> None:
    path = tmp_path / "changed.py"
    path.write_text("raise RuntimeError('changed since')\n")
    module: Any = plugins.load_file(str(path), b"PATCHES = ()\nVALUE = 5\n")
    assert module.VALUE == 5
    del sys.modules[module.__name__]

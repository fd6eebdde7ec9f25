"""setuptools.pkg_resources, where setuptools has none."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import importlib_metadata
import pytest

from mx_autopatch import bootstrap


@pytest.fixture
def pkg_resources(engine: Any, monkeypatch: Any) -> Any:
    monkeypatch.delitem(sys.modules, "pkg_resources", raising=False)
    if find_spec("pkg_resources") is not None:
        pytest.skip("the installed setuptools has its own")
    engine(patches__only=["setuptools.pkg_resources"])
    return importlib.import_module("pkg_resources")


def test_distributions(pkg_resources: Any) -> None:
    click = pkg_resources.get_distribution("click>=8")
    assert click.version == importlib_metadata.version("click")
    assert (click.key, click.project_name) == ("click", "click")
    assert (Path(click.location) / "click" / "__init__.py").exists()
    assert click.parsed_version >= pkg_resources.parse_version("8.0rc1")
    assert "click" in pkg_resources.working_set.by_key
    assert {"click", "rich"} <= {dist.key for dist in pkg_resources.working_set}
    assert "Name: click" in click.get_metadata("METADATA")
    assert not click.has_metadata("nothing.txt")
    with pytest.raises(FileNotFoundError, match=r"nothing\.txt"):
        click.get_metadata("nothing.txt")


def test_requirements(pkg_resources: Any) -> None:
    with pytest.raises(pkg_resources.DistributionNotFound, match="'no-such-thing' is not"):
        pkg_resources.get_distribution("no-such-thing")
    with pytest.raises(pkg_resources.VersionConflict, match=r"click .* installed, click<1"):
        pkg_resources.require("click<1")
    with pytest.raises(pkg_resources.RequirementParseError):
        pkg_resources.get_distribution("click=>")
    keys = [dist.key for dist in pkg_resources.require("rich", "click")]
    assert keys[:2] == ["rich", "click"]
    assert {"pygments", "markdown-it-py"} <= set(keys)
    parsed = list(pkg_resources.parse_requirements("# all\nclick>=8\n\nrich  # nice\n"))
    assert [requirement.name for requirement in parsed] == ["click", "rich"]


def test_resources(pkg_resources: Any) -> None:
    assert pkg_resources.resource_exists("click", "__init__.py")
    path = pkg_resources.resource_filename("click", "core.py")
    assert pkg_resources.resource_string("click", "core.py") == Path(path).read_bytes()
    assert "core.py" in pkg_resources.resource_listdir("click", "")


def test_reload_and_absent_names(pkg_resources: Any) -> None:
    assert importlib.reload(pkg_resources) is pkg_resources
    assert pkg_resources.safe_name("a_b  c") == "a-b-c"
    with pytest.raises(AttributeError, match=r"'ResourceManager'; install setuptools<81"):
        _ = pkg_resources.ResourceManager


def test_mmengine_finds_packages(pkg_resources: Any) -> None:
    pytest.importorskip("mmengine")
    from mmengine.utils import get_installed_path, is_installed

    assert is_installed("mmengine")
    assert not is_installed("no_such_thing")
    assert get_installed_path("mmengine") == str(Path(find_spec("mmengine").origin).parent)  # type: ignore[union-attr,arg-type]
    bootstrap.deactivate()
    with pytest.raises(ModuleNotFoundError, match="pkg_resources"):
        is_installed("mmengine")

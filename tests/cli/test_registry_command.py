"""``registry``: tree, find, aliases, on installed packages and on a project."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from said import Cli, words

pytestmark = pytest.mark.skipif(not find_spec("mmengine"), reason="needs mmengine")
needs_mmseg = pytest.mark.skipif(not find_spec("mmseg"), reason="needs mmseg")

PLUGIN = """\
from mmengine.registry import MODELS as PARTS, Registry

MODELS = Registry("model", parent=PARTS, locations=["plugin"])
HEADS = MODELS


def build_head(cfg):
    return HEADS.build(cfg)


@HEADS.register_module()
class PlugHead:
    pass
"""


@pytest.fixture
def plugin(cli: Cli) -> Path:
    folder = Path.cwd() / "plugin"
    folder.mkdir()
    (folder / "__init__.py").write_text(PLUGIN)
    return folder


@needs_mmseg
def test_find_names_registry_trail_and_import(cli: Cli) -> None:
    said = cli("registry", "find", "OHEMPixelSampler", "mmseg")
    assert said.code == 0
    text = words(said.out)
    assert "registry task util of mmseg, mmseg.registry.registry:TASK_UTILS" in text
    assert "mmseg.structures.sampler.builder:PIXEL_SAMPLERS -> " in text
    module = "mmseg.structures.sampler.ohem_pixel_sampler"
    assert f"custom_imports = dict(imports=['{module}'], allow_failed_imports=False)" in text


def test_find_looks_into_this_folder(cli: Cli, plugin: Path) -> None:
    said = cli("registry", "find", "PlugHead", "--json")
    assert said.code == 0
    (entry,) = json.loads(said.out)["entries"]
    assert entry["place"] == "plugin:MODELS"
    assert entry["root"] == "mmengine.registry.root:MODELS"
    assert (entry["file"], entry["line"]) == (str(plugin / "__init__.py"), 12)
    assert entry["trail"] == ["plugin:HEADS", "plugin:MODELS"]


def test_a_name_that_nobody_registers(cli: Cli, plugin: Path) -> None:
    said = cli("registry", "find", "plugin.PlugHed")
    assert said.code == 1
    assert said.out == "nobody registers 'plugin.PlugHed'; near names: PlugHead (plugin::model)\n"
    said = cli("registry", "find", "Qwertyuiop")
    assert (said.code, said.out) == (1, "nobody registers 'Qwertyuiop'\n")


def test_tree_hangs_scopes_below_their_roots(cli: Cli, plugin: Path) -> None:
    said = cli("registry", "tree", "plugin")
    assert said.code == 0
    assert said.out.splitlines() == [
        "model  mmengine.registry.root:MODELS  0",
        "└── plugin  plugin:MODELS  1",
    ]
    rows = json.loads(cli("registry", "tree", "plugin", "--json").out)
    assert [(row["place"], row["entries"]) for row in rows] == [
        ("mmengine.registry.root:MODELS", 0),
        ("plugin:MODELS", 1),
    ]
    assert rows[1]["locations"] == ["plugin"]


def test_aliases_are_names_and_functions(cli: Cli, plugin: Path) -> None:
    said = cli("registry", "aliases", "plugin")
    assert [line.split() for line in said.out.splitlines()] == [
        ["name", "registry", "is"],
        ["plugin:PARTS", "mmengine::model", "mmengine.registry.root:MODELS"],
        ["plugin:HEADS", "plugin::model", "plugin:MODELS"],
        ["plugin:build_head()", "plugin::model", "plugin:MODELS"],
    ]


def test_a_package_that_is_not_there(cli: Cli) -> None:
    said = cli("registry", "tree", "no_such_package")
    assert said.code == 2
    assert "'no_such_package': no package of that name" in said.err

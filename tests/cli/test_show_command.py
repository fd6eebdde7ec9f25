"""``show``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Callable

import pytest
from said import Cli

from mx_autopatch.patches.index import INDEX

Write = Callable[..., Path]

PLUGIN = '''
"""Why and how of all of these."""
from mx_autopatch import Define, Patch, Replace, Wrap

def area(a, b):
    return a * b

def around(wrapped, instance, args, kwargs):
    return wrapped(*args, **kwargs)

def small(a, b):
    return a < b

def make(context):
    return area

class Better:
    def run(self): return "fast"

def only_there():
    return True

PATCHES = (
    Patch(
        "mine.shapes",
        (
            Replace("shapes.flat:area", area, guard=small),
            Replace("shapes.flat:Engine", Better),
            Replace("shapes.flat:SIZE", 5),
            Replace("shapes.flat:other", factory=make),
            Wrap("shapes.flat:outer", around),
            Wrap("shapes.flat:REG._module_dict[Box]", around),
            Replace("nowhere.at_all:f", area),
            Define("shapes.flat:more", 1),
        ),
        requires=("python>=3", "module:nowhere", only_there),
        options={"speed": 3, "label": "x"},
        doc="Shapes.\\n\\nHow: [bold]by hand[/bold] :nms:.",
    ),
)
'''


@pytest.fixture
def project(cli: Cli, write: Write) -> None:
    write(
        {
            "shapes/__init__.py": "raise RuntimeError('must not be imported')\n",
            "shapes/flat.py": """
                SIZE = 3

                def area(a, b):
                    return b * a

                class Engine:
                    def run(self): return "slow"

                def other(): return 0

                def outer(): return 0
                """,
        }
    )
    Path("plugin.py").write_text(PLUGIN)
    Path("autopatch.toml").write_text(
        '[plugins]\nfiles = ["plugin.py"]\n[patches.options."mine.shapes"]\nspeed = 9\nspd = 1\n'
    )


@pytest.mark.usefixtures("project")
def test_all_of_it(cli: Cli) -> None:
    said = cli("--config", "autopatch.toml", "show", "mine.shapes")
    assert (said.code, said.err) == (0, "")
    out = said.out
    assert "mine.shapes is on by default" in out
    assert "How: [bold]by hand[/bold] :nms:." in out
    assert "requires python>=3: holds here" in out
    assert "requires the module nowhere, which is not importable" in out
    assert "requires only_there(): decided when the patch would fire" in out
    assert "option speed: 3 by default, here 9 (" in out
    assert "option label: 'x' by default\n" in out
    assert "option spd: unknown (" in out
    assert "shapes" not in sys.modules


@pytest.mark.usefixtures("project")
def test_the_diffs(cli: Cli) -> None:
    out = cli("--config", "autopatch.toml", "show", "mine.shapes").out
    after = out.partition("option spd")[2].strip().split("\n\n")[1:]
    parts = {part.splitlines()[0]: part for part in after}
    area = parts["replace shapes.flat:area"]
    assert "where small() says so; elsewhere the original runs" in area
    assert "-    return b * a\n+    return a * b" in area
    assert " def area(a, b):\n" in area
    assert "flat.py:4" in area
    assert "plugin.py:5" in area
    assert '-    def run(self): return "slow"' in parts["replace shapes.flat:Engine"]
    size = parts["replace shapes.flat:SIZE"]
    assert "becomes the value 5" in size
    assert "-SIZE = 3" in size
    assert "made at run time by the function below" in parts["replace shapes.flat:other"]
    outer = parts["wrap shapes.flat:outer"]
    assert "the original stays" in outer
    assert "+def around(wrapped" in outer
    assert "\n-" not in outer.replace("\n---", "")
    assert "the entry [Box] is made at run time" in parts["wrap shapes.flat:REG._module_dict[Box]"]
    missing = parts["replace nowhere.at_all:f"]
    assert "no original to compare with: nowhere.at_all is not installed here" in missing
    assert "+    return a * b" in missing


@pytest.mark.parametrize("name", INDEX)
def test_every_built_in_patch(cli: Cli, name: str) -> None:
    before = set(sys.modules)
    said = cli("show", name)
    assert (said.code, said.err) == (0, "")
    assert "Why:" in said.out
    assert "How:" in said.out
    assert not {"torch", "numpy", "mmcv", "mmengine"} & (set(sys.modules) - before)


def test_an_unknown_name(cli: Cli) -> None:
    said = cli("show", "numpy.alias")
    assert said.code == 2
    assert said.err == "mx-autopatch: unknown patch 'numpy.alias'; did you mean 'numpy.aliases'?\n"
    assert "`mx-autopatch list` has them all" in cli("show", "qqq").err


def test_colours_on_a_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[32m+def _without_verify" in cli("show", "yapf.format_code").out


def test_what_stands_for_modules_of_any_package(cli: Cli) -> None:
    out = cli("show", "projects.bev_pool").out
    assert "*.bev_pool_ext" in out
    assert "of any package" in out


REWRITING = '''
"""Why and how."""
from mx_autopatch import Patch, Replace, Rewrite, Subclasses, Wrap

def area(a, b):
    return a * b

def is_shape(cls):
    return True

PATCHES = (
    Patch(
        "mine.code",
        (
            Rewrite("shapes.flat:area", "$a * $b", "$a + $b"),
            Rewrite("shapes.flat:area", "$a + $b", "($a + $b) * 2"),
            Rewrite("shapes.flat:other", "return $x", "return -$x", count=2),
            Rewrite("nowhere:f", "a", "b"),
            Subclasses("shapes.flat:Engine", is_shape, (
                Rewrite("*:run", "x = $y; return x", "return $y"),
                Replace("*:area", area),
                Wrap("*:outer", decorator=area),
            )),
        ),
    ),
)
'''


@pytest.mark.usefixtures("project")
def test_what_is_rewritten(cli: Cli) -> None:
    Path("plugin.py").write_text(REWRITING)
    Path("autopatch.toml").write_text('[plugins]\nfiles = ["plugin.py"]\n')
    said = cli("--config", "autopatch.toml", "show", "mine.code")
    assert (said.code, said.err) == (0, "")
    first, second, other, nowhere, classes = (
        part.strip().partition("\n") for part in said.out.strip().split("\n\n")[-5:]
    )
    assert first[0] == second[0] == "rewrite shapes.flat:area"
    assert "-    return b * a\n+    return b + a" in first[2]
    assert "-    return b + a\n+    return (b + a) * 2" in second[2]
    assert other[2] == (
        "not here: shapes.flat:other: should be there 2 times: found in line 1: 'return $x'\n"
        "-return $x\n+return -$x"
    )
    assert nowhere[2] == "not here: nowhere is not installed here\n-a\n+b"
    assert classes[0] == "subclasses shapes.flat:Engine"
    assert classes[2].startswith(
        "in each class that is_shape() accepts:\n"
        "rewrite *:run\n-x = $y; return x\n+return $y\n"
        "replace *:area\n--- /dev/null\n"
    )
    assert classes[2].count("+    return a * b") == 2
    assert "shapes" not in sys.modules

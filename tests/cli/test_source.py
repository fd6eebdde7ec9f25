"""Finding modules and definitions without importing anything."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Callable

import pytest

from mx_autopatch.cli.source import definition, find_spec, is_importable, written

Write = Callable[..., Path]

FILES = {
    "lib/__init__.py": """
        raise RuntimeError("must not be imported")
        """,
    "lib/ops/__init__.py": """
        from .nms import nms, soft_nms as soft
        from lib.ops import deep
        from .stars import *
        from .loop import turn
        if True:
            from .nms import Late
        else:
            Late = None
        """,
    "lib/ops/nms.py": """
        LIMIT = 3
        WIDE: int = 4

        def decorator(f): return f

        @decorator
        def nms(boxes):
            return boxes

        def soft_nms(): return 1

        class Late:
            size = 1

            class Inner:
                def method(self):
                    return 2

            @property
            def name(self):
                return "x"

        try:
            from fast import quick
        except ImportError:
            def quick(): return 'slow'
        """,
    "lib/ops/deep.py": "def inside():\n    return 1\n",
    "lib/ops/stars.py": "def starred():\n    return 1\n",
    "lib/ops/loop.py": "from .loop import turn\n",
    "lib/ops/wrong.py": "def (\n",
    "space/inner/mod.py": "x = 1\n",
}


@pytest.fixture(autouse=True)
def _written(write: Write) -> None:
    write(FILES)


@pytest.mark.parametrize(
    ("target", "file", "text"),
    [
        ("lib.ops.nms:nms", "nms.py", "@decorator\ndef nms(boxes):\n    return boxes\n"),
        ("lib.ops:nms", "nms.py", "@decorator\ndef nms(boxes):\n    return boxes\n"),
        ("lib.ops:soft", "nms.py", "def soft_nms(): return 1\n"),
        ("lib.ops:starred", "stars.py", "def starred():\n    return 1\n"),
        ("lib.ops:deep.inside", "deep.py", "def inside():\n    return 1\n"),
        ("lib.ops.nms:LIMIT", "nms.py", "LIMIT = 3\n"),
        ("lib.ops.nms:WIDE", "nms.py", "WIDE: int = 4\n"),
        ("lib.ops.nms:Late.size", "nms.py", "size = 1\n"),
        ("lib.ops.nms:Late.Inner.method", "nms.py", "def method(self):\n    return 2\n"),
        ("lib.ops.nms:Late.name", "nms.py", '@property\ndef name(self):\n    return "x"\n'),
        ("lib.ops.nms:quick", "nms.py", "def quick(): return 'slow'\n"),
    ],
)
def test_definition(target: str, file: str, text: str) -> None:
    found = definition(target)
    assert Path(found.path).name == file
    assert found.text == text
    first = Path(found.path).read_text().splitlines()[found.line - 1].strip()
    assert first == text.splitlines()[0]
    assert "lib" not in sys.modules


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("lib.ops.nms:nothing", "the source of lib.ops.nms has no 'nothing'"),
        ("lib.ops:nothing", "the source of lib.ops has no 'nothing'"),
        ("lib.ops.nms:Late.nothing", "lib.ops.nms:Late has no 'nothing' (inherited"),
        ("lib.ops.nms:LIMIT.real", "lib.ops.nms:LIMIT has no 'real'"),
        ("lib.ops:REG._module_dict[X]", "the entry [X] is made at run time"),
        ("lib.ops.wrong:f", "cannot be parsed"),
        ("lib.ops.loop:turn", "leads on and on"),
        ("lib.nowhere:f", "lib.nowhere is not installed here"),
        ("nowhere.at.all:f", "nowhere.at.all is not installed here"),
        ("math:sin", "math has no Python source"),
        ("space:f", "space has no Python source (a namespace package)"),
    ],
)
def test_why_there_is_none(target: str, why: str) -> None:
    with pytest.raises(LookupError) as raised:
        definition(target)
    assert why in str(raised.value.args[0])
    assert "lib" not in sys.modules


def test_find_spec_agrees_with_importlib() -> None:
    from importlib.util import find_spec as real

    for name in ("json.decoder", "sys", "json", "zipfile", "email.mime.text"):
        mine, theirs = find_spec(name), real(name)
        assert mine is not None
        assert theirs is not None
        assert (mine.name, mine.origin) == (theirs.name, theirs.origin)
        assert type(mine.loader) is type(theirs.loader)


def test_namespaces() -> None:
    spec = find_spec("space.inner.mod")
    assert spec is not None
    assert str(spec.origin).endswith("mod.py")
    assert is_importable("space.inner")
    assert not is_importable("space.other")
    assert not is_importable("json.nowhere")


def test_a_module_below_a_plain_one_is_not_there() -> None:
    assert not is_importable("lib.ops.nms.more")


def test_a_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("zipped/__init__.py", "def f():\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "a.zip"))
    assert definition("zipped:f").text == "def f():\n    return 1\n"


def test_written() -> None:
    class Thing:
        @staticmethod
        def f() -> int:
            return 1

        @property
        def p(self) -> int:
            return 2

    assert "return 1" in written(vars(Thing)["f"]).text
    assert "return 2" in written(vars(Thing)["p"]).text
    assert written(Thing).text.startswith("class Thing:\n    @staticmethod")
    with pytest.raises(LookupError, match="the value 3"):
        written(3)

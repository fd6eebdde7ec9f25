"""One patch taken back while the engine runs, and applied again."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

import mx_autopatch
from mx_autopatch import bootstrap
from mx_autopatch.model import Patch, Provide, Redirect, Replace, Wrap


@pytest.fixture
def lib(write: Any) -> Any:
    """The import of a module to patch, and of one that copies from it."""
    write(
        {
            "revertible.py": "def f(x):\n    return x\n\ndef g(x):\n    return x\n",
            "later.py": "def h(x):\n    return x\n",
            "copying.py": "from revertible import f\n",
        }
    )
    return importlib.import_module


def patch(*edits: Any, name: str, **more: Any) -> Patch:
    return Patch(name=name, edits=edits, **more)


def ten(x: int) -> int:
    return 10 * x


def states(report: Any, name: str) -> list[tuple[str, str]]:
    return [(one.target, str(one.status)) for one in report().of(name)]


def test_one_of_two_patches(lib: Any, engine: Any) -> None:
    one = patch(Replace("revertible:f", ten), Replace("later:h", ten), name="t.one")
    two = patch(Wrap("revertible:f", lambda w, i, a, k: ("two", w(*a, **k))), name="t.two")
    report = engine(one, two)
    module, copying = lib("revertible"), lib("copying")
    assert copying.f is module.f
    assert module.f(1) == ("two", 10)
    outcomes = mx_autopatch.revert("t.one")
    assert [(o.target, str(o.status)) for o in outcomes] == [
        ("revertible:f", "REVERTED"),
        ("later", "REVERTED"),
    ]
    assert module.f(1) == copying.f(1) == ("two", 1)
    assert lib("later").h(1) == 1  # no longer fires
    assert states(report, "t.two") == [("revertible:f", "APPLIED")]

    bootstrap.register(one)
    assert module.f(1) == copying.f(1) == ("two", 10)
    assert lib("later").h(1) == 10
    assert states(report, "t.one") == [("revertible:f", "LATE"), ("later:h", "LATE")]
    mx_autopatch.revert("t.two")
    assert module.f is copying.f is ten
    mx_autopatch.revert("t.one")
    assert module.f(1) == copying.f(1) == 1


def test_a_pending_patch_applied_again(lib: Any, engine: Any) -> None:
    one = patch(Replace("later:h", ten), name="t.one")
    report = engine(one)
    mx_autopatch.revert("t.one")
    assert states(report, "t.one") == [("later", "REVERTED")]
    bootstrap.register(one)
    assert states(report, "t.one") == [("later", "PENDING")]
    assert lib("later").h(2) == 20
    assert states(report, "t.one") == [("later:h", "APPLIED")]


def test_modules_that_a_patch_provides(lib: Any, engine: Any, write: Any) -> None:
    write({"real.py": "VALUE = 1\n"})
    one = patch(Provide("missing_one", "real"), Redirect("missing_two", "real"), name="t.one")
    two = patch(Provide("missing_three", "real"), name="t.two")
    report = engine(one, two)
    names = ("missing_one", "missing_two", "missing_three")
    assert [lib(name).VALUE for name in names] == [1, 1, 1]
    mx_autopatch.revert("t.one")
    assert states(report, "t.one") == [("missing_one", "REVERTED"), ("missing_two", "REVERTED")]
    assert states(report, "t.two") == [("missing_three", "APPLIED")]
    assert [name in sys.modules for name in names] == [False, False, True]
    for name in names[:2]:
        with pytest.raises(ModuleNotFoundError):
            lib(name)
    bootstrap.register(one)
    assert [lib(name).VALUE for name in names] == [1, 1, 1]


def test_an_unknown_name(engine: Any) -> None:
    assert mx_autopatch.revert("t.none") == []
    engine()
    with pytest.raises(LookupError, match=r"no patch 't.none' is known"):
        mx_autopatch.revert("t.none")

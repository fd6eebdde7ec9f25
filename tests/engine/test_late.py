"""Modules loaded before activation, and copies that others hold of what is patched."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from mx_autopatch import bootstrap
from mx_autopatch.model import Define, Patch, Replace, Wrap


def new(x: int) -> tuple[str, int]:
    return ("new", x)


PATCH = Patch("lib.f", (Replace("lib.core:f", new),))

FILES = {
    "lib/__init__.py": "from lib.core import f\n",
    "lib/core.py": "def f(x):\n    return x\nLIMIT = 3\nfrom lib import user\n",
    "lib/user.py": "from lib.core import f as mine\n",
    "holders.py": """
        from lib.core import f, f as renamed
        ELSEWHERE = 3
        def default(g=f):
            return g(1)
        def keyword(*, g=f):
            return g(1)
        def closure():
            h = f
            def inner():
                return h(1)
            return inner
        inner = closure()
        class Keeps:
            call = staticmethod(f)
            direct = f
    """,
}


def test_copies_are_rebound_and_the_rest_is_named(write: Any, engine: Any) -> None:
    write(FILES)
    import holders  # type: ignore[import-not-found]
    import lib.core  # type: ignore[import-not-found]

    original = lib.core.f
    report = engine(PATCH)
    assert holders.f is holders.renamed is lib.f is lib.user.mine is lib.core.f is new
    (outcome,) = report()
    assert str(outcome.status) == "LATE"
    assert set(outcome.rebound) == {"holders:f", "holders:renamed", "lib:f", "lib.user:mine"}
    assert set(outcome.unreachable) >= {
        "attribute holders.Keeps.direct",
        "closure of holders.closure.<locals>.inner",
        "default argument of holders.default",
        "default argument of holders.keyword",
    }
    assert holders.default() == 1
    bootstrap.deactivate()
    assert holders.f is holders.renamed is lib.f is lib.user.mine is lib.core.f is original


def test_copies_made_under_the_patch_go_back_too(write: Any, engine: Any) -> None:
    write(FILES)
    engine(PATCH)
    holders = importlib.import_module("holders")
    assert holders.f(1) == ("new", 1)
    bootstrap.deactivate()
    assert holders.f is sys.modules["lib.core"].f
    assert holders.f(1) == 1


def test_a_copy_taken_while_the_trigger_executed_is_rebound(write: Any, engine: Any) -> None:
    write({**FILES, "lib/__init__.py": ""})
    write({"lib/core.py": "def f(x):\n    return x\nfrom lib import user\n"})
    report = engine(PATCH)
    importlib.import_module("lib.core")
    assert sys.modules["lib.user"].mine is new
    (outcome,) = report()
    assert (str(outcome.status), outcome.rebound) == ("APPLIED", ("lib.user:mine",))


def test_values_that_everybody_shares_are_not_rebound(write: Any, engine: Any) -> None:
    write(FILES)
    importlib.import_module("holders")
    engine(Patch("lib.limit", (Replace("lib.core:LIMIT", 9),)))
    assert sys.modules["lib.core"].LIMIT == 9
    assert sys.modules["holders"].ELSEWHERE == 3


def test_the_file_that_wrote_the_replacement_may_keep_the_original(write: Any, engine: Any) -> None:
    write(FILES)
    write(
        {
            "plugin.py": """
                from lib.core import f as original
                def f(x):
                    return ("calls", original(x))
            """
        }
    )
    plugin = importlib.import_module("plugin")
    engine(Patch("lib.f", (Replace("lib.core:f", plugin.f),)))
    assert sys.modules["lib"].f(1) == ("calls", 1)
    bootstrap.deactivate()
    assert sys.modules["lib"].f(1) == 1
    assert plugin.f(1) == ("calls", 1)


def test_wrapped_copies(write: Any, engine: Any) -> None:
    write(FILES)
    holders = importlib.import_module("holders")
    engine(Patch("lib.f", (Wrap("lib.core:f", lambda w, i, a, k: ("wrapped", w(*a, **k))),)))
    assert holders.f(1) == ("wrapped", 1)
    assert holders.f is sys.modules["lib.core"].f


def test_a_wrapper_that_holds_the_original_is_no_copy(write: Any, engine: Any) -> None:
    write({"lib/__init__.py": "", "lib/core.py": "class A:\n    def f(self):\n        return 1\n"})
    importlib.import_module("lib.core")
    report = engine(Patch("lib.f", (Wrap("lib.core:A.f", lambda w, i, a, k: w(*a, **k)),)))
    (outcome,) = report()
    assert (str(outcome.status), outcome.unreachable) == ("LATE", ())


def test_borrowed_objects_are_nobodys_copies(write: Any, engine: Any) -> None:
    """A library's second name for somebody else's function, or a shared replacement."""
    write({"lib.py": "from json import dumps\nKIND = str\ndef own(x): return x\n"})
    write({"user.py": "from json import dumps\nfrom lib import own\nKIND = str\nloads = None\n"})
    import json

    user = importlib.import_module("user")
    edits = (
        Replace("lib:dumps", new),
        Replace("lib:KIND", int),
        Replace("lib:own", json.loads),
        Define("lib:LATER", str),
    )
    own, dumps, loads = user.own, json.dumps, json.loads
    names = (loads.__module__, loads.__qualname__)
    engine(Patch("lib.borrowed", edits))
    lib = sys.modules["lib"]
    assert (lib.dumps, lib.KIND, lib.own, lib.LATER) == (new, int, loads, str)
    assert (user.dumps, json.dumps, user.KIND) == (dumps, dumps, str)
    assert user.own is loads
    user.loads = json.loads
    assert (json.loads.__module__, json.loads.__qualname__) == names
    bootstrap.deactivate()
    assert (lib.dumps, lib.KIND, lib.own) == (dumps, str, own)
    assert user.own is own
    assert user.loads is json.loads is loads
    assert str is "".__class__

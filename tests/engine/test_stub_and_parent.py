"""Stubs that a patch makes, and packages that are there for one module alone."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.errors import PatchError, StubError, TargetError
from mx_autopatch.model import Parent, Patch, Provide, Redirect, Stub

SOURCE = "def work(x): return ('virtual', x)\n"


def load(name: str) -> Any:
    return importlib.import_module(name)


def test_a_stub_answers_and_is_taken_away(engine: Any) -> None:
    report = engine(Patch("trial.stub", (Stub("absent", "it is not needed"),)))
    module = load("absent.deep")
    with pytest.raises(StubError, match=r"absent.deep.work was called, but .* it is not needed"):
        module.work()
    (outcome,) = report()
    assert (str(outcome.status), outcome.reason) == ("APPLIED", "a stub answers")
    bootstrap.deactivate()
    with pytest.raises(ModuleNotFoundError):
        load("absent.deep")


def test_a_stub_gives_way_to_a_provided_module_and_fills_it_up(engine: Any, write: Any) -> None:
    write({"substitute.py": SOURCE})
    engine(
        Patch("trial.a_stub", (Stub("absent", "it is not needed"),)),
        Patch("trial.provide", tuple(Provide(n, "substitute") for n in ("absent", "absent.ext"))),
    )
    for name in ("absent", "absent.ext"):
        module = load(name)
        assert module.work(1) == ("virtual", 1)
        with pytest.raises(StubError, match=f"{name}.other was called"):
            module.other()
    assert load("absent.else_where").__doc__.startswith("A stub.")


def test_a_stub_stands_in_for_a_real_module_too(engine: Any, write: Any) -> None:
    write({"heavy/__init__.py": "raise RuntimeError('needs CUDA')"})
    engine(Patch("trial.stub", (Stub("heavy", "no CUDA here"),)))
    assert "stub" in repr(load("heavy").anything)


@pytest.fixture
def child(write: Any) -> Patch:
    write({"answer.py": "value = 1"})
    return Patch(
        "trial.child",
        (Parent("house", child="house.room"), Redirect("house.room", "answer", if_missing=True)),
    )


@pytest.mark.parametrize("how", ["import_module", "from", "find_spec"])
def test_a_parent_is_there_for_its_child_alone(child: Patch, engine: Any, how: str) -> None:
    report = engine(child)
    with pytest.raises(ModuleNotFoundError, match="No module named 'house'"):
        load("house")
    assert importlib.util.find_spec("house") is None
    with pytest.raises(ModuleNotFoundError):
        load("house.cellar")
    if how == "find_spec":
        assert importlib.util.find_spec("house.room") is not None
    elif how == "from":
        from house.room import value  # type: ignore[import-not-found]

        assert value == 1
    assert load("house.room") is load("answer")
    with pytest.raises(AttributeError, match="house is not installed; mx_autopatch answers for"):
        load("house").cellar  # noqa: B018
    assert [str(outcome.status) for outcome in report()] == ["APPLIED", "APPLIED"]
    bootstrap.deactivate()
    assert "house" not in sys.modules
    assert "house.room" not in sys.modules


def test_a_real_parent_is_used(child: Patch, engine: Any, write: Any) -> None:
    write({"house/__init__.py": "door = 1"})
    report = engine(child)
    assert load("house.room") is load("answer")
    assert load("house").door == 1
    assert [str(outcome.status) for outcome in report()] == ["UNMET", "APPLIED"]


def test_arguments() -> None:
    with pytest.raises(TargetError, match="Stub: module"):
        Stub("not a module")
    with pytest.raises(PatchError, match=r"Parent\('house'\): 'houses.room' is not in that packag"):
        Parent("house", child="houses.room")

"""Edits under a condition, and targets that a decorator wraps."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from mx_autopatch.errors import PatchError
from mx_autopatch.model import Call, Define, Patch, Provide, Register, Replace, When, Wrap

PKG = """
    def f(x): return ("f", x)
    class C:
        def m(self, x): return ("m", x)
        @classmethod
        def c(cls, x): return ("c", x)
        @property
        def p(self): return "p"
"""


@pytest.fixture(autouse=True)
def _pkg(write: Any) -> None:
    write({"pkg.py": PKG})


def load() -> Any:
    return importlib.import_module("pkg")


# -- When ----------------------------------------------------------------------------


def test_an_edit_is_carried_out_if_its_condition_holds(engine: Any) -> None:
    asked = []

    def condition(context: Any) -> bool:
        asked.append((context.module.__name__, dict(context.options)))
        return True

    edit = When(edit=Replace("pkg:f", lambda x: "new"), condition=condition)
    report = engine(Patch("trial.when", (edit,), options={"key": 1}))
    assert (edit.target, edit.kind, edit.trigger) == ("pkg:f", "replace", "pkg")
    assert load().f(1) == "new"
    assert asked == [("pkg", {"key": 1})]
    (outcome,) = report()
    assert (str(outcome.status), outcome.kind, outcome.target) == ("APPLIED", "replace", "pkg:f")


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [(False, "its condition does not hold"), (None, "its condition does not hold"), ("no", "no")],
)
def test_else_it_is_unmet_and_holds_up_no_other(engine: Any, verdict: Any, reason: str) -> None:
    report = engine(
        Patch(
            "trial.when",
            (
                When(edit=Replace("pkg:absent", 1), condition=lambda context: verdict),
                When(edit=Wrap("pkg:f", lambda w, i, a, k: [w(*a)]), condition=lambda c: 1),
            ),
        )
    )
    assert load().f(1) == [("f", 1)]
    assert [(str(o.status), o.reason) for o in report()] == [("UNMET", reason), ("APPLIED", "")]


def test_a_condition_that_raises_fails_the_patch(engine: Any) -> None:
    def broken(context: Any) -> bool:
        raise RuntimeError("typo")

    report = engine(
        Patch(
            "trial.when",
            (Replace("pkg:f", 1), When(edit=Define("pkg:g", 1), condition=broken)),
        )
    )
    assert load().f(1) == ("f", 1)
    first, second = report()
    assert (str(first.status), str(second.status)) == ("FAILED", "FAILED")
    assert "RuntimeError: typo" in second.reason


def test_a_conditional_edit_is_reverted_and_applied_again_by_a_reload(engine: Any) -> None:
    from mx_autopatch import bootstrap

    engine(
        Patch("trial.when", (When(edit=Replace("pkg:f", load), condition=lambda context: True),))
    )
    module = load()
    assert importlib.reload(module).f is load
    bootstrap.deactivate()
    assert module.f(1) == ("f", 1)


@pytest.mark.parametrize("edit", [None, "pkg:f", Provide("pkg.ext", source="x")])
def test_only_edits_of_what_has_executed_have_conditions(edit: Any) -> None:
    with pytest.raises(PatchError, match="is no edit of a module that has executed"):
        When(edit=edit, condition=bool)


def test_a_condition_is_a_function() -> None:
    for edit in (Call("pkg", print), Register("pkg:R", obj=int)):
        with pytest.raises(PatchError, match="give exactly one of condition"):
            When(edit=edit)
        with pytest.raises(PatchError, match="condition must be callable"):
            When(edit=edit, condition=1)


# -- Wrap with a decorator -----------------------------------------------------------


def tell(word: str) -> Any:
    def decorate(function: Any) -> Any:
        def decorated(*args: Any) -> Any:
            return (word, function(*args))

        return decorated

    return decorate


def test_a_decorator_gets_the_function_out_of_its_descriptor(engine: Any) -> None:
    from mx_autopatch import bootstrap

    edits = tuple(Wrap(f"pkg:{name}", decorator=tell("d")) for name in ("f", "C.m", "C.c", "C.p"))
    engine(Patch("trial.decorate", edits))
    module = load()
    thing = module.C()
    assert module.f(1) == ("d", ("f", 1))
    assert thing.m(2) == ("d", ("m", 2))
    assert thing.c(3) == module.C.c(3) == ("d", ("c", 3))
    assert thing.p == ("d", "p")
    bootstrap.deactivate()
    assert (module.f(1), thing.m(2), thing.c(3), thing.p) == (("f", 1), ("m", 2), ("c", 3), "p")


def test_decorators_lie_above_replacements_whatever_comes_first(engine: Any) -> None:
    engine(
        Patch("trial.a", (Wrap("pkg:f", decorator=tell("above")),)),
        Patch("trial.b", (Replace("pkg:f", lambda x: "replaced"),)),
    )
    assert load().f(1) == ("above", "replaced")


def test_a_guard_sends_each_call_to_one_or_to_the_other(engine: Any, capsys: Any) -> None:
    def guard(x: int) -> bool:
        return 1 / x > 0.3

    engine(Patch("trial.guard", (Wrap("pkg:f", decorator=tell("d"), guard=guard),)))
    module = load()
    assert [module.f(x) for x in (1, 5, 0)] == [("d", ("f", 1)), ("f", 5), ("f", 0)]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_decorator_that_fails_leaves_the_target_alone(engine: Any) -> None:
    def broken(function: Any) -> Any:
        raise RuntimeError("no")

    report = engine(
        Patch("trial.broken", (Replace("pkg:C.m", load), Wrap("pkg:f", decorator=broken)))
    )
    module = load()
    assert (module.f(1), module.C().m(2)) == (("f", 1), ("m", 2))
    assert [str(outcome.status) for outcome in report()] == ["FAILED", "FAILED"]


def test_arguments_of_wrap() -> None:
    with pytest.raises(PatchError, match="give exactly one of wrapper, decorator"):
        Wrap("pkg:f", print, decorator=print)
    with pytest.raises(PatchError, match="decorator must be callable"):
        Wrap("pkg:f", decorator=1)  # type: ignore[arg-type]
    with pytest.raises(PatchError, match="a guard goes with a decorator"):
        Wrap("pkg:f", print, guard=bool)

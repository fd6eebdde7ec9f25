"""Subclasses: edits on every class derived from a base, wherever and whenever it is defined."""

from __future__ import annotations

import gc
import importlib
import weakref
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.model import Patch, Replace, Rewrite, Subclasses, Wrap

BASES = """
    LOG = []

    class Plain:
        def forward(self, x):
            return ("plain", x)

    class Mixin:
        def __init_subclass__(cls, **kwargs):
            LOG.append(("mixin", cls.__name__))
            super().__init_subclass__(**kwargs)

    class Telling:
        def __init_subclass__(cls, label="", **kwargs):
            LOG.append((label, cls.__name__))
            super().__init_subclass__(**kwargs)

        def forward(self, x):
            return ("telling", x)

    class Early(Plain):
        def forward(self, x):
            return ("early", x)
"""


@pytest.fixture
def bases(write: Any) -> Any:
    """The import of a module with base classes."""
    write({"bases.py": BASES})
    return lambda: importlib.import_module("bases")


def patch(*edits: Any, name: str = "lib.test", **more: Any) -> Patch:
    return Patch(name=name, edits=edits, **more)


def named(*names: str) -> Any:
    """A match by name."""
    return lambda cls: cls.__name__ in names and f"is called {cls.__name__}"


def replaced(self: Any, x: Any) -> Any:
    return ("replaced", x)


ADD = {"add": lambda x: ("added", x)}


def forward_of(match: Any, base: str = "bases:Plain", **more: Any) -> Subclasses:
    return Subclasses(base, match, (Replace("*:forward", replaced),), **more)


def outcome(report: Any, number: int = 0) -> tuple[str, str]:
    one = report().outcomes[number]
    return str(one.status), one.reason


def test_existing_and_later_classes(bases: Any, engine: Any) -> None:
    report = engine(patch(forward_of(named("Early", "Later", "Deep"))))
    module = bases()
    assert outcome(report) == ("APPLIED", "in bases:Early (is called Early)")
    assert module.Early().forward(1) == ("replaced", 1)

    class Other(module.Plain):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return ("other", x)

    class Deep(Other):
        pass

    assert (Other().forward(1), Deep().forward(1)) == (("other", 1), ("replaced", 1))
    status, reason = outcome(report)
    where = "test_existing_and_later_classes.<locals>.Deep"
    assert status == "APPLIED"
    assert reason == f"in bases:Early (is called Early), {__name__}:{where} (is called Deep)"
    bootstrap.deactivate()
    assert module.Early().forward(1) == ("early", 1)
    assert Deep().forward(1) == ("other", 1)
    assert "__init_subclass__" not in vars(module.Plain)
    for cls in (module.Plain, module.Early, Other, Deep):
        assert not [name for name in vars(cls) if "mx_autopatch" in name]
    assert "forward" not in vars(Deep)


def test_a_method_is_rewritten_twice(bases: Any, engine: Any) -> None:
    """The second one goes on with the source that the first one has made."""
    edits = (
        Rewrite("*:forward", find="$x += 1; return $x", replace="return add($x)", names=ADD),
        Rewrite("*:forward", find="$x = self.twice($x)", replace=""),
    )
    report = engine(patch(Subclasses("bases:Plain", named("Nested"), edits)))

    class Nested(bases().Plain):  # type: ignore[misc,name-defined]
        def twice(self, x: Any) -> Any:
            return 2 * x

        def forward(self, x: Any) -> Any:
            def inner(x: Any) -> Any:
                x += 1
                return x

            x = inner(x)
            x = self.twice(x)
            return x

    assert outcome(report)[0] == "APPLIED", outcome(report)
    assert Nested().forward(1) == ("added", 1)
    bootstrap.deactivate()
    assert Nested().forward(1) == 4


def test_a_class_that_nobody_holds_is_collected(bases: Any, engine: Any) -> None:
    def dash(self: Any, x: Any) -> Any:
        return ("dash", x)

    edits = (Replace("*:forward", replaced), Wrap("*:other", lambda w, i, a, k: w(*a, **k)))
    report = engine(patch(Subclasses("bases:Plain", named("Short"), edits)))
    module = bases()

    def define() -> Any:
        class Short(module.Plain):  # type: ignore[misc,name-defined]
            def forward(self, x: Any) -> Any:
                return super().forward(x)

            def other(self, x: Any) -> Any:
                return (__class__, super().forward(x))  # type: ignore[name-defined]

        assert Short().forward(1) == ("replaced", 1)
        assert Short().other(1) == (Short, ("plain", 1))
        return weakref.ref(Short)

    refs = [define() for _ in range(3)]
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3
    assert outcome(report)[1].count("Short (") == 1
    assert "Short" in outcome(report)[1]


def test_an_init_subclass_of_the_base_still_runs(bases: Any, engine: Any) -> None:
    module = bases()
    hook = vars(module.Telling)["__init_subclass__"]
    engine(patch(forward_of(named("A", "B"), "bases:Telling")))

    class A(module.Telling, module.Mixin, label="a"):  # type: ignore[misc,name-defined,call-arg]
        pass

    class B(A):
        pass

    assert module.LOG == [("a", "A"), ("mixin", "A"), ("", "B"), ("mixin", "B")]
    assert A().forward(1) == B().forward(1) == ("replaced", 1)
    assert "forward" not in vars(B)  # inherits it
    bootstrap.deactivate()
    assert vars(module.Telling)["__init_subclass__"] is hook
    assert A().forward(1) == ("telling", 1)


def test_a_derived_class_that_does_not_call_super(bases: Any, engine: Any) -> None:
    report = engine(patch(forward_of(named("Leaf"))))
    module = bases()

    class Silent(module.Plain):  # type: ignore[misc,name-defined]
        def __init_subclass__(cls, **kwargs: Any) -> None:
            module.LOG.append(("silent", cls.__name__, kwargs))

    class Leaf(Silent, flag=1):
        pass

    assert module.LOG == [("silent", "Leaf", {"flag": 1})]
    assert Leaf().forward(1) == ("replaced", 1)
    assert outcome(report)[1].endswith("Leaf (is called Leaf)")
    hook = vars(Silent)["__init_subclass__"]
    bootstrap.deactivate()
    assert vars(Silent)["__init_subclass__"] is not hook
    assert Leaf().forward(1) == ("plain", 1)


def test_a_class_that_escapes_is_named(bases: Any, engine: Any) -> None:
    report = engine(patch(forward_of(named("Leaf"))))
    module = bases()

    class Closed:
        def __init_subclass__(cls, **kwargs: Any) -> None:
            pass

    class Leaf(Closed, module.Plain):  # type: ignore[misc,name-defined]
        pass

    assert Leaf().forward(1) == ("plain", 1)
    status, reason = outcome(report)
    assert status == "FAILED"
    assert "Leaf (not seen: an __init_subclass__ among its bases does not call super())" in reason


def test_a_class_to_which_the_edits_do_not_apply(bases: Any, engine: Any) -> None:
    change = Subclasses(
        "bases:Plain",
        lambda cls: True,
        (Replace("*:forward", replaced), Rewrite("*:shape", "return $x", "return -$x")),
    )
    report = engine(patch(change))
    module = bases()

    class Without(module.Plain):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return ("own", x)

    class With(module.Plain):  # type: ignore[misc,name-defined]
        def shape(self) -> int:
            return 1

    assert Without().forward(1) == ("own", 1)
    assert (With().forward(1), With().shape()) == (("replaced", 1), -1)
    status, reason = outcome(report)
    assert status == "MISSING"
    assert reason.startswith("in ")
    assert "With; not in bases:Early (Early has no attribute 'shape'), " in reason
    assert "Without has no attribute 'shape')" in reason


def test_a_match_that_raises_is_told_once(bases: Any, engine: Any, capsys: Any) -> None:
    def match(cls: type) -> bool:
        raise RuntimeError("broken match")

    report = engine(patch(forward_of(match)))
    module = bases()
    for _ in range(2):
        type("Later", (module.Plain,), {})
    assert capsys.readouterr().err.count("broken match") == 2
    assert outcome(report) == ("APPLIED", "no class has matched")

"""Subclasses: edits on every class derived from a base, wherever and whenever it is defined."""

from __future__ import annotations

import abc
import gc
import importlib
import weakref
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.errors import PatchError, TargetError
from mx_autopatch.model import Call, Define, Patch, Replace, Rewrite, Subclasses, Wrap

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
            return x  # noqa: RET504

    assert outcome(report)[0] == "APPLIED", outcome(report)
    assert Nested().forward(1) == ("added", 1)
    bootstrap.deactivate()
    assert Nested().forward(1) == 4


def test_a_class_that_nobody_holds_is_collected(bases: Any, engine: Any) -> None:
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
    assert capsys.readouterr().err.count("broken match") == 1
    assert outcome(report) == ("APPLIED", "no class has matched")


def test_class_statements_of_every_kind(bases: Any, engine: Any) -> None:
    """Metaclasses, slots, keywords, classes made by a call: each is looked at once."""
    seen: list[str] = []
    report = engine(patch(forward_of(lambda cls: seen.append(cls.__name__) or "it is new")))
    module = bases()

    class Meta(abc.ABCMeta):
        def __init__(cls, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args)
            cls.ready = True  # after our layer has run

        def __eq__(cls, other: Any) -> bool:  # so that its classes have no hash
            return cls is other

    class Abstract(module.Plain, metaclass=Meta):  # type: ignore[misc,name-defined]
        __slots__ = ("x",)

        @abc.abstractmethod
        def must(self) -> None: ...

    class Concrete(Abstract):
        def must(self) -> None:
            pass

    called = type("Called", (Concrete, module.Mixin), {"forward": lambda self, x: ("own", x)})
    assert seen == ["Early", "Abstract", "Concrete", "Called"]
    assert Concrete().forward(1) == called().forward(1) == ("replaced", 1)
    assert Concrete.ready
    with pytest.raises(TypeError, match="abstract"):
        Abstract()
    assert outcome(report)[0] == "APPLIED"
    bootstrap.deactivate()
    assert called().forward(1) == ("own", 1)


def test_static_methods_and_properties_stay_what_they_are(bases: Any, engine: Any) -> None:
    edits = (
        Replace("*:make", lambda x: ("made", x)),
        Wrap("*:build", lambda wrapped, instance, args, kwargs: (instance, wrapped(*args))),
        Replace("*:size", lambda self: 9),
        Define("*:extra", 3),
        Define("*:make", 4),
        Replace("*:home", factory=lambda context: context.module.__name__),
    )
    report = engine(patch(Subclasses("bases:Plain", named("Kinds"), edits)))

    class Kinds(bases().Plain):  # type: ignore[misc,name-defined]
        home = ""

        @staticmethod
        def make(x: Any) -> Any:
            return x

        @classmethod
        def build(cls, x: Any) -> Any:
            return x

        @property
        def size(self) -> int:
            return 1

    assert Kinds.make(1) == Kinds().make(1) == ("made", 1)
    assert Kinds.build(2) == (Kinds, 2)
    assert (Kinds().size, Kinds.extra, Kinds.home) == (9, 3, "Kinds")
    assert outcome(report)[1].endswith("Kinds (is called Kinds; *:make is there already)")
    bootstrap.deactivate()
    assert (Kinds.make(1), Kinds.build(2), Kinds().size, Kinds.home) == (1, 2, 1, "")
    assert not hasattr(Kinds, "extra")


MODULE = """
    import bases

    class Named(bases.Plain):
        def forward(self, x):
            return ("own", x)
"""


def test_beside_an_edit_of_the_class_by_name(bases: Any, engine: Any, write: Any) -> None:
    write({"named_module.py": MODULE})
    wrap = Wrap("named_module:Named.forward", lambda w, i, a, k: ("wrapped", w(*a, **k)))
    new = Replace("named_module:Named.forward", lambda self, x: ("by name", x))
    report = engine(
        patch(forward_of(named("Named")), name="lib.by_class"),
        patch(wrap, name="lib.wrap"),
        patch(new, name="lib.new"),
    )
    module = importlib.import_module("named_module")
    assert module.Named().forward(1) == ("wrapped", ("replaced", 1))
    assert {o.patch: str(o.status) for o in report()} == {
        "lib.by_class": "APPLIED", "lib.wrap": "APPLIED", "lib.new": "CONFLICT",
    }  # fmt: skip
    bootstrap.revert("lib.by_class")
    assert module.Named().forward(1) == ("wrapped", ("own", 1))
    bootstrap.revert("lib.new")
    bootstrap.register(patch(new, name="lib.new"))
    bootstrap.register(patch(forward_of(named("Named")), name="lib.by_class"))
    assert module.Named().forward(1) == ("wrapped", ("by name", 1))
    status, reason = outcome(lambda: type(report())(report().of("lib.by_class"), []))
    assert status == "CONFLICT"
    assert reason == (
        "no class has matched; not in named_module:Named "
        "(Named.forward has been replaced by patch 'lib.new')"
    )


def test_two_patches_on_one_base(bases: Any, engine: Any) -> None:
    wrap = Subclasses(
        "bases:Plain", named("Leaf"), (Wrap("*:forward", lambda w, i, a, k: ("two", w(*a, **k))),)
    )
    engine(patch(forward_of(named("Leaf")), name="lib.one"), patch(wrap, name="lib.two"))
    module = bases()

    def define() -> Any:
        class Leaf(module.Mixin, module.Plain):  # type: ignore[misc,name-defined]
            pass

        return Leaf

    first = define()
    assert first().forward(1) == ("two", ("replaced", 1))
    bootstrap.revert("lib.one")
    second = define()
    assert first().forward(1) == second().forward(1) == ("two", ("plain", 1))
    assert module.LOG == [("mixin", "Leaf")] * 2
    bootstrap.revert("lib.two")
    assert define()().forward(1) == first().forward(1) == ("plain", 1)


def test_a_reload_defines_classes_anew(bases: Any, engine: Any, write: Any) -> None:
    write({"named_module.py": MODULE})
    report = engine(patch(forward_of(named("Named"))))
    module = importlib.import_module("named_module")
    old = module.Named
    module = importlib.reload(module)
    assert module.Named is not old
    assert module.Named().forward(1) == old().forward(1) == ("replaced", 1)
    assert outcome(report)[1] == "in named_module:Named (is called Named)"
    importlib.reload(bases())

    class Named(bases().Plain):  # type: ignore[misc,name-defined]
        pass

    assert Named().forward(1) == ("replaced", 1)
    bootstrap.deactivate()
    assert module.Named().forward(1) == old().forward(1) == ("own", 1)


def test_an_error_in_a_class_statement_is_the_users(bases: Any, engine: Any) -> None:
    engine(patch(forward_of(named("Leaf"))))

    class Refusing(bases().Plain):  # type: ignore[misc,name-defined]
        def __init_subclass__(cls) -> None:
            raise ValueError("no subclasses")

    with pytest.raises(ValueError, match="no subclasses"):
        type("Leaf", (Refusing,), {})
    with pytest.raises(TypeError, match="takes no keyword arguments"):
        type("Leaf", (bases().Plain,), {}, unknown=1)


@pytest.mark.parametrize("strict", [False, True])
def test_a_base_that_is_no_class(engine: Any, bases: Any, strict: bool) -> None:
    report = engine(patch(forward_of(named("Leaf"), "bases:LOG")), strict=strict)
    if strict:
        with pytest.raises(PatchError, match="bases:LOG is no class made by a class statement"):
            bases()
    else:
        bases()
        assert outcome(report) == ("FAILED", "bases:LOG is no class made by a class statement")


@pytest.mark.parametrize(
    ("match", "edits", "message"),
    [
        (None, (Replace("*:f", 1),), "give exactly one of match; given: none"),
        (7, (Replace("*:f", 1),), "match must be callable"),
        (bool, (), "edits must hold at least one edit"),
        (bool, (Replace("a:f", 1),), "target 'a:f': expected '*:member'"),
        (bool, (Replace("*:f.g", 1),), "target '*:f.g': expected '*:member'"),
        (bool, (Call("a", print),), "is no Replace, Wrap, Define or Rewrite"),
    ],
)
def test_what_is_no_subclasses_edit(match: Any, edits: Any, message: str) -> None:
    with pytest.raises((PatchError, TargetError)) as error:
        Subclasses("a:B", match, edits)
    assert message in str(error.value)


def test_a_relative_target_needs_a_class() -> None:
    with pytest.raises(PatchError, match="only in the edits of a Subclasses"):
        patch(Replace("*:forward", replaced))

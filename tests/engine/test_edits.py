"""Every edit on every kind of target: applied, in force, and taken back whole."""

from __future__ import annotations

import functools
import importlib
import inspect
import pickle
import sys
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.errors import PatchError
from mx_autopatch.model import (
    Call,
    Define,
    NotNeeded,
    Patch,
    Register,
    Replace,
    Status,
    Wrap,
)

LIBRARY = """
    import functools

    LIMIT = 3
    TABLE = {"a": 1, "b.c": 2, 7: 3}

    def add(x, y=1):
        "Adds."
        return x + y

    alias = add

    class Base:
        def inherited(self, x):
            return ("base", x)

    class Box(Base):
        size = 2

        def __init__(self, v):
            self.v = v

        def get(self, plus=0):
            return self.v + plus

        @staticmethod
        def make(v):
            return Box(v)

        @classmethod
        def build(cls, v):
            return cls(v)

        @property
        def double(self):
            "Twice."
            return 2 * self.v

        @double.setter
        def double(self, value):
            self.v = value / 2

        @functools.cached_property
        def slow(self):
            return ("slow", self.v)

        class Inner:
            def depth(self):
                return 1

    class Registry:
        def __init__(self):
            self._module_dict = {}

        def register_module(self, name=None, force=False, module=None):
            self._module_dict[name] = module

    REG = Registry()
    REG.register_module("Box", module=Box)
    BOX = Box(5)
    def generate():
        yield 1
"""


@pytest.fixture
def lib(write: Any) -> Any:
    """The import of a library that has every kind of target."""
    write({"lib/__init__.py": "", "lib/core.py": LIBRARY})
    return lambda: importlib.import_module("lib.core")


def statuses(report: Any) -> list[str]:
    return [str(outcome.status) for outcome in report()]


def patch(*edits: Any, name: str = "lib.test", **more: Any) -> Patch:
    return Patch(name=name, edits=edits, **more)


# -- replace -----------------------------------------------------------------------


def new_add(x: int, y: int = 1) -> int:
    return -(x + y)


CASES: list[Any] = [
    ("add", new_add, lambda m: m.add(1, y=2), -3),
    ("LIMIT", 9, lambda m: m.LIMIT, 9),
    ("TABLE[a]", 10, lambda m: m.TABLE["a"], 10),
    ("TABLE['b.c']", 20, lambda m: m.TABLE["b.c"], 20),
    ("TABLE[7]", 30, lambda m: m.TABLE[7], 30),
    ("Box.size", 8, lambda m: m.Box(1).size, 8),
    (
        "Box.get",
        lambda self, plus=0: ("new", self.v, plus),
        lambda m: m.Box(1).get(2),
        ("new", 1, 2),
    ),
    (
        "Box.make",
        lambda v: ("made", v),
        lambda m: (m.Box.make(1), m.Box(0).make(2)),
        (("made", 1), ("made", 2)),
    ),
    ("Box.build", lambda cls, v: (cls.__name__, v), lambda m: m.Box.build(3), ("Box", 3)),
    ("Box.double", lambda self: self.v * 20, lambda m: m.Box(2).double, 40),
    ("Box.slow", lambda self: "fast", lambda m: m.Box(2).slow, "fast"),
    (
        "Box.inherited",
        lambda self, x: ("box", x),
        lambda m: (m.Box(0).inherited(1), m.Base().inherited(1)),
        (("box", 1), ("base", 1)),
    ),
    ("Box.Inner.depth", lambda self: 2, lambda m: m.Box.Inner().depth(), 2),
    ("BOX.v", 6, lambda m: m.BOX.v, 6),
    ("REG._module_dict[Box]", dict, lambda m: m.REG._module_dict["Box"], dict),
]


@pytest.mark.parametrize(("qualname", "new", "read", "expected"), CASES, ids=[c[0] for c in CASES])
def test_replace_and_revert(
    lib: Any, engine: Any, qualname: str, new: Any, read: Any, expected: Any
) -> None:
    report = engine(patch(Replace(f"lib.core:{qualname}", new)))
    module = lib()
    assert read(module) == expected
    assert statuses(report) == ["APPLIED"]

    patched = raw(module)
    bootstrap.deactivate()
    unpatched = raw(module)
    del sys.modules["lib.core"]
    fresh = raw(lib())
    assert unpatched.keys() == fresh.keys()
    assert read(module) != expected
    changed = [key for key in fresh if patched.get(key) is not unpatched[key]]
    assert len(changed) == 1 or "inherited" in qualname


def raw(module: Any) -> dict[str, Any]:
    """Everything that a module, its classes and its tables hold, descriptors unbound."""
    found = {f"{k}": v for k, v in vars(module).items() if not k.startswith("__")}
    for cls in (module.Base, module.Box, module.Box.Inner):
        found.update({f"{cls.__qualname__}.{k}": v for k, v in vars(cls).items()})
    found.update({f"TABLE[{k}]": v for k, v in module.TABLE.items()})
    found.update({f"REG[{k}]": v for k, v in module.REG._module_dict.items()})
    found.update({f"BOX.{k}": v for k, v in vars(module.BOX).items()})
    return found


@pytest.mark.parametrize("qualname", [case[0] for case in CASES])
def test_revert_restores_the_identical_object(lib: Any, engine: Any, qualname: str) -> None:
    module = lib()
    before = raw(module)
    case = next(case for case in CASES if case[0] == qualname)
    engine(patch(Replace(f"lib.core:{qualname}", case[1])))
    assert case[2](module) == case[3]
    bootstrap.deactivate()
    after = raw(module)
    assert after.keys() == before.keys()
    assert [key for key in before if before[key] is not after[key]] == []


def test_a_plain_replacement_is_bound_as_it_is(lib: Any, engine: Any) -> None:
    engine(patch(Replace("lib.core:add", new_add)))
    assert lib().add is new_add


def test_property_keeps_its_setter_and_doc(lib: Any, engine: Any) -> None:
    engine(patch(Replace("lib.core:Box.double", lambda self: 7)))
    box = lib().Box(1)
    box.double = 8
    assert (box.v, box.double, type(box).double.__doc__) == (4, 7, "Twice.")


def test_a_pickle_made_under_the_patch_is_the_originals(lib: Any, engine: Any) -> None:
    unpatched = pickle.dumps(lib().add)
    engine(patch(Replace("lib.core:add", new_add)))
    assert pickle.dumps(lib().add) == unpatched
    assert pickle.loads(unpatched) is new_add
    bootstrap.deactivate()
    assert (new_add.__module__, new_add.__qualname__) == (__name__, "new_add")


def test_factory_is_given_module_and_options(lib: Any, engine: Any) -> None:
    seen: list[Any] = []

    def make(context: Any) -> Any:
        seen.append((context.module.__name__, context.options["scale"]))
        original, scale = context.module.add, context.options["scale"]
        return lambda x, y=1: scale * original(x, y)

    change = patch(Replace("lib.core:add", factory=make), options={"scale": 2})
    engine(change, patches__options={"lib.test": {"scale": 10}})
    assert lib().add(1) == 20
    assert seen == [("lib.core", 10)]


# -- guards ------------------------------------------------------------------------


def test_only_the_guard_decides(lib: Any, engine: Any) -> None:
    def explode(x: int, y: int = 1) -> int:
        raise ValueError("from the replacement")

    engine(patch(Replace("lib.core:add", explode, guard=lambda x, y=1: x > 10)))
    add = lib().add
    assert add(1, y=2) == 3
    with pytest.raises(ValueError, match="from the replacement"):
        add(11)


@pytest.mark.parametrize(
    ("qualname", "call"),
    [
        ("Box.get", lambda m: m.Box(1).get(plus=1)),
        ("Box.make", lambda m: m.Box.make(1).v),
        ("Box.build", lambda m: m.Box.build(1).v),
        ("Box.double", lambda m: m.Box(1).double),
    ],
)
def test_guard_on_descriptors(lib: Any, engine: Any, qualname: str, call: Any) -> None:
    chosen: list[bool] = [False]
    change = Replace(f"lib.core:{qualname}", lambda *a, **k: "new", guard=lambda *a, **k: chosen[0])
    engine(patch(change))
    module = lib()
    assert call(module) in (1, 2)
    chosen[0] = True
    if qualname == "Box.make" or qualname == "Box.build":
        assert getattr(module.Box, qualname[4:])(1) == "new"
    else:
        assert call(module) == "new"


def test_a_guard_that_raises_counts_as_false_and_is_told_once(
    lib: Any, engine: Any, capsys: Any
) -> None:
    def guard(x: int, y: int = 1) -> bool:
        raise RuntimeError("broken guard")

    report = engine(patch(Replace("lib.core:add", new_add, guard=guard)))
    add = lib().add
    assert [add(1), add(2)] == [2, 3]
    assert capsys.readouterr().err.count("broken guard") == 1
    assert any("the guard of lib.core:add raised" in text for text in report().problems)


def test_a_guarded_function_keeps_name_signature_and_attributes(lib: Any, engine: Any) -> None:
    original = lib().add
    original.marker = "kept"
    original._torchdynamo_disable = True
    engine(patch(Replace("lib.core:add", new_add, guard=lambda *a, **k: True)))
    add = lib().add
    assert inspect.signature(add) == inspect.signature(original)
    assert (add.__name__, add.__doc__, add.__module__) == ("add", "Adds.", "lib.core")
    assert add.__wrapped__ is original
    assert add.marker == "kept"
    assert not hasattr(add, "_torchdynamo_disable")


# -- wrap --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("qualname", "call", "expected"),
    [
        ("add", lambda m: m.add(1, y=2), ("None", (1,), {"y": 2}, 3)),
        ("Box.get", lambda m: m.Box(1).get(2), ("Box", (2,), {}, 3)),
        ("Box.inherited", lambda m: m.Box(1).inherited(2), ("Box", (2,), {}, ("base", 2))),
        ("Box.build", lambda m: m.Box.build.__func__ and m.Box.build(4), None),
        ("Box.double", lambda m: m.Box(3).double, ("Box", (), {}, 6)),
    ],
)
def test_wrap_follows_wrapts_convention(
    lib: Any, engine: Any, qualname: str, call: Any, expected: Any
) -> None:
    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        who = instance.__name__ if isinstance(instance, type) else type(instance).__name__
        result = wrapped(*args, **kwargs)
        result = result.v if hasattr(result, "v") else result
        return (who.replace("NoneType", "None"), args, kwargs, result)

    report = engine(patch(Wrap(f"lib.core:{qualname}", wrapper)))
    assert call(lib()) == (expected or ("Box", (4,), {}, 4))
    assert statuses(report) == ["APPLIED"]


def test_wrap_of_a_static_method_has_no_instance(lib: Any, engine: Any) -> None:
    engine(patch(Wrap("lib.core:Box.make", lambda w, i, a, k: (i, w(*a, **k).v))))
    module = lib()
    assert module.Box.make(1) == module.Box(0).make(1) == (None, 1)


def test_wrap_of_a_class_keeps_isinstance_and_pickle(lib: Any, engine: Any) -> None:
    plain = pickle.dumps(lib().Box(1))
    engine(patch(Wrap("lib.core:Box", lambda wrapped, i, args, k: wrapped(args[0] * 10))))
    module = lib()
    box = module.Box(2)
    assert box.v == 20
    assert isinstance(box, module.Box)
    assert pickle.loads(plain).v == 1
    assert pickle.loads(pickle.dumps(module.Box)) is module.Box

    class Child(module.Box):  # type: ignore[name-defined,misc]
        pass

    assert Child(3).v == 3


def test_wrap_keeps_generators_generators(lib: Any, engine: Any) -> None:
    engine(patch(Wrap("lib.core:generate", lambda w, i, a, k: w(*a, **k))))
    assert inspect.isgeneratorfunction(lib().generate)
    assert list(lib().generate()) == [1]


def test_layers_of_several_patches_come_off_in_any_order(lib: Any, engine: Any) -> None:
    module = lib()
    original = module.add
    outer = patch(Wrap("lib.core:add", lambda w, i, a, k: ("outer", w(*a, **k))), name="lib.outer")
    inner = patch(Replace("lib.core:add", new_add), name="lib.inner", priority=5)
    engine(outer, inner)
    assert module.add(1) == ("outer", -2)
    bootstrap.deactivate()
    assert module.add is original


# -- classes -----------------------------------------------------------------------


class NewBox:
    size = 4

    def get(self, plus: int = 0) -> Any:
        return ("new", self.v + plus)  # type: ignore[attr-defined]

    def inherited(self, x: Any) -> Any:
        return ("through", super().inherited(x), __class__.__name__)  # type: ignore[misc,name-defined]


def test_a_class_is_replaced_in_place(lib: Any, engine: Any) -> None:
    module = lib()
    cls, old = module.Box, module.Box(1)
    before = raw(module)
    report = engine(patch(Replace("lib.core:Box", NewBox)))
    assert module.Box is cls
    assert isinstance(old, module.Box)
    assert old.get(1) == ("new", 2)
    assert old.inherited(3) == ("through", ("base", 3), "Box")
    assert (old.size, old.double) == (4, 2)
    assert statuses(report) == ["LATE"]
    bootstrap.deactivate()
    after = raw(module)
    assert [key for key in before if before[key] is not after.get(key)] == []
    assert before.keys() == after.keys()


def test_a_subclass_is_bound_in_the_place_of_its_base(lib: Any, engine: Any) -> None:
    def make(context: Any) -> type:
        class Better(context.module.Box):  # type: ignore[misc]
            def get(self, plus: int = 0) -> Any:
                return ("better", super().get(plus))

        return Better

    module = lib()
    original = module.Box
    engine(patch(Replace("lib.core:Box", factory=make)))
    assert module.Box(1).get() == ("better", 1)
    assert isinstance(module.Box(1), original)
    bootstrap.deactivate()
    assert module.Box is original


# -- define, register, call --------------------------------------------------------


def test_define_only_if_missing(lib: Any, engine: Any) -> None:
    report = engine(patch(Define("lib.core:LIMIT", 100), Define("lib.core:EXTRA", 100)))
    module = lib()
    assert (module.LIMIT, module.EXTRA) == (3, 100)
    assert statuses(report) == ["UNMET", "APPLIED"]
    assert report().outcomes[0].reason == "lib.core:LIMIT is there already"
    bootstrap.deactivate()
    assert not hasattr(module, "EXTRA")


LAZY = """
    def __getattr__(name):
        if name == "there":
            return 1
        raise AttributeError(name)
"""


def test_define_asks_a_modules_getattr(write: Any, engine: Any) -> None:
    write({"lazy.py": LAZY})
    report = engine(patch(Define("lazy:there", 2), Define("lazy:absent", 3)))
    lazy = importlib.import_module("lazy")
    assert (lazy.there, lazy.absent) == (1, 3)
    assert statuses(report) == ["UNMET", "APPLIED"]


class Extra:
    pass


def test_register_and_take_back(lib: Any, engine: Any) -> None:
    report = engine(patch(Register("lib.core:REG", Extra)))
    module = lib()
    assert module.REG._module_dict["Extra"] is Extra
    assert report().outcomes[0].reason == "as 'Extra'"
    bootstrap.deactivate()
    assert set(module.REG._module_dict) == {"Box"}


@pytest.mark.parametrize("force", [False, True])
def test_register_over_an_entry(lib: Any, engine: Any, force: bool) -> None:
    report = engine(patch(Register("lib.core:REG", Extra, name="Box", force=force)))
    module = lib()
    assert statuses(report) == ["APPLIED" if force else "CONFLICT"]
    assert module.REG._module_dict["Box"] is (Extra if force else module.Box)
    bootstrap.deactivate()
    assert module.REG._module_dict["Box"] is module.Box


def test_call_is_taken_back_by_comparison(lib: Any, engine: Any) -> None:
    def change(context: Any) -> None:
        module = context.module
        module.LIMIT = 50
        module.NEW = 1
        module.Box.get = lambda self: "free"
        module.REG._module_dict["More"] = Extra

    module = lib()
    before = raw(module)
    report = engine(patch(Call("lib.core", change)))
    assert (module.LIMIT, module.NEW, module.Box(1).get()) == (50, 1, "free")
    assert "Box.get" in report().outcomes[0].reason
    bootstrap.deactivate()
    after = raw(module)
    assert before.keys() == after.keys()
    assert [key for key in before if before[key] is not after[key]] == []


def test_the_comparison_does_not_ask_the_values_themselves(write: Any, engine: Any) -> None:
    """torch.distributed.reduce_op warns whenever an attribute of it is read."""
    write(
        {
            "touchy.py": """
            class Touchy:
                def __getattribute__(self, name):
                    raise RuntimeError(f"read {name}")

            value = Touchy()
            """
        }
    )
    report = engine(Patch("t.p", (Call("touchy", lambda context: "done"),)))
    importlib.import_module("touchy")
    assert [(o.status, o.reason) for o in report()] == [(Status.APPLIED, "done")]


def test_call_may_return_its_own_undo_or_a_reason(lib: Any, engine: Any) -> None:
    elsewhere: list[int] = []

    def append(context: Any) -> Any:
        elsewhere.append(1)
        return elsewhere.clear

    report = engine(patch(Call("lib.core", append), Call("lib.core", lambda context: "looked")))
    lib()
    assert elsewhere == [1]
    assert [outcome.reason for outcome in report()] == ["", "looked"]
    bootstrap.deactivate()
    assert elsewhere == []


def test_call_may_return_both_and_a_reason_of_several_lines(lib: Any, engine: Any) -> None:
    elsewhere = [1]
    report = engine(patch(Call("lib.core", lambda context: ("2 names\na, b", elsewhere.clear))))
    lib()
    (outcome,) = report()
    assert outcome.reason == "2 names\na, b"
    assert str(report()).endswith("APPLIED: 2 names")
    assert report().summary()[1].endswith("call lib.core (2 names)")
    assert report().summary(detail=True)[1].endswith("call lib.core (2 names\na, b)")
    bootstrap.deactivate()
    assert elsewhere == []


@pytest.mark.parametrize("copies", [True, False])
def test_call_rebinds_copies_unless_told_not_to(
    lib: Any, write: Any, engine: Any, copies: bool
) -> None:
    write({"user.py": "from lib.core import add\n"})
    module, user = lib(), importlib.import_module("user")
    original = module.add

    def change(context: Any) -> None:
        context.module.add = new_add

    report = engine(patch(Call("lib.core", change, copies=copies)))
    assert module.add is new_add
    assert user.add is (new_add if copies else original)
    assert report().outcomes[0].rebound == (("user:add",) if copies else ())
    bootstrap.deactivate()
    assert user.add is module.add is original


# -- failures ----------------------------------------------------------------------


def test_a_patch_applies_whole_or_not_at_all(lib: Any, engine: Any) -> None:
    report = engine(patch(Replace("lib.core:add", new_add), Replace("lib.core:ad", new_add)))
    module = lib()
    assert module.add(1) == 2
    first, second = report()
    assert first.status is second.status is Status.MISSING
    assert second.reason == "lib.core has no attribute 'ad'"
    assert first.reason == "not applied, since lib.core:ad could not be"


def test_an_edit_that_fails_half_way_undoes_the_others(lib: Any, engine: Any) -> None:
    def fail(context: Any) -> None:
        context.module.LIMIT = 1000
        raise ZeroDivisionError("in the call")

    report = engine(patch(Replace("lib.core:add", new_add), Call("lib.core", fail)))
    module = lib()
    assert (module.add(1), module.LIMIT) == (2, 3)
    assert statuses(report) == ["FAILED", "FAILED"]
    assert "ZeroDivisionError: in the call (test_edits.py:" in report().outcomes[1].reason


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("lib.core:nowhere", "lib.core has no attribute 'nowhere'"),
        ("lib.core:Box.nowhere", "lib.core.Box has no attribute 'nowhere'"),
        ("lib.core:Nowhere.get", "lib.core has no attribute 'Nowhere'"),
        ("lib.core:TABLE[zz]", "lib.core.TABLE has no entry 'zz'"),
        ("lib.core:LIMIT[0]", "lib.core.LIMIT is a int, which has no entries"),
    ],
)
def test_missing_targets_say_which_step(lib: Any, engine: Any, target: str, reason: str) -> None:
    report = engine(patch(Replace(target, 1)))
    lib()
    assert statuses(report) == ["MISSING"]
    assert report().outcomes[0].reason == reason


def test_two_patches_on_one_target_the_first_holds_it(lib: Any, engine: Any) -> None:
    late = patch(Replace("lib.core:add", lambda x: "late"), name="lib.a", priority=2)
    early = patch(Replace("lib.core:add", lambda x: "early"), name="lib.b", priority=1)
    report = engine(late, early)
    assert lib().add(1) == "early"
    outcome = report().of("lib.a")[0]
    assert outcome.status is Status.CONFLICT
    assert outcome.reason == "lib.core.add has been replaced by patch 'lib.b'"


def test_an_alias_is_not_wrapped_twice(lib: Any, engine: Any, write: Any) -> None:
    write({"lib/api.py": "from lib.core import add"})
    double = lambda w, i, a, k: 2 * w(*a, **k)  # noqa: E731
    report = engine(patch(Wrap("lib.core:add", double), Wrap("lib.api:add", double)))
    lib()
    api = importlib.import_module("lib.api")
    assert api.add(1) == 4
    assert statuses(report) == ["APPLIED", "UNMET"]


def test_requirements_are_decided_when_the_edit_would_fire(lib: Any, engine: Any) -> None:
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        return "the weather"

    report = engine(patch(Replace("lib.core:add", new_add), requires=(ask,)))
    assert statuses(report) == ["PENDING"]
    assert asked == []
    assert lib().add(1) == 2
    assert report().outcomes[0].reason == "the weather"
    assert statuses(report) == ["UNMET"]


def test_not_needed_leaves_the_rest_of_the_patch_alone(lib: Any, engine: Any) -> None:
    def nothing(context: Any) -> None:
        raise NotNeeded("all is well")

    report = engine(
        patch(Replace("lib.core:LIMIT", factory=nothing), Replace("lib.core:add", new_add))
    )
    assert lib().add(1) == -2
    assert statuses(report) == ["UNMET", "APPLIED"]


def test_strict_mode_raises_at_the_import(lib: Any, engine: Any) -> None:
    engine(patch(Replace("lib.core:ad", new_add)), strict=True)
    with pytest.raises(PatchError, match=r"lib.test: replace lib.core:ad: MISSING.*strict mode"):
        lib()


def test_what_other_code_changed_since_is_left_alone(lib: Any, engine: Any) -> None:
    report = engine(patch(Replace("lib.core:add", new_add)))
    module = lib()
    module.add = functools.partial(print)
    theirs = module.add
    session = bootstrap.active().session  # type: ignore[union-attr]
    bootstrap.deactivate()
    assert module.add is theirs
    outcome = session.report().outcomes[0]
    assert outcome.status is Status.FAILED
    assert "was changed by other code since" in outcome.reason
    assert len(report()) == 0


def test_applying_three_times_is_applying_once(lib: Any, engine: Any) -> None:
    change = patch(Wrap("lib.core:add", lambda w, i, a, k: 2 * w(*a, **k)))
    for _ in range(3):
        engine_start = bootstrap.activate
        engine_start(patches=[change], overrides={"patches.only": ["lib.test"]}, script="")
    assert lib().add(1) == 4
    bootstrap.deactivate()
    assert lib().add(1) == 2

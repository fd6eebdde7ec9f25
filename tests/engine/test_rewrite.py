"""Rewrite: code inside a function changed by its syntax tree."""

from __future__ import annotations

import ast
import gc
import importlib
import inspect
import linecache
import pickle
import textwrap
import traceback
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.errors import PatchError
from mx_autopatch.model import Patch, Replace, Rewrite, Wrap

SOURCE = '''
    from __future__ import annotations

    import contextlib
    import functools

    RUNS = []
    OFFSET = 5


    def traced(function):
        RUNS.append(function.__name__)

        @functools.wraps(function)
        def inner(*args, **kwargs):
            return function(*args, **kwargs)

        inner.calls = function
        return inner


    def bare(scale):
        def decorate(function):
            def inner(*args):
                return scale * function(*args)
            return inner
        return decorate


    class Hiding:
        def __init__(self, function):
            self.function = function

        def __call__(self, *args):
            return self.function(*args)


    def plain(x, y=OFFSET, *rest, key: int = 2, **more) -> tuple:
        """Says what it was given."""
        # a comment
        total = x + y  # another
        if key:
            total = (
                total
                * key
            )
            total += len(rest)
        return total, more


    @traced
    @traced
    def decorated(x):
        y = x + 1
        return y


    @bare(10)
    def undecorated(x):
        return x + 1


    @functools.lru_cache(maxsize=3)
    def cached(x):
        return x + 1


    @contextlib.contextmanager
    def managed(x):
        yield x + 1


    @Hiding
    def hidden(x):
        return x + 1


    def make(step):
        count = 0

        def tick(by):
            nonlocal count
            count += step * by
            return count

        return tick


    tick = make(3)
    partial = functools.partial(plain, 1)
    twin = lambda x: x + 1


    class Base:
        def get(self, x):
            return ("base", x)


    class Box(Base):
        __secret = 7

        def get(self, x):
            before = super().get(x)
            return before, self.__secret, __class__.__name__

        @staticmethod
        def make(x):
            return x + 1

        @classmethod
        def build(cls, x):
            return cls.__name__, x + 1

        @property
        def double(self):
            """Twice."""
            return 2 * self.__secret

        @double.setter
        def double(self, value):
            type(self).__secret = value

        @functools.cached_property
        def slow(self):
            return self.__secret + 1

        def loops(self, xs):
            def inner(x):
                y = x + 1
                return y
            found = [inner(x) for x in xs]
            for x in xs: found.append(x); found.append(-x)
            try:
                raise KeyError(f"{xs[0]!r:>4} and {len(xs)}")
            except KeyError as error:
                return found, error.args[0]

        async def waits(self):
            return self.__secret + 1

        def fails(self, x):
            first = x + 1
            second = first + 1
            raise ValueError(second)
'''


@pytest.fixture
def lib(write: Any) -> Any:
    """The import of a module with every kind of function."""
    folder = write({"rewritten.py": SOURCE})

    def load() -> Any:
        module = importlib.import_module("rewritten")
        assert module.__file__ == str(folder / "rewritten.py")
        return module

    return load


def rewrite(qualname: str, find: str, replace: str, **more: Any) -> Rewrite:
    return Rewrite(f"rewritten:{qualname}", find, replace, **more)


def patch(*edits: Any, name: str = "lib.test", **more: Any) -> Patch:
    return Patch(name=name, edits=edits, **more)


def outcome(report: Any) -> tuple[str, str]:
    (one,) = report()
    return str(one.status), one.reason


def finish(coroutine: Any) -> Any:
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


def managed(module: Any) -> Any:
    with module.managed(1) as value:
        return value


CASES: list[Any] = [
    ("plain", "$x + y", "$x - y", lambda m: m.plain(1), ((1 - 5) * 2, {})),
    ("plain", "$x * key", "$x - key", lambda m: m.plain(1, 2, 3, 4, key=5, a=6), (0, {"a": 6})),
    ("plain", "len($x)", "100", lambda m: m.plain(1, 2, key=1), (103, {})),
    ("plain", "if $c: $a = $b; $a += $d", "$a = -1", lambda m: m.plain(1), (-1, {})),
    ("plain", "return $a, $b", "return $b", lambda m: m.plain(1, q=1), {"q": 1}),
    ("plain", "$n += $x", "", lambda m: m.plain(1, 2, 3), (6, {})),
    ("decorated", "x + 1", "x + 2", lambda m: m.decorated(1), 3),
    ("undecorated", "x + 1", "x + 2", lambda m: m.undecorated(1), 30),
    ("cached", "x + 1", "x + 2", lambda m: (m.cached(1), m.cached.cache_info().maxsize), (3, 3)),
    ("managed", "yield $x", "yield $x * 10", managed, 20),
    ("tick", "step * by", "-step * by", lambda m: m.tick(2), -6),
    ("partial", "$x + y", "$x - y", lambda m: m.partial(), (-8, {})),
    (
        "Box.get",
        "super().get(x)",
        "super().get(x + self.__secret)",
        lambda m: m.Box().get(1),
        (("base", 8), 7, "Box"),
    ),
    ("Box.make", "x + 1", "x + 2", lambda m: (m.Box.make(1), m.Box().make(1)), (3, 3)),
    ("Box.build", "x + 1", "x + 2", lambda m: m.Box.build(1), ("Box", 3)),
    ("Box.double", "2 * $x", "3 * $x", lambda m: m.Box().double, 21),
    ("Box.slow", "$x + 1", "$x + 2", lambda m: m.Box().slow, 9),
    ("Box.loops", "x + 1", "x * 9", lambda m: m.Box().loops([2])[0], [18, 2, -2]),
    ("Box.loops", "found.append(-x)", "found.append(0)\nx = 1", lambda m: m.Box().loops([2])[0],
     [3, 2, 0]),
    ("Box.loops", "found.append(x)", "x += 1", lambda m: m.Box().loops([2])[0], [3, -3]),
    ("Box.loops", "len(xs)", "'a' + \"b'\"", lambda m: m.Box().loops([2])[1], "   2 and ab'"),
    ("Box.waits", "$x + 1", "$x + 2", lambda m: finish(m.Box().waits()), 9),
    ("Box.inherited", None, None, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("qualname", "find", "replace", "read", "expected"), CASES[:-1])
def test_every_kind_of_function(
    lib: Any, engine: Any, qualname: str, find: str, replace: str, read: Any, expected: Any
) -> None:
    module = lib()
    before = vars_of(module)
    unpatched = read(module)
    runs = list(module.RUNS)
    if qualname == "tick":
        assert unpatched == 6
    report = engine(patch(rewrite(qualname, find, replace)))
    result = read(module)
    # The closure is shared: the counter goes on where it was.
    assert result == (expected if qualname != "tick" else 0)
    assert outcome(report) == ("LATE", "")
    assert runs == module.RUNS, "a decorator ran again"
    bootstrap.deactivate()
    assert vars_of(module) == before
    assert read(module) == unpatched or qualname == "tick"


def vars_of(module: Any) -> dict[str, int]:
    return {
        f"{owner.__name__}.{name}": id(value)
        for owner in (module, module.Base, module.Box)
        for name, value in vars(owner).items()
    }


def test_the_source_outlives_an_earlier_one_of_its_name(lib: Any, engine: Any) -> None:
    """Applied anew while the code of the first time is still held, and let go later."""
    double = patch(rewrite("plain", "$x + y", "$x - y"), rewrite("plain", "$x * key", "$x - key"))
    module = lib()
    engine(double)
    first = module.plain
    bootstrap.deactivate()
    report = engine(double)
    del first
    gc.collect()
    assert "x - y" in inspect.getsource(module.plain)
    assert {str(one.status) for one in report()} == {"LATE"}
    bootstrap.deactivate()
    report = engine(double)
    assert {str(one.status) for one in report()} == {"LATE"}


# -- what is seen of it ------------------------------------------------------------


def test_it_is_the_same_function_but_for_its_code(lib: Any, engine: Any) -> None:
    module = lib()
    old = module.plain
    old.marker = object()
    engine(patch(rewrite("plain", "$x + y", "$x - y")))
    new = module.plain
    assert new is not old
    assert inspect.signature(new) == inspect.signature(old)
    assert new.__defaults__ is old.__defaults__
    assert new.__globals__ is old.__globals__
    assert (new.__kwdefaults__, new.__annotations__) == (old.__kwdefaults__, old.__annotations__)
    assert (new.__doc__, new.__qualname__, new.__module__) == (
        old.__doc__, old.__qualname__, old.__module__
    )  # fmt: skip
    assert new.marker is old.marker
    assert pickle.loads(pickle.dumps(new)) is new
    assert new.__code__.co_firstlineno == old.__code__.co_firstlineno
    assert {line for _, _, line in lines_of(new)} == {line for _, _, line in lines_of(old)}


def lines_of(function: Any) -> list[Any]:
    if hasattr(function.__code__, "co_lines"):
        return list(function.__code__.co_lines())
    import dis

    return [(0, 0, line) for _, line in dis.findlinestarts(function.__code__)]


def test_getsource_shows_what_runs(lib: Any, engine: Any) -> None:
    module = lib()
    before = inspect.getsource(module)
    engine(
        patch(
            rewrite("plain", "if $c: $a = $b; $a += $d", "if $c:\n    $a = 0\nelse:\n    $a = 1"),
            rewrite("Box.loops", "y = x + 1", "import math\ny = math.floor(x)\nz = y"),
        )
    )
    assert inspect.getsource(module.plain) == textwrap.dedent(
        '''\
        def plain(x, y=OFFSET, *rest, key: int = 2, **more) -> tuple:
            """Says what it was given."""
            # a comment
            total = x + y  # another
            if key:
                total = 0
            else:
                total = 1


            return total, more
        '''
    )
    loops = inspect.getsource(module.Box.loops)
    assert "            import math\n            y = math.floor(x)\n            z = y\n" in loops
    assert ast.dump(ast.parse(textwrap.dedent(loops)))
    assert inspect.getsource(module) == before
    assert module.Box().loops([2.5])[0][0] == 2
    bootstrap.deactivate()
    gc.collect()
    assert not [name for name in linecache.cache if name.startswith(f"{module.__file__} <")]


def test_a_traceback_has_the_lines_of_the_file(lib: Any, engine: Any) -> None:
    module = lib()

    def raised() -> traceback.FrameSummary:
        with pytest.raises((ValueError, ZeroDivisionError)) as error:
            module.Box().fails(1)
        assert traceback.format_exception(None, error.value, error.value.__traceback__)
        return traceback.extract_tb(error.value.__traceback__)[-1]

    before = raised()
    engine(patch(rewrite("Box.fails", "first = $x + 1", "a = $x\nb = a\nfirst = b + 1")))
    after = raised()
    assert after.lineno == before.lineno
    assert after.line == before.line == "raise ValueError(second)"
    assert after.filename == f"{before.filename} <Box.fails rewritten by lib.test>"
    assert before.filename == module.__file__
    bootstrap.deactivate()

    # What does not fit into the lines there are has the number of the last of them.
    engine(patch(rewrite("Box.fails", "second = $x", "third = 0\nsecond = 1 / third")))
    within = raised()
    assert within.lineno == (before.lineno or 0) - 1
    # Python 3.13 shows the first line of several.
    assert "second = 1 / third" in linecache.getline(within.filename, within.lineno or 0)


# -- what it is beside -------------------------------------------------------------


def test_a_wrapper_and_rewrites_of_several_patches(lib: Any, engine: Any) -> None:
    module = lib()
    original = module.plain
    wrap = patch(
        Wrap("rewritten:plain", lambda w, i, a, k: ("wrapped", w(*a, **k)[0])), name="lib.wrap"
    )
    one = patch(rewrite("plain", "$x + y", "$x - y"), name="lib.one", priority=1)
    two = patch(rewrite("plain", "len(rest)", "100"), name="lib.two", priority=2)
    report = engine(wrap, one, two)
    assert module.plain(1, 2) == ("wrapped", (1 - 2) * 2 + 100)
    code = module.plain.__wrapped__.__code__
    assert code.co_filename == f"{module.__file__} <plain rewritten by lib.one, lib.two>"
    bootstrap.revert("lib.one")
    assert module.plain(1, 2) == ("wrapped", (1 + 2) * 2 + 100)
    assert [str(o.status) for o in report()] == ["LATE", "REVERTED", "LATE"]
    bootstrap.register(one)
    assert module.plain(1, 2) == ("wrapped", (1 - 2) * 2 + 100)
    for name in ("lib.two", "lib.wrap", "lib.one"):
        bootstrap.revert(name)
    assert module.plain is original


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_beside_a_replacement_it_is_a_conflict(lib: Any, engine: Any, order: Any) -> None:
    new = patch(
        Replace("rewritten:Box.make", lambda x: "new"), name="lib.replace", priority=order[0]
    )
    change = patch(rewrite("Box.make", "x + 1", "x + 2"), name="lib.rewrite", priority=order[1])
    report = engine(new, change)
    first, second = ("new", "replaced") if order == (1, 2) else (3, "rewritten")
    assert lib().Box.make(1) == first
    conflict = next(o for o in report() if str(o.status) == "CONFLICT")
    holder = "lib.replace" if order == (1, 2) else "lib.rewrite"
    assert conflict.reason == f"Box.make has been {second} by patch {holder!r}"


def test_the_original_beside_a_guarded_replacement_is_rewritten(lib: Any, engine: Any) -> None:
    guarded = Replace("rewritten:Box.make", lambda x: "new", guard=lambda x: x > 5)
    change = patch(rewrite("Box.make", "x + 1", "x + 2"), name="lib.rewrite", priority=1)
    report = engine(patch(guarded, name="lib.guarded"), change)
    assert [lib().Box.make(x) for x in (1, 6)] == [3, "new"]
    assert [str(o.status) for o in report()] == ["APPLIED", "APPLIED"]


def test_a_later_edit_finds_what_an_earlier_one_made(lib: Any, engine: Any) -> None:
    report = engine(patch(rewrite("tick", "step * by", "by"), rewrite("tick", "by", "-by")))
    module = lib()
    assert [str(o.status) for o in report()] == ["APPLIED", "APPLIED"]
    assert module.tick(2) == -2


def test_a_reload_is_rewritten_anew(lib: Any, engine: Any) -> None:
    report = engine(patch(rewrite("plain", "$x + y", "$x - y")))
    module = lib()
    assert module.plain(1)[0] == -8
    importlib.reload(module)
    assert module.plain(1)[0] == -8
    assert outcome(report) == ("APPLIED", "")


# -- names -------------------------------------------------------------------------


def helper(x: Any) -> Any:
    return ("helped", x)


def test_names_are_given_to_the_function_alone(lib: Any, engine: Any) -> None:
    change = rewrite("Box.build", "return $a, $b", "return help_with($b)",
                     names={"help_with": helper})  # fmt: skip
    engine(patch(change))
    module = lib()
    assert module.Box.build(1) == ("helped", 2)
    assert not hasattr(module, "help_with")


REFUSED: list[Any] = [
    ("plain", "$x + y", "helped($x)", {}, "FAILED",
     "replace: 'helped' is not known in rewritten; import it in replace, "
     "or give names={'helped': ...}"),
    ("plain", "$x + y", "total($x)", {"total": 1}, "FAILED",
     "names: 'total' has a meaning in plain already; take another"),
    ("plain", "$x + y", "$z", {}, "FAILED", "replace: $z is not in find"),
    ("plain", "$x +", "$x", {}, "FAILED", "find is not Python: invalid syntax: '$x +'"),
    ("plain", "$x + y", "break", {}, "MISSING",
     "rewritten:plain: not found: '$x + y'; most like it is line 41: 'total = x + y'"),
    ("plain", "if $c: $x", "break", {}, "MISSING",
     "rewritten:plain: not found: 'if $c: $x'; most like it is line 42: "
     "'if key: total = total * key; total += len(rest)'"),
    ("plain", "total += $x", "break", {}, "FAILED",
     "the rewritten function does not compile: 'break' outside loop"),
    ("plain", "$x + z", "$x", {}, "MISSING",
     "rewritten:plain: not found: '$x + z'; most like it is line 41: 'x + y'"),
    ("plain", "total", "y", {}, "MISSING",
     "rewritten:plain: should be there once: found in lines 41, 43, 44, 47, 48: 'total'"),
    ("Box.loops", "found.append(x)", "if x:\n    y", {}, "FAILED",
     "what replace makes does not go on one line with 'for x in xs:'"),
    ("twin", "x + 1", "x + 2", {}, "FAILED",
     "a lambda cannot be rewritten, since a line may hold several"),
    ("hidden", "x + 1", "x + 2", {}, "FAILED",
     "a Hiding has no Python function that can be rewritten"),
    ("OFFSET", "x + 1", "x + 2", {}, "FAILED",
     "a int has no Python function that can be rewritten"),
    ("absent", "x + 1", "x + 2", {}, "MISSING", "rewritten has no attribute 'absent'"),
]  # fmt: skip


@pytest.mark.parametrize(("qualname", "find", "replace", "names", "status", "reason"), REFUSED)
def test_what_cannot_be_done_is_said(
    lib: Any, engine: Any, qualname: str, find: str, replace: str, names: Any, status: str,
    reason: str,
) -> None:  # fmt: skip
    module = lib()
    before = vars_of(module)
    report = engine(patch(rewrite(qualname, find, replace, names=names)))
    got = outcome(report)
    assert got[0] == status
    assert reason in got[1], got[1]
    assert vars_of(module) == before


def test_the_file_is_not_the_source_of_what_runs(lib: Any, engine: Any, write: Any) -> None:
    module = lib()
    assert module.plain(1)[0] == 12
    write({"rewritten.py": SOURCE.replace("x + y  #", "x + 7  #")})
    report = engine(patch(rewrite("plain", "x + 7", "x")))
    status, reason = outcome(report)
    assert status == "FAILED"
    assert f"{module.__file__} is not the source of the code that runs" in reason


def test_a_file_in_another_encoding(engine: Any, write: Any) -> None:
    text = "# coding: latin-1\ndef f(x):\n    é = 'ü' + x; return é  # ß\n"
    (write({}) / "encoded.py").write_bytes(text.encode("latin-1"))
    engine(patch(Rewrite("encoded:f", "$a + x", "x + $a + 'ö'")))
    module = importlib.import_module("encoded")
    assert module.f("a") == "aüö"
    assert "    é = x + 'ü' + 'ö'; return é  # ß\n" in inspect.getsource(module.f)


def test_without_a_source(lib: Any, engine: Any) -> None:
    module = lib()
    exec(compile("def nowhere(x):\n    return x\n", "<string>", "exec"), vars(module))
    report = engine(patch(rewrite("nowhere", "x", "-x")))
    assert outcome(report) == ("FAILED", "its source is not there: <string>")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"find": " "}, "find must not be empty"),
        ({"count": 0}, "count must be a positive integer, not 0"),
        ({"replace": None}, "replace must be source code, as a string"),
        ({"names": {"a b": 1}}, "names: 'a b' is no name of a variable"),
    ],
)
def test_what_is_no_rewrite(more: Any, message: str) -> None:
    with pytest.raises(PatchError, match=r"Rewrite\('a:b'\): ") as error:
        Rewrite("a:b", **{"find": "x", "replace": "y", **more})
    assert message in str(error.value)

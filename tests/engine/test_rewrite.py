"""Rewrite: code inside a function changed by its syntax tree."""

from __future__ import annotations

import gc
import importlib
import inspect
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.model import Patch, Rewrite

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
    module.Box.__dict__["slow"].__set_name__(module.Box, "slow")
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

"""Guarded calls: the compiled dispatcher does what passing on *args and **kwargs does."""

from __future__ import annotations

import inspect
from typing import Any, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx_autopatch.engine.dispatch import dispatching

NOTHING: Any = object()


def fail(error: BaseException) -> None:
    raise AssertionError(error)


def generic(original: Any, new: Any, guard: Any, complain: Callable[[BaseException], None]) -> Any:
    def dispatch(*args: Any, **kwargs: Any) -> Any:
        try:
            chosen = guard(*args, **kwargs)
        except Exception as error:
            complain(error)
            chosen = False
        return new(*args, **kwargs) if chosen else original(*args, **kwargs)

    return dispatch


def is_generic(function: Any) -> bool:
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    return function.__code__.co_filename.endswith("dispatch.py") and len(kinds) == 2


# -- against the generic one -------------------------------------------------------


@st.composite
def parameters(draw: Any) -> str:
    """The parameters of a def statement; values of defaults are D[name]."""
    count, optional = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    names = [f"p{i}" if i < count - optional else f"p{i}=D['p{i}']" for i in range(count)]
    if count and draw(st.booleans()):
        names.insert(draw(st.integers(1, count)), "/")
    keywords = [f"k{i}" + draw(st.sampled_from(["", f"=D['k{i}']"])) for i in range(2)]
    keywords = keywords[: draw(st.integers(0, 2))]
    if draw(st.booleans()):
        names.append("*rest")
    elif keywords:
        names.append("*")
    names += keywords
    if draw(st.booleans()):
        names.append("**more")
    return ", ".join(names)


def define(name: str, declared: str, body: str) -> Any:
    scope: dict[str, Any] = {"D": {f"{k}{i}": f"default {k}{i}" for k in "pk" for i in range(5)}}
    exec(f"def {name}({declared}):\n    {body}\n", scope)
    return scope[name]


def said(function: Any, args: Any, kwargs: Any, heard: list[Any]) -> Any:
    try:
        result = function(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return result, len(heard)


ARGUMENTS = st.lists(st.integers(), max_size=5)
NAMES = st.sampled_from(["p0", "p1", "p2", "p3", "k0", "k1", "other"])
FEW = st.sampled_from(
    ["p0, *rest, **more", "*rest, **more", "p0=None, *args, **kwargs", "p1, p0", "k0=None, **more"]
)


@given(parameters(), st.none() | parameters() | FEW, ARGUMENTS, st.dictionaries(NAMES, ARGUMENTS))
def test_same_result_as_the_generic_one(
    declared: str, of_guard: str | None, args: list[int], kwargs: dict[str, Any]
) -> None:
    original = define("f", declared, "return 'old', dict(locals())")
    new = define("f", declared, "return 'new', dict(locals())")
    body = "return sorted(map(str, locals().items()))[-1:] > ['(p0']"
    guard = define("guard", of_guard if of_guard is not None else declared, body)
    for one in (guard, define("guard", "*args, **kwargs", "return True")):
        heard: tuple[list[Any], list[Any]] = ([], [])
        expected = said(generic(original, new, one, heard[0].append), args, kwargs, heard[0])
        actual = said(dispatching(original, new, one, heard[1].append), args, kwargs, heard[1])
        # A call that the original does not take asks no guard.
        assert actual == expected


# -- what is compiled --------------------------------------------------------------


def original(x: Any, y: Any = 1, *rest: Any, key: Any = NOTHING, **more: Any) -> Any:
    return ("old", x, y, rest, key, more)


def new(x: Any, y: Any = 1, *rest: Any, key: Any = NOTHING, **more: Any) -> Any:
    return ("new", x, y, rest, key, more)


def test_defaults_are_the_identical_objects() -> None:
    made = dispatching(original, new, lambda x, *args, **kwargs: x > 0, fail)
    assert not is_generic(made)
    assert made(0)[4] is made(1)[4] is NOTHING
    assert made(1, 2, 3, key=4, z=5) == ("new", 1, 2, (3,), 4, {"z": 5})
    assert made.__defaults__ is original.__defaults__
    assert str(inspect.signature(made)).replace("'Any'", "Any") == "(x, y=1, *rest, key=" + (
        f"{NOTHING!r}, **more)"
    )


@pytest.mark.parametrize(
    ("guard", "compiled"),
    [
        (lambda x, *args, **kwargs: True, True),
        (lambda x, y=1, *rest, key=NOTHING, **more: True, True),
        (lambda *args, **kwargs: True, True),
        (lambda *args, **kwargs: len(args) > 1, False),  # sees what was given
        (lambda x, *args, **kwargs: "y" in kwargs, False),
        (lambda x, y=2, *args, **kwargs: True, False),  # a default of its own
        (lambda y, x, *args, **kwargs: True, False),
        (lambda x, *args, **kwargs: [args for _ in "a"], False),
        (lambda x, *args, **kwargs: locals(), False),
        (int, False),
    ],
)
def test_what_must_see_the_call_as_it_was_made_does(guard: Any, compiled: bool) -> None:
    assert is_generic(dispatching(original, new, guard, fail)) is not compiled


def test_a_builtin_has_no_parameters_to_know() -> None:
    made = dispatching(max, lambda *args: -1, lambda *args: args[0] > 5, fail)
    assert (made(1, 2), made(6, 7)) == (2, -1)


def test_the_error_for_wrong_arguments_is_the_originals() -> None:
    def named(x: Any, *, key: Any) -> None: ...

    made = dispatching(named, lambda x, *, key: None, lambda x, *, key: True, fail)
    for args, kwargs in [((), {"key": 1}), ((1,), {}), ((1, 2), {"key": 1}), ((1,), {"z": 1})]:
        with pytest.raises(TypeError) as expected:
            named(*args, **kwargs)
        with pytest.raises(TypeError) as error:
            made(*args, **kwargs)
        assert str(error.value) == str(expected.value)

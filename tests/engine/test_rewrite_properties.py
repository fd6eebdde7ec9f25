"""Rewrite on functions of every layout: what is written is what was meant, line for line."""

from __future__ import annotations

import ast
import linecache
import textwrap
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mx_autopatch.engine.rewriting import rewriting
from mx_autopatch.errors import PatchError
from mx_autopatch.model import Rewrite

NAMES = ("a", "b", "c")


@st.composite
def expressions(draw: Any, depth: int = 2) -> str:
    """Arithmetic on a, b and c, laid out in one line or several."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from([*NAMES, "1", "2.5", "-a", "len('x')", "f(a)"]))
    left, right = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    text = draw(
        st.sampled_from(
            [
                "{0} + {1}",
                "({0} +\n        {1})",
                "({0}  # why\n            - {1})",
                "({0}) * ({1})",
                "max({0}, {1})",
                "max(\n            {0},\n            {1},\n        )",
                "[{0}, {1}][0]",
                "({0} if {1} else ({0}))",
                "(lambda: {0})()",
                "int(f'{{len(str(a + b))}}')",
                "sum(i for i in [{0}, {1}])",
                '[{0},"é"].index({0})',
            ]
        )
    )
    return text.format(left, right)


@st.composite
def statements(draw: Any, depth: int = 2) -> str:
    """One statement, or a few, that assign to a, b and c."""
    name, value = draw(st.sampled_from(NAMES)), draw(expressions())
    if depth == 0:
        simple = ["{0} = {1}", "{0} = {1}  # so", "{0} = {1}; {0} = {0}", "f({1})", "{0} = x = {1}"]
        return draw(st.sampled_from(simple)).format(name, value)
    body = textwrap.indent(draw(blocks(depth - 1)), "    ")
    kinds = [
        "if {0}:\n{1}",
        "for {0} in range(2):\n{1}",
        "while {0} and False: {0} = 1; f({0})\n{0} = 3",
        "try:\n{1}\nfinally:\n    f(1)",
        "with open_none() as {0}: pass\n{0} = 1",
        "def g({0}={0}):\n{1}\n    return {0}\n{0} = g()",
        "class K:\n    {0} = 1\n{0} = K.{0}",
        "s = '''\nnot mine\n'''\n{0} = len(s)",
    ]
    return draw(st.sampled_from(kinds)).format(name, body)


@st.composite
def blocks(draw: Any, depth: int = 2) -> str:
    return "\n".join(draw(st.lists(statements(depth), min_size=1, max_size=3)))


PATTERNS = [
    ("$x + $y", "$y - $x"),
    ("a", "b"),
    ("$x = $y", "$x = 0\n$x = $y"),
    ("$x = $y", ""),
    ("$x = $y", "if $y:\n    $x = 1\nelse:\n    $x = 2"),
    ("f($x)", "[f($x), 1][0]"),
    ("f($x)", "f($x); f(1)"),
    ("max($x, $y)", "$x, $y"),
    ("len($x)", "'a\\nb'"),
    ("$x; $y", "$y"),
]

PREAMBLE = """
import contextlib
SAID = []
def f(x):
    SAID.append(x)
    return 4
@contextlib.contextmanager
def open_none():
    yield None
"""


def result(scope: dict[str, Any], function: Any) -> Any:
    scope["SAID"].clear()
    try:
        value = repr(function(1, 2, 3))
    except Exception as error:
        value = f"{type(error).__name__}: {error}"
    return value, list(map(repr, scope["SAID"]))


@settings(deadline=None, max_examples=100)
@given(blocks(), st.sampled_from(PATTERNS), st.sampled_from(["", "    "]))
def test_what_is_written_is_what_was_meant(
    block: str, pattern: tuple[str, str], indent: str
) -> None:
    body = textwrap.indent(block, "    ")
    text = f"def target(a, b, c):\n{body}\n    return a, b, c\n"
    text = PREAMBLE + ("if True:\n" if indent else "") + textwrap.indent(text, indent)
    name = "/nowhere/property.py"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    scope: dict[str, Any] = {"__name__": "property_of"}
    exec(compile(text, name, "exec"), scope)
    target = scope["target"]
    find, replace = pattern
    try:
        # It is not known how often: the message of a wrong count says it.
        rewriting(Rewrite("m:target", find, replace, count=999), "p", "target")(target)
    except LookupError as error:
        said = str(error).partition("found in line")[2].partition(": ")[0]
        count = said.count(",") + 1 if said else 0
    if not count:
        return
    edit = Rewrite("m:target", find, replace, count=count)
    try:
        new = rewriting(edit, "p", "target")(target)
    except PatchError as error:
        # A compound statement in the place of one that stands behind a colon.
        if "does not go on one line" not in str(error):
            raise
        return
    lines = linecache.getlines(new.__code__.co_filename)
    written = "".join(lines)
    assert len(lines) == len(text.splitlines())
    # The text that is shown, compiled by itself, does the same.
    shown = dict(scope)
    exec(compile(written, "<shown>", "exec"), shown)
    shown["SAID"] = shown["f"].__globals__["SAID"]
    assert result(shown, shown["target"]) == result(scope, new), (text, written)
    # A line of the file that no match touches is the same line.
    first, last = target.__code__.co_firstlineno, new.__code__.co_firstlineno
    assert first == last
    before = text.splitlines(keepends=True)
    assert lines[: first - 1] == before[: first - 1]
    assert lines[-1] == before[-1] or find == "a"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_python(pattern: tuple[str, str]) -> None:
    for half in pattern:
        ast.parse(half.replace("$", ""))

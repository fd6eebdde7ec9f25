"""Targets, edits and patches refuse what they cannot mean."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx_autopatch.errors import AutopatchError, PatchError, TargetError
from mx_autopatch.model import (
    Call,
    Define,
    During,
    Patch,
    Provide,
    Redirect,
    Register,
    Replace,
    Wrap,
    parse_target,
)

names = st.text("abcXYZ_", min_size=1, max_size=6)
modules = st.lists(names, min_size=1, max_size=4).map(".".join)
plain_keys = st.text("abc .:/-", min_size=1, max_size=8)


@given(modules, st.lists(names, min_size=1, max_size=4))
def test_attributes_read_back(module: str, attributes: list[str]) -> None:
    parsed = parse_target(f"{module}:{'.'.join(attributes)}")
    assert parsed == (module, tuple((True, name) for name in attributes))


@given(modules, names, st.lists(plain_keys | st.integers(0, 10**6), min_size=1, max_size=3))
def test_entries_read_back(module: str, name: str, keys: list[Any]) -> None:
    text = f"{module}:{name}" + "".join(f"[{key}]" for key in keys)
    assert parse_target(text) == (module, ((True, name), *((False, key) for key in keys)))


@given(st.text("abc[].:\"'", max_size=8).filter(lambda key: '"' not in key))
def test_quoted_entries_read_back(key: str) -> None:
    assert parse_target(f'm:x["{key}"].y') == ("m", ((True, "x"), (False, key), (True, "y")))


@given(st.text(max_size=30) | st.none() | st.integers())
def test_any_other_text_is_a_target_error_or_a_target(text: Any) -> None:
    try:
        module, steps = parse_target(text)
    except TargetError:
        with pytest.raises(TargetError, match=re.escape(repr(text))):
            parse_target(text)
    else:
        assert text.startswith(module + ":")
        assert steps[0][0] is True


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mmcv.ops.nms", "target 'mmcv.ops.nms': expected 'module:qualname', as in 'mmcv.ops:nms'"),
        ("mmcv.ops:", "target 'mmcv.ops:': expected 'module:qualname', as in 'mmcv.ops:nms'"),
        (":nms", "target ':nms': module '': not a dotted module name such as 'mmcv.ops.nms'"),
        (
            "a..b:c",
            "target 'a..b:c': module 'a..b': not a dotted module name such as 'mmcv.ops.nms'",
        ),
        (
            "a:b..c",
            "target 'a:b..c': cannot read '..c'; write attributes as 'a.b' and entries as 'a[key]'",
        ),
        (
            "a:b[",
            "target 'a:b[': cannot read '['; write attributes as 'a.b' and entries as 'a[key]'",
        ),
        (
            "a:.b",
            "target 'a:.b': cannot read '.b'; write attributes as 'a.b' and entries as 'a[key]'",
        ),
        ("a:[b]", "target 'a:[b]': the qualname must begin with an attribute"),
        (3, "target 3: expected a string 'module:qualname'"),
    ],
)
def test_bad_targets(target: Any, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_target(target)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Replace("a:b"),
            "Replace('a:b'): give exactly one of replacement, factory; given: none",
        ),
        (
            lambda: Replace("a:b", 1, factory=lambda c: 1),
            "Replace('a:b'): give exactly one of replacement, factory; given: replacement, factory",
        ),
        (lambda: Replace("a:b", 1, guard=3), "Replace('a:b'): guard must be callable"),
        (lambda: Wrap("a:b"), "Wrap('a:b'): give exactly one of wrapper, decorator; given: none"),
        (lambda: Wrap("a:b", 3), "Wrap('a:b'): wrapper must be callable"),
        (lambda: Define("a:b"), "Define('a:b'): give exactly one of value, factory; given: none"),
        (lambda: Register("a:b"), "Register('a:b'): give exactly one of obj, factory; given: none"),
        (lambda: Call("a"), "Call('a'): give exactly one of function; given: none"),
        (
            lambda: Call("a:b", print),
            "Call: module 'a:b': not a dotted module name such as 'mmcv.ops.nms'",
        ),
        (
            lambda: Provide("a"),
            "Provide('a'): source '': not a dotted module name such as 'mmcv.ops.nms'",
        ),
        (lambda: Redirect("a", "a"), "Redirect('a'): a module cannot answer for itself"),
        (
            lambda: During("a:b.c", module="d", value=1),
            "During: target 'a:b.c': expected an attribute of a module, as in 'mmcv:__version__'",
        ),
        (
            lambda: Patch("x y", (Call("a", print),)),
            "Patch name 'x y': expected 'scope.key', as in 'mmcv.nms'",
        ),
        (lambda: Patch("x.y", ()), "Patch 'x.y': edits must hold at least one edit, and no else"),
        (
            lambda: Patch("x.y", (print,)),
            "Patch 'x.y': edits must hold at least one edit, and no else",
        ),  # type: ignore[arg-type]
        (lambda: Patch("x.y", Call("a", print)), None),  # type: ignore[arg-type]
        (
            lambda: Patch("x.y", (Call("a", print),), requires="torch"),
            "Patch 'x.y': requires must be a tuple, not 'torch'",
        ),
    ],
)
def test_bad_edits_and_patches(make: Any, message: str | None) -> None:
    with pytest.raises(AutopatchError) as caught:
        make()
    assert isinstance(caught.value, (PatchError, TargetError))
    if message is not None:
        assert str(caught.value) == message


def test_none_is_a_value_like_any_other() -> None:
    assert Replace("a:b", None).replacement is None
    assert Define("a:b", None).value is None


def test_triggers_are_named_once_in_order() -> None:
    patch = Patch(
        "x.y", (Define("m.b:x", 1), During("q:v", module="m.a", value=1), Define("m.b:y", 1))
    )
    assert patch.triggers == ("m.b", "m.a")

"""Compiled code runs the replacement, whichever way it was bound."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from mx_autopatch.model import Patch, Replace, Wrap

torch = pytest.importorskip("torch")

LIBRARY = """
    import torch

    def scale(x, by=2.0):
        return x * by

    class Layer(torch.nn.Module):
        def forward(self, x):
            return self.shift(x) + 1

        def shift(self, x):
            return x + 10

        @staticmethod
        def twice(x):
            return 2 * x

    def caller(x):
        return scale(x, by=3.0) + 1

    def method_caller(x):
        return Layer.twice(Layer()(x))
"""


def new_scale(x: Any, by: float = 2.0) -> Any:
    return x - by


def double(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return 2 * wrapped(*args, **kwargs)


ON_FUNCTION = {
    "plain": (Replace("clib:scale", new_scale), [-1.0]),
    "guard says yes": (
        Replace("clib:scale", new_scale, guard=lambda x, by=2.0: x.dim() == 1),
        [-1.0],
    ),
    "guard says no": (
        Replace("clib:scale", new_scale, guard=lambda x, by=2.0: x.dim() == 2),
        [4.0],
    ),
    "wrapped": (Wrap("clib:scale", double), [7.0]),
}

ON_METHODS = {
    "plain": (Replace("clib:Layer.shift", lambda self, x: x - 1), [2.0]),
    "guarded": (
        Replace("clib:Layer.shift", lambda self, x: x - 1, guard=lambda self, x: x.dim() == 1),
        [2.0],
    ),
    "wrapped": (Wrap("clib:Layer.shift", double), [46.0]),
    "static wrapped": (Wrap("clib:Layer.twice", double), [48.0]),
}


@pytest.fixture
def clib(write: Any, engine: Any) -> Any:
    write({"clib.py": LIBRARY})

    def patched(edit: Any) -> Any:
        torch._dynamo.reset()
        engine(Patch("clib.test", (edit,)))
        return importlib.import_module("clib")

    return patched


@pytest.mark.parametrize("case", ON_FUNCTION)
def test_a_caller_of_a_function(clib: Any, case: str) -> None:
    edit, expected = ON_FUNCTION[case]
    caller = clib(edit).caller
    x = torch.ones(1)
    assert caller(x).tolist() == expected
    assert torch.compile(caller, fullgraph=True, backend="eager")(x).tolist() == expected


@pytest.mark.parametrize("case", ON_METHODS)
def test_a_caller_of_a_method(clib: Any, case: str) -> None:
    edit, expected = ON_METHODS[case]
    caller = clib(edit).method_caller
    x = torch.ones(1)
    assert caller(x).tolist() == expected
    assert torch.compile(caller, fullgraph=True, backend="eager")(x).tolist() == expected


MARKED = """
    import torch

    @torch.compiler.disable
    def f(x):
        return x + 1
"""


def test_a_marker_of_the_original_does_not_reach_the_wrapper(write: Any, engine: Any) -> None:
    """torch.compiler.disable marks the original; what is bound in its place is compiled."""
    write({"clib.py": MARKED})
    original = importlib.import_module("clib").f
    assert any(name.startswith("_torchdynamo") for name in vars(original))
    engine(Patch("clib.test", (Replace("clib:f", new_scale, guard=lambda x: True),)))
    function = importlib.import_module("clib").f
    assert not any(name.startswith("_torchdynamo") for name in vars(function))
    compiled = torch.compile(lambda x: function(x), fullgraph=True, backend="eager")
    assert compiled(torch.ones(1)).tolist() == [-1.0]

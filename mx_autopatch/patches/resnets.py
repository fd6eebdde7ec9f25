"""What tells ResNets and their blocks, wherever they are written: the shape of ``forward``.

mmdet, mmseg, mmpretrain, mmpose, mmcv 1.x, torchvision and many projects have one of their
own each, of the same few shapes. Read with its layout and comments normalized, ``forward``
says which.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from types import CodeType, FunctionType
from typing import Any

__all__ = ["chip", "is_resnet", "pools_once", "residual_shape"]

# ``out += identity`` and its activation side by side, as in torchvision.
_FLAT = re.compile(r"^ +(\w+) \+= .+\n +\1 = self\.relu\(\1\)$", re.MULTILINE)
_RETURNED = re.compile(r"^ +(\w+) \+= .+\n +return self\.relu\(\1\)$", re.MULTILINE)

# The sum at the end of an inner function, which may be checkpointed, and its activation
# after that: as in mmcv 1.x and all that came of it.
_SUM = re.compile(r"^ +(\w+) \+= .+\n +return \1$", re.MULTILINE)
_AFTER = re.compile(
    r"""^\ +if\ .+:\n
         \ +(?P<out>\w+)\ =\ .*\bcheckpoint\((?P<inner>\w+),\ (?P<x>\w+).*\)\n
        \ +else:\n
         \ +(?P=out)\ =\ (?P=inner)\((?P=x)\)\n
        \ +(?P=out)\ =\ self\.relu\((?P=out)\)\n
        \ +return\ (?P=out)\Z""",
    re.MULTILINE | re.VERBOSE,
)

_POOL = re.compile(r"\bself\.maxpool\(\w+\)")


def residual_shape(cls: type) -> str:
    """How a block adds and activates: "flat", "returned", "checkpointed", or as none ("")."""
    text = _forward(cls, {"conv1", "relu"})
    if len(_FLAT.findall(text)) == 1:
        return "flat"
    if len(_RETURNED.findall(text)) == 1:
        return "returned"
    if len(_SUM.findall(text)) == 1 and text.count("\n    def ") == 1 and _AFTER.search(text):
        return "checkpointed"
    return ""


def pools_once(cls: type) -> bool:
    """Whether ``forward`` calls ``self.maxpool`` with one argument, in one place."""
    text = _forward(cls, {"maxpool"})
    return len(_POOL.findall(text)) == text.count("maxpool") == 1


def is_resnet(cls: type) -> bool:
    """Whether ``forward`` is that of a ResNet: a pooled stem, and layers numbered by stage."""
    names = _names(_function(cls))
    staged = "res_layers" in names or {"layer1", "layer2", "layer3", "layer4"} <= names
    return staged and pools_once(cls)


def _function(cls: type) -> FunctionType | None:
    # Another patch may have wrapped it: one that fires earlier for the same class.
    function = inspect.unwrap(vars(cls).get("forward", len))
    return function if isinstance(function, FunctionType) else None


def _names(function: FunctionType | None) -> set[str]:
    """The attributes and globals that a function uses, nested ones included."""
    names: set[str] = set()
    waiting = [function.__code__] if function is not None else []
    while waiting:
        code = waiting.pop()
        names.update(code.co_names)
        waiting += [part for part in code.co_consts if isinstance(part, CodeType)]
    return names


def _forward(cls: type, needed: set[str]) -> str:
    """The source of the class's own ``forward``, normalized; empty if it lacks a name."""
    function = _function(cls)
    if function is None or not needed <= _names(function):
        return ""  # known without reading a file, as of most of torch's own modules
    return _source(function.__code__)


@functools.lru_cache(maxsize=256)  # each shape is asked for by itself
def _source(code: CodeType) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError):  # no source: then it cannot be rewritten either
        return ""
    return ast.unparse(tree)


@functools.cache
def chip(device: Any) -> str:
    """The name of the NPU ``device``, as "Ascend910B1": not every one has every kernel."""
    import torch_npu

    name: str = torch_npu.npu.get_device_name(device)
    return name

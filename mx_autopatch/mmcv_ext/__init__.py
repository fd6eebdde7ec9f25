"""The content of the virtual compiled module ``mmcv._ext``, on ``mx_autopatch.ops``.

Calling convention of mmcv's own extension, mmcv 1.3 - 2.2: argument names and
order, and results written into the arguments meant for them. ``__all__`` holds
what works. Every other name that some release of mmcv asks for exists too,
because mmcv asserts that at import, but raises NotImplementedError when called;
``dir()`` lists both. Any other name raises AttributeError.

A loader that makes ``mmcv._ext`` of this copies ``__all__`` and what it names,
``__getattr__`` and ``__dir__``. Importing this module imports neither torch nor mmcv.
"""

# No ``from __future__ import annotations``: it would be a name that mmcv's module lacks.
from . import (
    _activation,
    _attention,
    _boxes,
    _boxes3d,
    _calls,
    _convolution,
    _features,
    _points,
    _pooling,
    _retired,
    _sparse,
    _sync_bn,
    _text,
    _voxels,
    _windows,
)
from ._missing import MissingOperator as _MissingOperator
from .names import NAMES as _NAMES

_MODULES = (
    _activation,
    _attention,
    _boxes,
    _boxes3d,
    _calls,
    _convolution,
    _features,
    _points,
    _pooling,
    _retired,
    _sparse,
    _sync_bn,
    _text,
    _voxels,
    _windows,
)

__all__ = sorted(name for module in _MODULES for name in module.__all__)

globals().update({name: getattr(m, name) for m in _MODULES for name in m.__all__})

# One object a name, so that ``_ext.carafe_forward is _ext.carafe_forward``.
_missing = {name: _MissingOperator(name) for name in _NAMES if name not in __all__}


def __getattr__(name: str) -> _MissingOperator:
    try:
        return _missing[name]
    except KeyError:
        raise AttributeError(f"module 'mmcv._ext' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*__all__, *_NAMES})

"""Fixtures of the extension's tests."""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Iterator

import pytest

from mx_autopatch import mmcv_ext


def _fresh_module() -> types.ModuleType:
    """As the engine makes it of ours."""
    module = types.ModuleType("mmcv._ext")
    for name in ("__all__", "__getattr__", "__dir__", *mmcv_ext.__all__):
        setattr(module, name, getattr(mmcv_ext, name))
    return module


@pytest.fixture
def fresh_module() -> types.ModuleType:
    return _fresh_module()


@pytest.fixture(scope="module")
def ops() -> Iterator[types.ModuleType]:
    """``mmcv.ops``, on our module until the engine provides it.

    It stays imported: mmcv registers its layers, and cannot be imported twice.
    """
    mine = _fresh_module()
    present = sys.modules.setdefault("mmcv._ext", mine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of mmcv's and its dependencies' own
        yield importlib.import_module("mmcv.ops")
    if present is mine:
        del sys.modules["mmcv._ext"]

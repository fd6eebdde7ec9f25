"""mmcv's Functions on the soft NPU: torch.compile, and unusual ways to differentiate.

mmcv-lite, unmodified, in one process of its own; see compiled_functions.py.
"""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest
from helpers import HERE, environment, python

if importlib.util.find_spec("mmcv") is None:
    pytest.skip("mmcv is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    script = HERE / "softnpu" / "compiled_functions.py"
    folder = tmp_path_factory.mktemp("compiled")
    # mmcv and what it imports warn of deprecations of their own.
    done = python(script, cwd=folder, env=environment(active=True), warnings=False, timeout=300)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_one_graph_on_the_cpu_and_on_npu(results: dict[str, Any]) -> None:
    """The patches leave what other devices compute as easy to trace as mmcv has it."""
    assert results["wrong"] == {}


def test_unusual_ways_to_differentiate(results: dict[str, Any]) -> None:
    assert results["differentiated"] == {
        "retained": True,
        "freed": True,
        "twice": True,
        "kept": False,
        "without": False,
    }

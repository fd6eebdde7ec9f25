"""mmcv 1.7's operators on the soft NPU, by the scripts that the lane "npu" runs on mmcv 2.2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import HERE, environment, python

SCRIPTS = {
    "mmcv_on_npu.py": 23,
    "compiled_functions.py": 0,
    "sparse_on_npu.py": 22,
    "sparse_on_npu.py mx_driving": 22,
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_as_on_the_cpu(tmp_path: Path, script: str) -> None:
    name, *arguments = script.split()
    path = HERE / "softnpu" / name
    env = environment([path.parent], active=True)
    # mmcv and what it imports warn of deprecations of their own.
    done = python(path, *arguments, cwd=tmp_path, env=env, warnings=False, timeout=300)
    wrong = json.loads(done.stdout)["wrong"]
    assert {name: text for name, text in wrong.items() if text} == {}
    assert len(wrong) >= SCRIPTS[script]

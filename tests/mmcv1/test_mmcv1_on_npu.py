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


FILTERS = """
import sys

import torch
from mmcv.ops import upfirdn2d

torch.manual_seed(0)
image, kernel = torch.randn(2, 3, 7, 6), torch.rand(3, 2)
native = sys.modules["mmcv.ops.upfirdn2d"].upfirdn2d_native
calls = {
    "mmcv's own": (lambda x, k: native(x, k, 2, 3, 2, 2, 1, 0, 2, 1), "cpu"),
    "cpu": (lambda x, k: upfirdn2d(x, k, (2, 3), 2, (1, 0, 2, 1)), "cpu"),
    "npu": (lambda x, k: upfirdn2d(x, k, (2, 3), 2, (1, 0, 2, 1)), "npu"),
}
results = {}
for name, (f, device) in calls.items():
    x = image.to(device).requires_grad_()
    out = f(x, kernel.to(device))
    weight = torch.arange(1.0, out.numel() + 1).cos().view(out.shape).to(device)
    (grad,) = torch.autograd.grad((out * weight).sum(), x)
    results[name] = [out.cpu(), grad.cpu()]
    torch.testing.assert_close(results[name], results["mmcv's own"])
print(*results)
"""


@pytest.mark.parametrize("disabled", ["", "mmcv.upfirdn2d"])
def test_filters_have_another_calling_convention(tmp_path: Path, disabled: str) -> None:
    """With the patch, and by the extension's function on npu."""
    (tmp_path / "filters.py").write_text(FILTERS)
    env = environment(active=True, MX_AUTOPATCH_DISABLE=disabled)
    done = python("filters.py", cwd=tmp_path, env=env, warnings=False, timeout=120)
    assert done.stdout == "mmcv's own cpu npu\n"

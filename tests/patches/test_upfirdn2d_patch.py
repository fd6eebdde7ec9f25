"""mmcv.upfirdn2d: what mmcv's own reference gives, with gradients, on the CPU and on npu."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import HAS_TORCH_NPU, environment, python, write_files

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "mmcv")), reason="needs torch and mmcv"
)

SCRIPT = """
import itertools
import json
import sys

import torch
from mmcv.ops import filtered_lrelu, upfirdn2d

from mx_autopatch import report

torch.set_num_threads(1)
torch.manual_seed(0)
FILTERS = [torch.rand(3, 2), torch.rand(4), None]
SIZES = [
    {},
    {"up": 2, "padding": [2, 1, 2, 1], "gain": 4},
    {"down": [2, 3], "padding": [-1, 2], "flip_filter": True},
    {"up": [2, 1], "down": [3, 2], "padding": 1},
]


def results(image, filter, **options):
    x = image.clone().requires_grad_()
    output = upfirdn2d(x, filter, **options)
    weight = torch.arange(1.0, output.numel() + 1).cos().view(output.shape).to(output)
    (grad,) = torch.autograd.grad((output * weight).sum(), x)
    return [output.detach().cpu(), grad.cpu()]


wrong, count = [], 0
dtypes = torch.float32, torch.float64, torch.float16
for filter, options, dtype in itertools.product(FILTERS, SIZES, dtypes):
    image = torch.randn(2, 3, 7, 6).to(dtype)
    want = results(image, filter, use_custom_op=False, **options)
    for device in sys.argv[1:]:
        moved = None if filter is None else filter.to(device)
        tolerance = 4e-3 if dtype == torch.float16 else 1e-5
        count += 1
        try:
            got = results(image.to(device), moved, **options)
            torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
        except AssertionError as error:
            wrong.append(f"{filter is None or filter.shape} {options} {dtype} {device}: {error}")

kernel = torch.rand(3, 2).requires_grad_()
of_kernel = None
try:
    upfirdn2d(torch.randn(1, 1, 5, 5), kernel)
except AssertionError:
    of_kernel = "mmcv's own assertion"
traced = torch.jit.trace(lambda x: upfirdn2d(x, FILTERS[0]), torch.randn(1, 2, 5, 5))
compiled = torch.compile(
    lambda x: upfirdn2d(x, FILTERS[0]), fullgraph=True, backend="aot_eager"
)(torch.ones(1, 2, 5, 5))
assert torch.equal(compiled, upfirdn2d(torch.ones(1, 2, 5, 5), FILTERS[0]))
activated = filtered_lrelu(torch.randn(1, 2, 5, 5), FILTERS[1], FILTERS[1], None, 2, 2, 3)
print(json.dumps({
    "wrong": wrong,
    "count": count,
    "kernel": of_kernel,
    "traced": "mx_autopatch" in str(traced.inlined_graph),
    "activated": list(activated.shape),
    "outcomes": [str(o.status) for o in report().of("mmcv.upfirdn2d")],
}))
"""


def test_as_the_reference(tmp_path: Path) -> None:
    write_files(tmp_path, {"filters.py": SCRIPT})
    devices = ["cpu", "npu"] if HAS_TORCH_NPU else ["cpu"]
    env = environment(active=True)
    done = python("filters.py", *devices, cwd=tmp_path, env=env, warnings=False, timeout=120)
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["count"] == 36 * len(devices)
    assert found["kernel"] == "mmcv's own assertion"
    assert found["traced"] is False
    assert found["activated"] == [1, 2, 5, 5]
    assert found["outcomes"] == ["APPLIED"]

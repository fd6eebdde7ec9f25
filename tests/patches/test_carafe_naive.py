"""mmcv.carafe_naive on the installed mmcv-lite: gradients on the CPU, and on an NPU."""

from __future__ import annotations

from pathlib import Path

from helpers import HAS_TORCH_NPU
from test_mmcv import START, pytestmark, run  # noqa: F401

CODE = """
import torch
from mmcv.ops import carafe, carafe_naive

torch.manual_seed(0)
tensors = [torch.randn(1, 4, 3, 2), torch.rand(1, 18, 6, 4)]
grads = []
for function, device in ((carafe, "cpu"), (carafe_naive, "cpu"), (carafe_naive, "DEVICE")):
    leaves = [t.to(device).requires_grad_() for t in tensors]
    output = function(*leaves, 3, 2, 2)
    grads.append([g.cpu() for g in torch.autograd.grad(output.square().sum(), leaves)])
for grad in grads[1:]:
    torch.testing.assert_close(grad, grads[0])
print("equal")
"""


def test_gradients_are_those_of_carafe(tmp_path: Path) -> None:
    code = CODE.replace("DEVICE", "npu" if HAS_TORCH_NPU else "cpu")
    done = run(START + code, tmp_path, MX_AUTOPATCH="1")
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr
    done = run(START + code, tmp_path, MX_AUTOPATCH="1", MX_AUTOPATCH_DISABLE="mmcv.carafe_naive")
    assert done.returncode == 1
    assert "AssertionError" in done.stderr

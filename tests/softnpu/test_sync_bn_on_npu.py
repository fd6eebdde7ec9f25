"""mmcv.sync_bn: mmcv's synchronized batch normalization on the soft NPU."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from helpers import environment, python, write_files

if importlib.util.find_spec("mmcv") is None:
    pytest.skip("mmcv is not installed", allow_module_level=True)

SCRIPT = """
import json

import torch
import torch.distributed as dist
from mmcv.ops import SyncBatchNorm
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
dist.init_process_group("gloo", "tcp://127.0.0.1:0", rank=0, world_size=1)
state = {"weight": torch.rand(3), "bias": torch.rand(3)}


def results(kind, dtype, device):
    layer = kind(3).to(device)
    layer.load_state_dict(state, strict=False)
    g = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, 5, 6, generator=g).to(dtype).to(device).requires_grad_()
    output = layer(x)
    weight = torch.arange(1.0, output.numel() + 1).cos().view(output.shape).to(output)
    (output * weight).sum().backward()
    tensors = output, x.grad, layer.weight.grad, layer.bias.grad, layer.running_mean
    return [t.detach().float().cpu() for t in (*tensors, layer.running_var)]


found = {}
for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 1e-2)):
    want = results(nn.BatchNorm2d, dtype, "cpu")
    try:
        got = results(SyncBatchNorm, dtype, "npu")
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
        found[str(dtype)] = "as BatchNorm2d on the CPU"
    except AssertionError as error:
        found[str(dtype)] = str(error)
try:
    SyncBatchNorm(3).to("npu")(torch.ones(1, 3, 2, 2, device="npu", dtype=torch.float64))
except AssertionError as error:
    found["double"] = str(error)
print(json.dumps(found))
dist.destroy_process_group()
"""

RIGHT = {
    "torch.float32": "as BatchNorm2d on the CPU",
    "torch.float16": "as BatchNorm2d on the CPU",
}
REFUSED = "only support Half or Float Tensor, but torch.npu."


@pytest.mark.parametrize("disabled", ["", "torch.transfer_to_npu"])
def test_sync_bn(tmp_path: Path, disabled: str) -> None:
    """The script says npu, so that it makes no difference whether cuda means npu."""
    write_files(tmp_path, {"norm.py": SCRIPT})
    env = environment(active=True, MX_AUTOPATCH_DISABLE=disabled)
    done = python("norm.py", cwd=tmp_path, env=env, warnings=False, timeout=120)
    assert json.loads(done.stdout) == {**RIGHT, "double": f"{REFUSED}DoubleTensor"}


def test_without_the_patch(tmp_path: Path) -> None:
    write_files(tmp_path, {"norm.py": SCRIPT})
    env = environment(active=True, MX_AUTOPATCH_DISABLE="torch.transfer_to_npu,mmcv.sync_bn")
    done = python("norm.py", cwd=tmp_path, env=env, warnings=False, timeout=120)
    found = json.loads(done.stdout)
    assert found["torch.float32"] == f"{REFUSED}FloatTensor"

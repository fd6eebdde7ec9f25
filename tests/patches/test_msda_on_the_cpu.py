"""mmcv.msda on the CPU: the function that mmcv has for it is our operator, but in a trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import HAS_TORCH_NPU
from test_mmcv import START, pytestmark, run  # noqa: F401

CODE = """
import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch as attend
from mx_autopatch.verify.references.attention import ms_deform_attn as plain

torch.manual_seed(0)
shapes = torch.tensor([[4, 3], [2, 2]])
value, places = torch.randn(2, 16, 2, 3), torch.rand(2, 4, 2, 2, 2, 2)
weights = torch.rand(2, 4, 2, 2, 2)
with torch.profiler.profile() as profile:
    got = attend(value, shapes, places, weights)
torch.testing.assert_close(got, plain(value, shapes, torch.tensor([0, 12]), places, weights))
print("mx_autopatch::ms_deform_attn" in {event.key for event in profile.key_averages()})

# Others may load it without us.
traced = torch.jit.trace(lambda v: attend(v, shapes, places, weights), value, check_trace=False)
print("mx_autopatch" in str(traced.inlined_graph))
torch.testing.assert_close(traced(value), got)
"""


@pytest.mark.skipif(HAS_TORCH_NPU, reason="the profiler is torch_npu's there")
def test_it_is_ours_unless_traced(tmp_path: Path) -> None:
    code = "import warnings\nwarnings.simplefilter('ignore')\n" + START + CODE
    done = run(code, tmp_path, MX_AUTOPATCH="1")
    assert (done.returncode, done.stdout) == (0, "True\nFalse\n"), done.stderr

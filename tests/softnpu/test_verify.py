"""``verify`` on the soft NPU: the vendor's kernels are found, used and compared."""

from __future__ import annotations

import json

import pytest
import torch

from mx_autopatch.cli.app import parse
from mx_autopatch.verify.cases import CHECKS
from mx_autopatch.verify.runner import verify


@pytest.mark.parametrize("args", [("--device", "soft", "verify"), ("verify", "--device", "npu")])
def test_the_command(capsys: pytest.CaptureFixture[str], args: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([*args, "--json", "roi_align", "psa_mask"])
    found = json.loads(capsys.readouterr().out)
    assert (ended.value.code, found["device"]) == (0, "npu")
    kernels = {each["name"]: each["kernel"] for each in found["operators"]}
    assert kernels == {"roi_align": "torch_npu", "psa_mask": "portable"}
    assert [each["failures"] for each in found["operators"]] == [[], []]


@pytest.mark.parametrize("name", ["deform_conv2d", "modulated_deform_conv2d", "ms_deform_attn"])
def test_bound_operators(name: str) -> None:
    verdict = verify(CHECKS[name], torch.device("npu"), seed=1)
    assert verdict.failures == []
    assert verdict.kernel == ("portable" if name == "ms_deform_attn" else "torch_npu")

"""What ``scan`` says of torch.cuda, beside the installed torch_npu."""

from __future__ import annotations

import torch

from mx_autopatch.scan.rules import NO_COUNTERPART


def test_what_has_no_counterpart_in_torch_npu_is_what_the_rule_says() -> None:
    for name in NO_COUNTERPART:
        assert getattr(torch.npu, name, None) is None, name
    used = ("Stream", "Event", "amp", "synchronize", "empty_cache", "memory_allocated")
    for name in (*used, "device_count", "current_device", "manual_seed_all", "stream"):
        assert hasattr(torch.npu, name)
        assert name not in NO_COUNTERPART

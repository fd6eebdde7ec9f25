"""The Patcher API's setting of the NPU's own tensor formats, in torch_npu itself."""

from __future__ import annotations

from typing import Any

import torch_npu

from mx_autopatch.patcher import Patcher, PatcherBuilder


def option() -> Any:
    return torch_npu._C._npu_getOption("ALLOW_INTERNAL_FORMAT")


def test_it_is_off_by_default_on_when_asked_for_and_taken_back() -> None:
    before = option()
    torch_npu.npu.config.allow_internal_format = True
    try:
        with PatcherBuilder().build():
            assert option() == b"disable"
            with PatcherBuilder().build(allow_internal_format=True):
                assert option() == b"enable"
            assert option() == b"disable"
        assert option() == b"enable"
        patcher = Patcher({}, set(), True).apply()
        assert option() == b"enable"
        states = [patcher.disallow_internal_format(), option()]
        states += [patcher.allow_internal_format(), option(), patcher.apply(False), option()]
        assert states[1::2] == [b"disable", b"enable", b"disable"]
        patcher.revert()
    finally:
        torch_npu.npu.config.allow_internal_format = before != b"disable"

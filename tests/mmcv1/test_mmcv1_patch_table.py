"""With mmcv 1.x becomes of every patch what the README's table says."""

from __future__ import annotations

import patch_table
import pytest


@pytest.mark.timeout(600)
def test_every_target_is_there_with_mmcv_1() -> None:
    assert patch_table.lane() == "mmcv1"
    assert patch_table.differences() == [], patch_table.ANEW

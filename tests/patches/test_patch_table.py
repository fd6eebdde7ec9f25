"""The README's table of patches is what the patches say, and what becomes of them here."""

from __future__ import annotations

import patch_table
import pytest


def test_the_readme_has_the_table() -> None:
    stored = patch_table.stored()
    text = patch_table.README.read_text(encoding="utf-8")
    assert patch_table.in_readme(text) == patch_table.render(stored), patch_table.ANEW


@pytest.mark.parametrize("lane", patch_table.LANES)
def test_every_patch_was_measured_in_every_lane(lane: str) -> None:
    patches = patch_table.stored()[lane]["patches"]
    assert list(patches) == patch_table.names(), patch_table.ANEW
    assert [fault for each in patches.values() for fault in each["faults"]] == []


@pytest.mark.timeout(600)
def test_every_target_is_there_in_this_lane() -> None:
    # tests/mmcv1 asks the same of its lane.
    assert patch_table.differences() == [], patch_table.ANEW

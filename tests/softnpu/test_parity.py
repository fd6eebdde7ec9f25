"""A seeded part of the parity run; the whole of it is ``make parity``."""

from __future__ import annotations

import random

import parity
import pytest
import torch
from parity_compare import Disagreement, compare, placed
from parity_known import KNOWN

#: Another part of the operators from time to time: a number that is changed by hand.
SEED = 20261124


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_part_of_torchs_operators_agrees_with_the_cpu():
    tally = parity.run(random.Random(SEED).sample(parity.operators(), 40), limit=1)
    assert sum(tally.checks.values()) > 300
    assert len(tally.overloads) > 50
    assert [str(each) for each in parity.unexplained(tally.failures)] == []


def test_known_differences_are_of_operators_that_there_are():
    names = {parity.full_name(info) for info in parity.operators()}
    assert {name for known in KNOWN for name in known.operators} <= names


def test_a_known_difference_explains_its_own_failures_only():
    known = next(known for known in KNOWN if "mode" in known.operators)
    mine = parity.Failure("mode", "out", "float32", 0, f"RuntimeError: {known.text}, got: npu")
    other = mine._replace(reason="shape (1,) instead of (2,)")
    assert parity.unexplained([mine, other]) == [other]


def test_an_entry_that_agrees_is_reported():
    tally = parity.Tally()
    tally.operators.add("mode")
    (text,) = parity.stale(tally)
    assert "mode" in text
    assert "take it out of parity_known.py" in text
    assert parity.report(tally, 0.0) == 1


def test_samples_are_placed_as_they_lie_in_memory():
    memory = torch.arange(12.0)
    window, same = memory[2:8].view(2, 3).t(), memory.expand(2, 12)
    one, two, again = placed((window, same, window), torch.device("npu:0"))
    assert (one.stride(), one.storage_offset()) == (window.stride(), 2)
    assert two.stride() == (0, 1)
    assert again is one
    assert one.untyped_storage().data_ptr() == two.untyped_storage().data_ptr()
    one.zero_()
    assert two[0].tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 8, 9, 10, 11]
    assert memory[2] == 2


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (torch.zeros(2, 3), "is on cpu"),
        (torch.zeros(2, 3, device="npu", dtype=torch.float64), "dtype"),
        (torch.zeros(3, 2, device="npu"), "shape"),
        (torch.zeros(3, 2, device="npu").t(), "stride"),
        (torch.ones(2, 3, device="npu"), "not close"),
    ],
)
def test_each_kind_of_difference_is_seen(other, what):
    compare(torch.zeros(2, 3), torch.zeros(2, 3, device="npu"))
    with pytest.raises(Disagreement, match=what):
        compare(torch.zeros(2, 3), other)

"""How far a result is from its reference."""

from __future__ import annotations

import pytest
import torch

from mx_autopatch.verify.comparison import Mismatch, difference


def test_relative_to_the_largest_value_and_in_tolerances() -> None:
    error, measure = difference(torch.tensor([1.0, 100.01]), torch.tensor([1.0, 100.0]).double())
    assert error == pytest.approx(1e-4, rel=1e-2)
    assert measure == pytest.approx(5, rel=1e-2)


def test_one_rounding_is_no_error_however_small_the_number() -> None:
    exact = torch.tensor([2.1e-6, 5e-8, 0.0], dtype=torch.float64)
    assert difference(exact.half(), exact)[1] < 1
    wrong = exact.half() + 3 * 2.0**-24
    assert difference(wrong, exact)[1] > 1


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        (torch.ones(2), torch.ones(3).double(), r"shape \(2,\) instead of \(3,\)"),
        (torch.ones(2).int(), torch.ones(2).double(), "torch.int32 instead of torch.float64"),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), "1 of 2 integers differ"),
        (torch.tensor([torch.nan]), torch.ones(1).double(), "other elements are NaN or infinite"),
        (torch.tensor([torch.inf]), torch.tensor([-torch.inf]).double(), "of the other sign"),
        ((torch.ones(1), torch.ones(1)), torch.ones(1).double(), "2 results instead of 1"),
    ],
)
def test_results_of_another_kind(got: object, expected: object, words: str) -> None:
    with pytest.raises(Mismatch, match=words):
        difference(got, expected)


def test_what_the_dtype_cannot_hold_is_infinite() -> None:
    assert difference(torch.tensor([torch.inf]).half(), torch.tensor([1e6]).double()) == (0, 0)

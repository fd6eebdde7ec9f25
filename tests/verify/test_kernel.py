"""Whose kernel computed a call; torch_npu's are in tests/softnpu/test_verify.py."""

from __future__ import annotations

import sys
from types import FunctionType

import pytest

from mx_autopatch.verify.kernel import kernel_of


def _of(module: str, body: FunctionType) -> FunctionType:
    """The function, as one of that module's."""
    return FunctionType(body.__code__, {"__name__": module})


def test_functions_of_mx_driving_are_recognised() -> None:
    def body() -> None:
        pass

    theirs, other = _of("mx_driving.ops.boxes", body), _of("mx_driving_tools", body)
    assert kernel_of(lambda: theirs()) == "mx_driving"
    assert kernel_of(lambda: other()) == "portable"


def test_a_profiler_that_was_there_stays_also_after_an_exception() -> None:
    def watch(*event: object) -> None:
        pass

    former = sys.getprofile()
    sys.setprofile(watch)
    try:
        with pytest.raises(ZeroDivisionError):
            kernel_of(lambda: 1 / 0)
        assert sys.getprofile() is watch
    finally:
        sys.setprofile(former)

"""numpy.aliases on the installed numpy."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest

from mx_autopatch import bootstrap

np: Any = pytest.importorskip("numpy")


@pytest.fixture
def patched(engine: Any) -> Any:
    return engine(patches__only=["numpy.aliases"])


def test_removed_names_mean_what_they_meant(patched: Any) -> None:
    assert (np.float, np.int, np.object, np.str, np.complex) == (float, int, object, str, complex)
    assert np.zeros(2, dtype=np.float).dtype == np.float64
    assert np.dtype(np.float_) == np.float64
    assert np.array([1], dtype=np.bool).dtype == np.bool_
    assert np.dtype(np.long).kind == "i"
    assert math.isnan(np.NaN)
    assert (np.Inf, np.NINF, np.PINF) == (math.inf, -math.inf, math.inf)
    assert math.copysign(1, np.NZERO) == -1
    assert np.alltrue([True, True])
    assert np.product([2, 3]) == 6
    assert np.trapz([1, 1, 1]) == 2


def test_names_that_numpy_has_stay_its_own(engine: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = {name: getattr(np, name, None) for name in ("bool", "long", "trapz", "in1d")}
    engine(patches__only=["numpy.aliases"])
    for name, value in own.items():
        if value is not None:
            assert getattr(np, name) is value


def test_no_warning_and_all_taken_back(engine: Any) -> None:
    before = set(vars(np))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = engine(patches__only=["numpy.aliases"])
    statuses = {str(o.status) for o in report() if o.patch == "numpy.aliases"}
    assert statuses <= {"LATE", "UNMET"}
    assert "LATE" in statuses
    bootstrap.deactivate()
    assert set(vars(np)) == before
    with pytest.raises(AttributeError, match=r"np\.float"):
        _ = np.float

"""How far a result is from its reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["TOLERANCES", "Mismatch", "difference"]

#: Of the largest value. Half precision: one rounding, which is half of it; float32: what
#: sums of a few hundred numbers lose.
TOLERANCES = {
    torch.float32: 2e-5,
    torch.float16: 2.0**-10,
    torch.bfloat16: 2.0**-7,
    torch.float64: 1e-10,
}


class Mismatch(Exception):
    """Results that are not of one kind, or of which some are NaN or infinite alone."""


def difference(got: Any, expected: Any) -> tuple[float, float]:
    """The largest error, relative to the largest value of its tensor; and in tolerances.

    Integers and truth values are right (0) or wrong (1 and infinitely many tolerances).
    """
    error = measure = 0.0
    ours, theirs = list(_tensors(got)), list(_tensors(expected))
    if len(ours) != len(theirs):
        raise Mismatch(f"{len(ours)} results instead of {len(theirs)}")
    for one, other in zip(ours, theirs):
        found = _one(one.detach().cpu(), other.detach())
        error = max(error, found)
        measure = max(measure, found / TOLERANCES.get(one.dtype, 0.0) if found else 0.0)
    return error, measure


def _one(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape:
        raise Mismatch(f"shape {tuple(got.shape)} instead of {tuple(expected.shape)}")
    if got.is_floating_point() is not expected.is_floating_point():
        raise Mismatch(f"{got.dtype} instead of {expected.dtype}")
    if not got.numel():
        return 0.0
    if not got.is_floating_point():
        wrong = int((got != expected).sum())
        if wrong:
            raise Mismatch(f"{wrong} of {got.numel()} integers differ")
        return 0.0
    # What the dtype cannot hold is infinite in the reference, too.
    rounded = expected.to(got.dtype)
    finite = rounded.isfinite()
    strange = ~finite
    if not torch.equal(got.isfinite(), finite):
        raise Mismatch("other elements are NaN or infinite")
    if not torch.equal(got[strange].nan_to_num(nan=0.5), rounded[strange].nan_to_num(nan=0.5)):
        raise Mismatch("NaN instead of infinity, or of the other sign")
    off = (got.double() - expected.double())[finite].abs()
    # The smallest numbers that the dtype has are further apart than the others.
    limits = torch.finfo(got.dtype)
    off = (off - limits.tiny * limits.eps / 2).clamp(min=0)
    largest = float(expected[finite].abs().max()) if bool(finite.any()) else 0.0
    worst = float(off.max()) if off.numel() else 0.0
    return worst / largest if largest else worst


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif value is not None and not isinstance(value, (list, tuple)):
        raise TypeError(f"a result of type {type(value).__name__}")
    elif value and not isinstance(value[0], (Tensor, list, tuple)):
        yield torch.tensor(value, dtype=torch.float32)
    else:
        for each in value or ():
            yield from _tensors(each)

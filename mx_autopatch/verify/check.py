"""What is known of an operator in order to verify it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from mx_autopatch.verify.source import Source

__all__ = ["Arguments", "Check"]

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """How to call an operator.

    Attributes:
        name: of the operator, ``mx_autopatch::<name>``.
        function: the public function.
        reference: computes the same in another way, of float64 tensors on the CPU.
        inputs: its arguments, of a number of boxes, points or the like; tensors are
            float64 or integer and on the CPU.
        grads: arguments that it is differentiable in.
        special: arguments that may be NaN, or huge.
        huge: those that may be huge, where these are others.
        variants: further options, each with the cases "random" and "one".
        smallest: number that it can do with.
        size: number in the cases.
        typical: number where the time is taken.
        fixed: floating arguments that keep float32 whatever the dtype.
        tied: options with which equal numbers leave one result only.
        loss: how many times the dtype's tolerance it may be off, and why is said beside it.
    """

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: Callable[[Source, int], Arguments]
    grads: tuple[str, ...] = ()
    special: tuple[str, ...] = ()
    huge: tuple[str, ...] | None = None
    variants: tuple[Mapping[str, Any], ...] = ()
    smallest: int = 0
    size: int = 6
    typical: int = 256
    fixed: tuple[str, ...] = ()
    tied: Mapping[str, Any] = field(default_factory=dict)
    loss: float = 1.0

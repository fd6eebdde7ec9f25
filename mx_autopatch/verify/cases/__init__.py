"""How to call each operator, by family."""

from __future__ import annotations

from mx_autopatch.verify.check import Check

from . import activations, boxes, features, points, pooling, voxels

__all__ = ["CHECKS"]

#: By the operator's name.
CHECKS: dict[str, Check] = {
    check.name: check
    for family in (activations, boxes, features, points, pooling, voxels)
    for check in sorted(family.CHECKS, key=lambda check: check.name)
}

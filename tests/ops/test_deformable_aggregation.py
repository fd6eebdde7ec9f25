"""deformable_aggregation against loops over points, cameras and scales in float64."""

from __future__ import annotations

import sys

import pytest
import torch
from operator_checks import (
    assert_agree,
    assert_arguments_are_left_alone,
    assert_rounded_once,
    assert_strides_do_not_matter,
    random,
)

from mx_autopatch.ops import deformable_aggregation
from mx_autopatch.ops.deformable_aggregation import deformable_aggregation_op
from mx_autopatch.verify.references import attention as plain

# Two cameras with two scales each, of which the second camera has smaller maps.
SHAPES = torch.tensor([[[3, 4], [2, 2]], [[2, 3], [1, 1]]], dtype=torch.int32)
STARTS = torch.tensor([[0, 12], [16, 22]], dtype=torch.int32)
PIXELS, GROUPS, CHANNELS = 23, 2, 6


def arguments(batch: int = 2, anchors: int = 3, points: int = 2) -> list[torch.Tensor]:
    """Some locations are outside, some within half a pixel of the border."""
    locations = random(batch, anchors, points, 2, 2, seed=1) * 0.4 + 0.5
    locations[0, 0, 0, 0] = torch.tensor([0.02, 0.99])
    weights = random(batch, anchors, points, 2, 2, GROUPS, seed=2)
    return [random(batch, PIXELS, CHANNELS), locations, weights]


def by_points(maps: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return plain.deformable_aggregation(maps, SHAPES, STARTS, locations, weights)


def op(maps: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return deformable_aggregation(maps, SHAPES, STARTS, locations, weights)


@pytest.mark.parametrize("size", [(2, 3, 2), (1, 1, 1), (1, 4, 3)])
def test_values_and_gradients(size: tuple[int, int, int]) -> None:
    assert_agree(op, by_points, arguments(*size), wrt=(0, 1, 2))


def test_int64_tables() -> None:
    maps, locations, weights = arguments()
    got = deformable_aggregation(maps, SHAPES.long(), STARTS.long(), locations, weights)
    assert torch.equal(got, op(maps, locations, weights))


@pytest.mark.parametrize("beyond", [0.0, 1.0, -0.01, 7.0, float("nan"), float("inf")])
def test_a_point_that_no_camera_sees(beyond: float) -> None:
    maps, locations, weights = arguments()
    maps[:] = float("inf")
    locations[..., 0] = beyond
    locations.requires_grad_()
    weights.requires_grad_()
    out = op(maps, locations, weights)
    assert not out.any()
    out.sum().backward()
    for tensor in (locations, weights):
        assert tensor.grad is not None
        assert not tensor.grad.any()


@pytest.mark.parametrize("size", [(0, 3, 2), (2, 0, 2), (2, 3, 0)])
def test_empty(size: tuple[int, int, int]) -> None:
    tensors = [t.requires_grad_() for t in arguments(2, 1, 1)] if size == (2, 3, 0) else None
    maps = random(size[0], PIXELS, CHANNELS).requires_grad_()
    locations = torch.zeros(*size, 2, 2, dtype=torch.float64)
    weights = torch.zeros(*size, 2, 2, GROUPS, dtype=torch.float64)
    out = op(maps, locations, weights)
    assert out.shape == (*size[:2], CHANNELS)
    assert not out.any()
    out.sum().backward()
    assert maps.grad is not None
    assert not maps.grad.any()
    assert tensors is None or op(*tensors).shape == (2, 1, CHANNELS)


def test_many_points_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    # By name, since the package has a function of that name.
    monkeypatch.setattr(sys.modules[deformable_aggregation.__module__], "_NUMBERS", 100)
    assert_agree(op, by_points, arguments(), wrt=(0, 1, 2))


def test_contracts() -> None:
    assert_rounded_once(op, arguments(), wrt=(0, 2))
    assert_strides_do_not_matter(op, arguments(), wrt=(0, 1, 2))
    assert_arguments_are_left_alone(op, arguments())


def test_gradcheck_and_opcheck() -> None:
    tensors = [t.requires_grad_() for t in arguments()]
    assert torch.autograd.gradcheck(op, tensors)
    maps, locations, weights = tensors
    torch.library.opcheck(deformable_aggregation_op, (maps, SHAPES, STARTS, locations, weights))


def test_bad_arguments() -> None:
    maps, locations, weights = arguments()
    with pytest.raises(TypeError, match=r"spatial_shape: expected torch\.int32 or"):
        deformable_aggregation(maps, SHAPES.float(), STARTS, locations, weights)
    with pytest.raises(ValueError, match=r"scale_start_index: expected shape \(2, 2\), got \(2,"):
        deformable_aggregation(maps, SHAPES, STARTS[0], locations, weights)
    with pytest.raises(ValueError, match=r"weights: expected shape \(2, 3, 2, 2, 2, groups\)"):
        deformable_aggregation(maps, SHAPES, STARTS, locations, weights[:, :2])
    with pytest.raises(ValueError, match="divides the 6 channels of feature_maps, got 4"):
        op(maps, locations, torch.cat((weights, weights), -1))
    with pytest.raises(ValueError, match="expected maps within the 22 pixels"):
        op(maps[:, 1:], locations, weights)

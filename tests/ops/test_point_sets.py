"""Convex hulls of point sets, points in polygons and sorted corners, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_box_iou import quadri
from torch.library import opcheck

from mx_autopatch.ops import _polygons, point_sets, polygon_points
from mx_autopatch.ops.point_sets import convex_giou, convex_iou, min_area_polygons
from mx_autopatch.ops.polygon_points import points_in_polygons, sort_vertices
from mx_autopatch.verify.references import boxes as whole
from mx_autopatch.verify.references import points as loops
from mx_autopatch.verify.references import polygons as plain


def sets(n, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    centre = torch.rand(n, 1, 2, generator=g, dtype=torch.float64) * 20
    spread = torch.randn(n, 9, 2, generator=g, dtype=torch.float64) * 4
    return (centre + spread).flatten(1).to(dtype)


# Points of a small grid: points that coincide, lie in a line, or are all the same.
def grid_sets(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    size = torch.randint(1, 5, (n, 1), generator=g)
    return (torch.rand(n, 18, generator=g) * size).floor().double()


@pytest.mark.parametrize("make", [sets, grid_sets])
def test_hulls(make):
    points = make(60)
    x, y = points[:, 0::2], points[:, 1::2]
    for px, py, index in zip(x.numpy(), y.numpy(), _polygons.hull(x, y).numpy()):
        found = np.stack((px[index], py[index]), 1)
        want = plain.convex_hull(np.stack((px, py), 1))
        assert plain.area(found) == pytest.approx(plain.area(want) if len(want) > 2 else 0)
        assert set(map(tuple, want)) <= set(map(tuple, found))
        assert tuple(found[0]) == min(zip(px, py), key=lambda p: (p[1], p[0]))
        if len(want) > 2:
            turn = np.roll(found, -1, 0) - found
            corner = turn[:, 0] * np.roll(turn[:, 1], -1) - turn[:, 1] * np.roll(turn[:, 0], -1)
            assert (corner >= -1e-9).all()


def test_iou():
    points, polygons = sets(8), quadri(6, seed=1)
    torch.testing.assert_close(convex_iou(points, polygons), whole.convex_iou(points, polygons))


def test_giou():
    points, polygons = sets(20), quadri(20, seed=1)
    pairs = zip(points.numpy().reshape(-1, 9, 2), polygons.numpy().reshape(-1, 4, 2))
    want = [whole.generalised_iou(*pair)[1] for pair in pairs]
    torch.testing.assert_close(convex_giou(points, polygons)[0], torch.tensor(want).double())


def test_gradient_of_giou():
    points, polygons = sets(12), quadri(12, seed=1)
    _, grad = convex_giou(points, polygons)
    step = 1e-6
    for k in range(18):
        change = torch.zeros(18, dtype=torch.float64)
        change[k] = step
        ahead, behind = (convex_giou(points + s * change, polygons)[0] for s in (1, -1))
        torch.testing.assert_close(grad[:, k], (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-7)
    assert grad.eq(0).any()  # points inside


def test_known_values():
    """A square of 2 on one of 1 in its corner; and one apart from it."""
    square = torch.tensor([1.0, 1, 2, 2, 1, 2, 2, 1, 1, 3, 3, 1, 2, 3, 3, 3, 1.5, 1.5])
    unit = torch.tensor([[1.0, 1, 1, 2, 2, 2, 2, 1]])
    assert convex_iou(square[None], unit).item() == pytest.approx(1 / 4)
    assert convex_giou(square[None], unit)[0].item() == pytest.approx(1 / 4)
    apart = convex_giou(square[None] + torch.tensor([2.5, 0.0]).repeat(9), unit)[0]
    assert apart.item() == pytest.approx(-(7.75 - 5) / 7.75)


@pytest.mark.parametrize("make", [sets, grid_sets])
def test_smallest_rectangle(make):
    points = make(60)
    for p, corners in zip(points.numpy(), min_area_polygons(points).numpy()):
        p, corners = p.reshape(9, 2), corners.reshape(4, 2)
        hull = plain.convex_hull(p)
        areas = []
        for side in np.roll(hull, -1, 0) - hull:
            u = side / (np.hypot(*side) or 1)
            v = np.array([-u[1], u[0]])
            areas.append(np.prod([np.ptp(p @ axis) for axis in (u, v)]))
        assert plain.area(corners) == pytest.approx(min(areas), abs=1e-9)
        sides = np.roll(corners, -1, 0) - corners
        assert sides[0] @ sides[1] == pytest.approx(0, abs=1e-9)
        if plain.area(corners) > 1e-6:
            turn = sides[:, None, 0] * (p[:, 1] - corners[:, None, 1]) - sides[:, None, 1] * (
                p[:, 0] - corners[:, None, 0]
            )
            assert (turn >= -1e-9).all() or (turn <= 1e-9).all()


def test_order_of_the_corners_of_the_smallest_rectangle():
    square = torch.tensor([[1.0, 1, 2, 2, 1, 2, 2, 1, 1, 3, 3, 1, 2, 3, 3, 3, 1.5, 1.5]])
    assert min_area_polygons(square).tolist() == [[3, 1, 1, 1, 1, 3, 3, 3]]


def test_points_in_polygons():
    g = torch.Generator().manual_seed(0)
    points = torch.rand(200, 2, generator=g, dtype=torch.float64) * 24 - 2
    polygons = quadri(10)
    got = points_in_polygons(points, polygons)
    assert got.dtype == torch.float32
    for i, point in enumerate(points.numpy()):
        for j, polygon in enumerate(polygons.numpy().reshape(-1, 4, 2)):
            assert got[i, j] == plain.contains(polygon, point)


def test_points_in_a_polygon_with_a_notch_and_on_its_boundary():
    notch = torch.tensor([[0.0, 0, 4, 0, 1, 1, 0, 4]])
    points = torch.tensor([[0.5, 0.5], [2.0, 2], [3.0, 0.2], [5.0, 0.2], [-1, 0.2]])
    assert points_in_polygons(points, notch)[:, 0].tolist() == [1, 0, 1, 0, 0]
    # What mmcv's kernel gives: it stops counting at the side that the point is on.
    points = torch.tensor([[0.0, 0], [0, 2], [2, 0], [4, 0]])
    assert points_in_polygons(points, notch)[:, 0].isfinite().all()


def corners_of(boxes):
    return torch.tensor(np.array([plain.rectangle(b) for b in boxes]))


def test_sorted_corners():
    g = torch.Generator().manual_seed(0)
    vertices = torch.randn(2, 30, 24, 2, generator=g)
    mask = torch.zeros(2, 30, 24, dtype=torch.bool)
    num = torch.randint(0, 9, (2, 30), generator=g, dtype=torch.int32)
    for b in range(2):
        for n in range(30):
            mask[b, n, torch.randperm(24, generator=g)[: num[b, n]]] = True
    got = sort_vertices(vertices, mask, num)
    assert (got.dtype, got.shape) == (torch.int32, (2, 30, 9))
    assert torch.equal(got, loops.sort_vertices(vertices, mask, num))


CASES = {
    "convex_iou": (convex_iou, lambda n, m=3: (sets(n), quadri(m))),
    "convex_giou": (convex_giou, lambda n, m=None: (sets(n), quadri(n))),
    "min_area_polygons": (min_area_polygons, lambda n, m=None: (sets(n),)),
    "points_in_polygons": (points_in_polygons, lambda n, m=3: (sets(n)[:, :2], quadri(m))),
}
every = pytest.mark.parametrize(("op", "make"), CASES.values(), ids=CASES)


def outputs(result):
    return result if isinstance(result, tuple) else (result,)


@every
@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("m", [0, 2])
def test_few(op, make, n, m):
    for t in outputs(op(*make(n, m))):
        assert t.shape[0] == n
        assert t.isfinite().all()


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_dtypes_are_rounded_once(op, make, dtype):
    tensors = [t.to(dtype) for t in make(10)]
    for got, want in zip(outputs(op(*tensors)), outputs(op(*(t.double() for t in tensors)))):
        assert got.dtype == (dtype if op is not points_in_polygons else torch.float32)
        torch.testing.assert_close(got.double(), want.to(got.dtype).double(), rtol=0, atol=1e-6)


@every
def test_strides_do_not_matter_and_no_gradient_flows(op, make):
    tensors = make(7)
    strided = [torch.stack((t, t), 2)[..., 0].requires_grad_() for t in tensors]
    for got, want in zip(outputs(op(*strided)), outputs(op(*tensors))):
        assert torch.equal(got, want)
        assert not got.requires_grad


@pytest.mark.parametrize("n", [0, 4])
def test_opcheck(n):
    for name, (_, make) in CASES.items():
        room = polygon_points if name.startswith("points") else point_sets
        tensors = [t.requires_grad_() for t in make(n)]
        opcheck(getattr(room, f"{name}_op"), tuple(tensors[:1] + [t.detach() for t in tensors[1:]]))
    mask = torch.zeros(1, n, 24, dtype=torch.bool)
    mask[..., :5] = True
    count = torch.full((1, n), 5)
    opcheck(polygon_points.sort_vertices_op, (torch.rand(1, n, 24, 2), mask, count))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: convex_iou(sets(2)[:, :16], quadri(2)),
            ValueError,
            r"convex_iou: pointsets: expected shape \(N, 18\), got \(2, 16\)",
        ),
        (
            lambda: convex_giou(sets(2), quadri(3)),
            ValueError,
            r"convex_giou: polygons: expected shape \(2, 8\), got \(3, 8\)",
        ),
        (
            lambda: convex_giou(sets(2), quadri(2).float()),
            TypeError,
            "polygons: expected torch.float64, got torch.float32",
        ),
        (
            lambda: min_area_polygons(sets(2).long()),
            TypeError,
            "min_area_polygons: pointsets: expected a floating dtype",
        ),
        (
            lambda: points_in_polygons(sets(2)[:, :2].to("meta"), quadri(2)),
            ValueError,
            "points_in_polygons: polygons: expected device meta as points, got cpu",
        ),
        (
            lambda: sort_vertices(
                torch.rand(1, 1, 8, 2), torch.ones(1, 1, 8) > 0, torch.ones(1, 1).int()
            ),
            ValueError,
            "sort_vertices: vertices: expected at least 9 candidates",
        ),
        (
            lambda: sort_vertices(
                torch.rand(1, 1, 9, 2), torch.ones(1, 1, 9), torch.ones(1, 1).int()
            ),
            TypeError,
            "sort_vertices: mask: expected torch.bool, got torch.float32",
        ),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()

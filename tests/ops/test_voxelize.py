"""Voxels and scattering into them, against plain loops and mmcv's compiled operators."""

from __future__ import annotations

import pytest
import torch
from operator_checks import assert_rounded_once, random
from torch.library import opcheck

from mx_autopatch.ops import _coordinates
from mx_autopatch.ops.dynamic_scatter import (
    dynamic_scatter,
    dynamic_scatter_backward,
    dynamic_scatter_backward_op,
    dynamic_scatter_op,
)
from mx_autopatch.ops.voxelize import (
    dynamic_voxelize,
    dynamic_voxelize_op,
    hard_voxelize,
    hard_voxelize_op,
)
from mx_autopatch.verify.references import voxels as plain

SIZE, RANGE = [1.0, 2.0, 0.5], [-4.0, -4.0, 0.0, 4.0, 5.0, 2.0]  # y: 4.5 voxels, taken as 4


def cloud(n, seed=0, dtype=torch.float32):
    return (random(n, 5, seed=seed) * 3).to(dtype)


def test_agrees_with_the_compiled_operator(golden):
    data, k = golden("hard_voxelize")
    limits = k["voxel_size"], k["coors_range"]
    got = hard_voxelize(data["in_points"], *limits, k["max_points"], k["max_voxels"])
    assert all(torch.equal(t, data[f"out_{i}"]) for i, t in enumerate(got))
    data, k = golden("dynamic_voxelize")
    got = dynamic_voxelize(data["in_points"], k["voxel_size"], k["coors_range"])
    assert torch.equal(got, data["out_0"])


@pytest.mark.parametrize("n", [0, 1, 300])
@pytest.mark.parametrize(("max_points", "max_voxels"), [(1, 1), (2, 20), (3, 0), (50, 1000)])
def test_agrees_with_the_reference(n, max_points, max_voxels):
    points = cloud(n)
    # The reference divides in float64, the operator in float32; here that makes no difference.
    coors = plain.dynamic_voxelize(points, SIZE, RANGE)
    assert torch.equal(dynamic_voxelize(points, SIZE, RANGE), coors)
    got = hard_voxelize(points, SIZE, RANGE, max_points, max_voxels)
    want = plain.hard_voxelize(points, SIZE, RANGE, max_points, max_voxels)
    assert [t.dtype for t in got] == [torch.float32, torch.int32, torch.int32]
    assert all(torch.equal(a, b) for a, b in zip(got, want))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_and_strides(dtype):
    points = cloud(100).to(dtype)
    wide = dynamic_voxelize(points.float(), SIZE, RANGE)
    strided = torch.stack((points, points), 2)[..., 0]
    assert torch.equal(dynamic_voxelize(strided, SIZE, RANGE), wide)
    got = hard_voxelize(strided, SIZE, RANGE, 3, 40)
    want = hard_voxelize(points.float(), SIZE, RANGE, 3, 40)
    assert got[0].dtype == dtype
    assert torch.equal(got[0], want[0].to(dtype))
    assert all(torch.equal(a, b) for a, b in zip(got[1:], want[1:]))


def test_points_that_are_nowhere():
    points = torch.tensor([[torch.nan, 0, 1], [torch.inf, 0, 1], [0, -torch.inf, 1], [0, 0, 1]])
    got = dynamic_voxelize(points, SIZE, RANGE)
    assert got.tolist() == [[-1] * 3] * 3 + [[2, 2, 4]]
    assert len(hard_voxelize(points[:3], SIZE, RANGE, 2, 5)[0]) == 0


@pytest.mark.parametrize("spread", [3, 1 << 20, 1 << 40])
def test_grouping(spread):
    g = torch.Generator().manual_seed(0)
    rows = torch.randint(-2, 2, (200, 3), generator=g) * spread
    unique, group, count = _coordinates.group_rows(rows)
    want = rows.unique(dim=0, return_inverse=True, return_counts=True)
    assert all(torch.equal(a, b) for a, b in zip((unique, group, count), want))
    place = _coordinates.ranks_in_groups(group, count)
    seen = {}
    for key, rank in zip(group.tolist(), place.tolist()):
        assert rank == seen.get(key, 0)
        seen[key] = rank + 1


@pytest.mark.parametrize("reduce_type", ["max", "mean", "sum"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_scatter(reduce_type, dtype):
    g = torch.Generator().manual_seed(0)
    feats = random(60, 4).requires_grad_()
    coors = torch.randint(-1, 3, (60, 3), generator=g, dtype=dtype)
    got, *where = dynamic_scatter(feats, coors, reduce_type)
    want, *expected = plain.dynamic_scatter(feats, coors, reduce_type)
    torch.testing.assert_close(got, want)
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(where, expected))
    cotangent = random(*got.shape, seed=1)
    torch.testing.assert_close(*(torch.autograd.grad(t, feats, cotangent)[0] for t in (got, want)))
    assert not any(t.requires_grad for t in where)


@pytest.mark.parametrize("reduce_type", ["max", "mean", "sum"])
def test_gradcheck(reduce_type):
    coors = torch.tensor([[0, 1], [0, 0], [0, 1], [-1, 0], [0, 1]], dtype=torch.int32)
    feats = random(5, 2).requires_grad_()
    torch.autograd.gradcheck(lambda t: dynamic_scatter(t, coors, reduce_type)[0], feats)
    assert_rounded_once(lambda t: dynamic_scatter(t, coors, reduce_type)[0], (feats.detach(),))


def test_of_equal_maxima_the_first_gets_the_gradient():
    feats = torch.tensor([[0.0, 5.0], [2.0, 5.0], [2.0, 1.0]]).requires_grad_()
    coors = torch.zeros(3, 3, dtype=torch.int32)
    dynamic_scatter(feats, coors, "max")[0].sum().backward()
    assert feats.grad.tolist() == [[0, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize("coors", [torch.zeros(0, 3).int(), torch.full((4, 3), -1).int()])
@pytest.mark.parametrize("reduce_type", ["max", "mean", "sum"])
def test_no_voxels(coors, reduce_type):
    feats = torch.ones(len(coors), 2, requires_grad=True)
    got = dynamic_scatter(feats, coors, reduce_type)
    assert [t.shape[0] for t in got] == [0, 0, len(coors), 0]
    got[0].sum().backward()
    assert not feats.grad.any()


@pytest.mark.parametrize("n", [0, 12])
def test_opcheck(n):
    points = cloud(n)
    opcheck(dynamic_voxelize_op, (points.requires_grad_(), SIZE, RANGE))
    opcheck(hard_voxelize_op, (points, SIZE, RANGE, 2, 5))
    coors = dynamic_voxelize(points, SIZE, RANGE)
    for reduce_type in ("max", "mean"):
        feats = points.detach().requires_grad_()
        opcheck(dynamic_scatter_op, (feats, coors, reduce_type))
        results = [t.detach() for t in dynamic_scatter(feats, coors, reduce_type)]
        saved = feats.detach(), results[0], *results[2:]
        opcheck(dynamic_scatter_backward_op, (results[0], *saved, reduce_type))


POINTS, COORS = cloud(3), torch.zeros(3, 3, dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: dynamic_voxelize(POINTS[:, :2], SIZE, RANGE),
            ValueError,
            r"dynamic_voxelize: points: expected shape \(N, >= 3\), got \(3, 2\)",
        ),
        (
            lambda: dynamic_voxelize(POINTS.int(), SIZE, RANGE),
            TypeError,
            "dynamic_voxelize: points: expected a floating dtype",
        ),
        (
            lambda: hard_voxelize(POINTS, [1.0, 0.0, 1.0], RANGE, 1, 1),
            ValueError,
            "hard_voxelize: voxel_size: expected three positive sizes",
        ),
        (
            lambda: hard_voxelize(POINTS, SIZE, RANGE[:5], 1, 1),
            ValueError,
            "hard_voxelize: coors_range: expected six limits",
        ),
        (
            lambda: hard_voxelize(POINTS, SIZE, RANGE, 0, 1),
            ValueError,
            "hard_voxelize: max_points: expected a number >= 1, got 0",
        ),
        (
            lambda: dynamic_scatter(POINTS, COORS[:2]),
            ValueError,
            r"dynamic_scatter: coors: expected shape \(3, D\), got \(2, 3\)",
        ),
        (
            lambda: dynamic_scatter(POINTS, COORS.float()),
            TypeError,
            "dynamic_scatter: coors: expected torch.int32, got torch.float32",
        ),
        (
            lambda: dynamic_scatter(POINTS, COORS, "median"),
            ValueError,
            "reduce_type: expected one of .*, got 'median'",
        ),
        (
            lambda: dynamic_scatter_backward(
                POINTS, POINTS, POINTS[:, :2], COORS[:, 0], COORS[:, 0]
            ),
            ValueError,
            r"dynamic_scatter_backward: reduced: expected shape \(M, 5\)",
        ),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()

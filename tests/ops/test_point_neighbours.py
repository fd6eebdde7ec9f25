"""Balls, neighbours, samples and features of points, against plain loops."""

from __future__ import annotations

import importlib

import pytest
import torch
from operator_checks import assert_agree, assert_rounded_once, random
from torch.library import opcheck

from mx_autopatch.ops import _neighbours
from mx_autopatch.ops import nearest_points as near
from mx_autopatch.ops.ball_query import ball_query, stack_ball_query
from mx_autopatch.ops.chamfer_distance import chamfer_distance, chamfer_distance_backward
from mx_autopatch.ops.group_points import (
    gather_points,
    group_points,
    stack_group_points,
)
from mx_autopatch.ops.nearest_points import (
    furthest_point_sampling,
    furthest_point_sampling_with_dist,
    knn,
    three_nn,
)
from mx_autopatch.ops.three_interpolate import three_interpolate
from mx_autopatch.verify.references import points as plain
from mx_autopatch.verify.references.points import squares

# The package exports the functions under the modules' names.
balls, chamfer, groups, interpolation = (
    importlib.import_module(f"mx_autopatch.ops.{name}")
    for name in ("ball_query", "chamfer_distance", "group_points", "three_interpolate")
)

parts = pytest.mark.parametrize("part", [1 << 20, 50])


def ints(*shape, high, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, high, shape, generator=g, dtype=torch.int32)


@parts
@pytest.mark.parametrize(("low", "high", "count"), [(0.0, 1.0, 5), (0.7, 1.5, 3), (0.0, 0.01, 2)])
def test_ball_query(low, high, count, part, monkeypatch):
    monkeypatch.setattr(_neighbours, "_PAIRS", part)
    points = random(2, 40, 3)
    centres = torch.cat((points[:, :5], random(2, 8, 3, seed=1)), 1)
    got = ball_query(centres, points, low, high, count)
    assert got.dtype == torch.int32
    assert torch.equal(got, plain.ball_query(centres, points, low, high, count))


@parts
def test_ball_query_in_stacked_batches(part, monkeypatch):
    monkeypatch.setattr(_neighbours, "_PAIRS", part)
    points, centres = random(30, 3), random(12, 3, seed=1)
    own = torch.tensor([10, 0, 20], dtype=torch.int32)
    asked = torch.tensor([5, 2, 5], dtype=torch.int32)
    got = stack_ball_query(centres, asked, points, own, 1.2, 4)
    assert torch.equal(got, plain.stack_ball_query(centres, asked, points, own, 1.2, 4))


@parts
@pytest.mark.parametrize("k", [1, 3, 7, 40, 50])
def test_nearest_points(k, part, monkeypatch):
    monkeypatch.setattr(_neighbours, "_PAIRS", part)
    points, centres = random(2, 40, 3), random(2, 9, 3, seed=1)
    square, index = knn(k, points, centres)
    want, order = plain.knn(k, points, centres)
    torch.testing.assert_close(square, want)
    assert torch.equal(index, order)
    assert square[..., 40:].isinf().all()
    assert index[..., 40:].eq(0).all()


def test_equal_distances_are_in_order():
    points = torch.ones(1, 9, 3)
    points[0, 4] = 0
    assert knn(9, points, torch.zeros(1, 1, 3))[1].flatten().tolist() == [4, 0, 1, 2, 3, 5, 6, 7, 8]
    square, index = three_nn(torch.zeros(1, 1, 3), points)
    assert index.flatten().tolist() == [4, 0, 1]
    assert square.flatten().tolist() == [0, 3, 3]
    square, index = three_nn(torch.zeros(1, 1, 3), points[:, :2])
    assert index.flatten().tolist() == [0, 1, 0]
    assert square.flatten().tolist() == [3, 3, torch.inf]


@pytest.mark.parametrize("count", [0, 1, 6, 20, 25])
def test_furthest_points(count):
    points = random(3, 20, 3)
    square = squares(points, points)
    want = plain.furthest_point_sampling(points, count)
    assert torch.equal(furthest_point_sampling(points, count), want)
    assert torch.equal(furthest_point_sampling_with_dist(square, count), want)


def test_gathering():
    features, index = random(2, 3, 10), ints(2, 5, high=10)

    assert_agree(
        lambda t: gather_points(t, index), lambda t: plain.gather_points(t, index), (features,)
    )
    several = ints(2, 4, 6, high=10)
    assert_agree(
        lambda t: group_points(t, several),
        lambda t: plain.group_points(t, several),
        (features,),
    )
    torch.autograd.gradcheck(lambda t: gather_points(t, index), features.requires_grad_())
    torch.autograd.gradgradcheck(lambda t: gather_points(t, index), features)
    assert_rounded_once(lambda t: group_points(t, several), (features.detach(),))


def test_gathering_in_stacked_batches():
    features = random(9, 3)
    own, asked = (torch.tensor(t, dtype=torch.int32) for t in ([4, 5, 0], [2, 3, 1]))
    index = torch.tensor([[0, 3], [1, -1], [4, 0], [5, 2], [1, 1], [0, 0]], dtype=torch.int32)

    assert_agree(
        lambda t: stack_group_points(t, own, index, asked),
        lambda t: plain.stack_group_points(t, own, index, asked),
        (features,),
    )
    assert_rounded_once(lambda t: stack_group_points(t, own, index, asked), (features,))


def test_interpolation():
    features, index, weight = random(2, 3, 10), ints(2, 5, 3, high=10), random(2, 5, 3, seed=1)

    assert_agree(
        lambda t, w: three_interpolate(t, index, w),
        lambda t, w: plain.three_interpolate(t, index, w),
        (features, weight),
    )
    torch.autograd.gradcheck(
        lambda t: three_interpolate(t, index, weight), features.requires_grad_()
    )
    assert_rounded_once(lambda t, w: three_interpolate(t, index, w), (features.detach(), weight))


@parts
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_chamfer_distance(dims, part, monkeypatch):
    monkeypatch.setattr(_neighbours, "_PAIRS", part)
    a, b = random(2, 15, dims), random(2, 11, dims, seed=1)
    for side in (0, 1):
        assert_agree(
            lambda a, b, side=side: chamfer_distance(a, b)[side],
            lambda a, b, side=side: plain.chamfer_distance(a, b)[side],
            (a, b),
            (0, 1),
        )
    indices = chamfer_distance(a.requires_grad_(), b)[2:]
    for index, want in zip(indices, plain.chamfer_distance(a, b)[2:]):
        assert torch.equal(index, want)
        assert not index.requires_grad
    torch.autograd.gradcheck(lambda a, b: chamfer_distance(a, b)[:2], (a, b.requires_grad_()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_strides_and_gradients(dtype):
    a, b = random(2, 9, 3).to(dtype), random(2, 12, 3, seed=1).to(dtype)
    strided = torch.stack((a, a), 3)[..., 0].requires_grad_()
    for f in (
        lambda a, b: ball_query(a, b, 0.2, 1.0, 3),
        lambda a, b: knn(4, b, a),
        three_nn,
        lambda a, b: furthest_point_sampling(a, 5),
        lambda a, b: chamfer_distance(a, b)[2:],
    ):
        got, want = f(strided, b), f(a.float(), b.float())
        for x, y in zip(*((t if isinstance(t, tuple) else (t,)) for t in (got, want))):
            assert torch.equal(x, y.to(x.dtype))
            assert not x.requires_grad
    assert_rounded_once(lambda a, b: chamfer_distance(a, b)[0], (random(2, 9, 3), random(2, 5, 3)))


def test_nothing_to_do():
    none, some = torch.zeros(2, 0, 3), torch.ones(2, 4, 3)
    assert ball_query(none, some, 0, 1, 3).shape == (2, 0, 3)
    assert ball_query(some, none, 0, 1, 3).eq(0).all()
    assert knn(2, some, none)[0].shape == (2, 0, 2)
    assert knn(2, none, some)[0].isinf().all()
    assert three_interpolate(torch.ones(2, 3, 4), ints(2, 0, 3, high=4), none).shape == (2, 3, 0)
    assert gather_points(torch.ones(2, 3, 4), ints(2, 0, high=4)).shape == (2, 3, 0)


def test_opcheck():
    a, b = random(2, 4, 3).requires_grad_(), random(2, 6, 3, seed=1)
    opcheck(balls.ball_query_op, (a, b, 0.0, 1.0, 3))
    count = torch.tensor([2, 2], dtype=torch.int32)
    opcheck(balls.stack_ball_query_op, (b[0, :4], count, b[1, :4], count, 1.0, 3))
    opcheck(near.knn_op, (2, a, b))
    opcheck(near.furthest_point_sampling_op, (a, 3))
    opcheck(near.furthest_point_sampling_with_dist_op, (squares(b, b), 3))
    index = ints(2, 5, high=3)
    opcheck(groups.gather_points_op, (a, index))
    opcheck(groups.gather_points_backward_op, (random(2, 3, 5), index, 7))
    opcheck(groups.stack_group_points_op, (random(4, 3), count, ints(4, 2, high=2), count))
    opcheck(
        groups.stack_group_points_backward_op,
        (random(4, 3, 2), count, ints(4, 2, high=2), count, 4),
    )
    index, weight = ints(2, 5, 3, high=3), random(2, 5, 3)
    opcheck(interpolation.three_interpolate_op, (a, index, weight))
    opcheck(interpolation.three_interpolate_backward_op, (random(2, 3, 5), index, weight, 7))
    opcheck(chamfer.chamfer_distance_op, (a, b.requires_grad_()))
    saved = [t.detach() for t in (a, b)]
    saved += [t.detach() for t in chamfer_distance(*saved)]
    opcheck(chamfer.chamfer_distance_backward_op, (saved[2], saved[3], *saved[:2], *saved[4:]))


P, INDEX = torch.ones(2, 4, 3), ints(2, 4, high=3)
TWO = torch.tensor([2, 2], dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ball_query(P, P, 0, 1, 0), ValueError, "ball_query: sample_num: expected >= 1"),
        (
            lambda: ball_query(P, P[:1], 0, 1, 1),
            ValueError,
            r"ball_query: xyz: expected shape \(2, N, 3\)",
        ),
        (
            lambda: stack_ball_query(P[0], TWO, P[0], TWO + 1, 1.0, 1),
            ValueError,
            r"stack_ball_query: xyz_batch_cnt: expected 4 in all, got \[3, 3\]",
        ),
        (
            lambda: stack_ball_query(P[0], TWO, P[0], TWO[:1] * 2, 1.0, 1),
            ValueError,
            "xyz_batch_cnt: expected 2 batches as center_xyz_batch_cnt, got 1",
        ),
        (lambda: knn(0, P, P), ValueError, "knn: k: expected >= 1, got 0"),
        (lambda: knn(1, P, P.double()), TypeError, "knn: center_xyz: expected torch.float32"),
        (
            lambda: three_nn(P, P[..., :2]),
            ValueError,
            r"three_nn: source: expected shape \(2, M, 3\)",
        ),
        (
            lambda: furthest_point_sampling(P[:, :0], 2),
            ValueError,
            "furthest_point_sampling: points_xyz: expected points to sample",
        ),
        (
            lambda: furthest_point_sampling(P, -1),
            ValueError,
            "furthest_point_sampling: num_points: expected >= 0, got -1",
        ),
        (
            lambda: furthest_point_sampling_with_dist(P, 1),
            ValueError,
            r"points_dist: expected shape \(B, N, N\), got \(2, 4, 3\)",
        ),
        (
            lambda: gather_points(P, INDEX.long()),
            TypeError,
            "gather_points: indices: expected torch.int32",
        ),
        (
            lambda: group_points(P, INDEX),
            ValueError,
            r"group_points: indices: expected shape \(2, M, S\)",
        ),
        (
            lambda: stack_group_points(P[0], TWO, INDEX[0], TWO),
            ValueError,
            r"stack_group_points: indices: expected shape \(M, S\)",
        ),
        (
            lambda: three_interpolate(P, INDEX[..., None].expand(-1, -1, 3), P.double()),
            TypeError,
            "three_interpolate: weight: expected torch.float32",
        ),
        (
            lambda: chamfer_distance(P, P[:, :0]),
            ValueError,
            r"chamfer_distance: xyz2: expected points, got shape \(2, 0, 3\)",
        ),
        (
            lambda: chamfer_distance_backward(P[..., 0], P[..., 0], P, P, INDEX.long(), INDEX),
            TypeError,
            "chamfer_distance_backward: idx1: expected torch.int32",
        ),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()

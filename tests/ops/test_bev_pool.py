"""bev_pool and bev_pool_v2 against loops over points in float64."""

from __future__ import annotations

import pytest
import torch
from operator_checks import (
    assert_agree,
    assert_arguments_are_left_alone,
    assert_rounded_once,
    assert_strides_do_not_matter,
    random,
)

from mx_autopatch.ops import bev_pool, bev_pool_v2
from mx_autopatch.ops.bev_pool import bev_pool_op, bev_pool_v2_op
from mx_autopatch.verify.references import attention as plain

SIZE = (2, 2, 3, 4)  # B, D, H, W


def coordinates(points: int, outside: bool = True) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    low = -1 if outside else 0
    columns = [
        torch.randint(low, n + outside, (points,), generator=generator) for n in (3, 4, 2, 2)
    ]
    return torch.stack(columns, 1)


def ranks(points: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Depths are used once each at most, as the views of a ray are; pixels often."""
    generator = torch.Generator().manual_seed(2)
    depth = torch.randperm(2 * 3 * 4 * 2, generator=generator)[:points]
    pixel = torch.randint(0, 8, (points,), generator=generator)
    cell = torch.randint(-1, 49, (points,), generator=generator)
    return depth.int(), pixel.int(), cell.int()


def v2(depth: torch.Tensor, feat: torch.Tensor) -> torch.Tensor:
    return bev_pool_v2(depth, feat, *ranks(), (*SIZE, feat.shape[-1]))


def plain_v2(depth: torch.Tensor, feat: torch.Tensor) -> torch.Tensor:
    return plain.bev_pool_v2(depth, feat, *ranks(), (*SIZE, feat.shape[-1]))


DEPTH, FEAT = random(1, 2, 6, 4, 1), random(1, 2, 2, 2, 5, seed=3)


@pytest.mark.parametrize("points", [1, 30])
def test_sums_of_points(points: int) -> None:
    coords = coordinates(points)
    assert_agree(
        lambda f: bev_pool(f, coords, *SIZE),
        lambda f: plain.bev_pool(f, coords, *SIZE) + 0 * f.sum(),  # one point may be outside
        [random(points, 3)],
    )
    got = bev_pool(random(points, 3), coords.int(), *SIZE)
    assert torch.equal(got, bev_pool(random(points, 3), coords, *SIZE))
    assert got.is_contiguous()


def test_weighted_sums_of_pixels() -> None:
    assert_agree(v2, plain_v2, [DEPTH, FEAT], wrt=(0, 1))


def test_a_depth_used_twice_gets_both_gradients() -> None:
    depth = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    twice = torch.tensor([1, 1])
    feat = torch.tensor([[1.0], [10.0]], dtype=torch.float64)
    out = bev_pool_v2(depth, feat, twice, torch.tensor([0, 1]), twice, (1, 1, 1, 2, 1))
    assert out.flatten().tolist() == [0, 33]
    out.sum().backward()
    assert depth.grad is not None
    assert depth.grad.tolist() == [0, 11]


def test_no_points_and_no_cells() -> None:
    none = torch.zeros(0, 4, dtype=torch.int32)
    feats = torch.zeros(0, 3, requires_grad=True)
    out = bev_pool(feats, none, *SIZE)
    assert out.shape == (2, 3, 2, 3, 4)
    assert not out.any()
    out.sum().backward()
    assert feats.grad is not None
    assert feats.grad.shape == (0, 3)
    assert bev_pool(random(2, 3), coordinates(2), 0, 1, 1, 1).shape == (0, 3, 1, 1, 1)
    empty = torch.zeros(0, dtype=torch.int32)
    depth = DEPTH.clone().requires_grad_()
    out = bev_pool_v2(depth, FEAT, empty, empty, empty, (*SIZE, 5))
    assert not out.any()
    out.sum().backward()
    assert depth.grad is not None
    assert not depth.grad.any()


def test_everything_outside() -> None:
    feats = random(2, 3).requires_grad_()
    out = bev_pool(feats, torch.full((2, 4), 9), *SIZE)
    assert not out.any()
    out.sum().backward()
    assert feats.grad is not None
    assert not feats.grad.any()


def test_a_point_outside_does_not_spoil_others() -> None:
    feats = torch.tensor([[float("nan")], [1.0]])
    coords = torch.tensor([[-1, 0, 0, 0], [0, 0, 0, 0]])
    assert bev_pool(feats, coords, 1, 1, 1, 1).item() == 1
    ranks = torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([7, 0])
    out = bev_pool_v2(torch.ones(2), feats, *ranks, (1, 1, 1, 1, 1))
    assert out.item() == 1


def test_contracts() -> None:
    coords = coordinates(30)

    def one(f: torch.Tensor) -> torch.Tensor:
        return bev_pool(f, coords, *SIZE)

    assert_rounded_once(one, [random(30, 3)])
    assert_strides_do_not_matter(one, [random(30, 3)])
    assert_arguments_are_left_alone(one, [random(30, 3)])
    assert_rounded_once(v2, [DEPTH, FEAT], wrt=(0, 1))
    assert_strides_do_not_matter(v2, [DEPTH, FEAT], wrt=(0, 1))
    assert_arguments_are_left_alone(v2, [DEPTH, FEAT])


def test_gradcheck_and_opcheck() -> None:
    coords = coordinates(30)
    feats = random(30, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: bev_pool(f, coords, *SIZE), feats)
    torch.library.opcheck(bev_pool_op, (feats, coords, list(SIZE)))
    depth, feat = DEPTH.clone().requires_grad_(), FEAT.clone().requires_grad_()
    assert torch.autograd.gradcheck(v2, (depth, feat))
    torch.library.opcheck(bev_pool_v2_op, (depth, feat, *ranks(), list(SIZE)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1], coordinates(2), *SIZE), TypeError, "bev_pool: feats: expected a torch.Tensor"),
        ((random(2, 3), random(2, 4), *SIZE), TypeError, "coords: expected torch.int32 or"),
        ((random(2, 3), coordinates(3), *SIZE), ValueError, r"coords: expected shape \(2, 4\)"),
        ((random(2, 3), coordinates(2), 1, -1, 1, 1), ValueError, "B, D, H, W: expected sizes"),
    ],
)
def test_bad_arguments(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bev_pool(*arguments)


def test_bad_arguments_v2() -> None:
    depth, pixel, cell = ranks()
    shape = (*SIZE, 5)
    with pytest.raises(ValueError, match=r"bev_feat_shape: expected \(B, D, H, W, 5\)"):
        bev_pool_v2(DEPTH, FEAT, depth, pixel, cell, (*SIZE, 4))
    with pytest.raises(ValueError, match=r"ranks_feat: expected shape \(40,\), got \(39,\)"):
        bev_pool_v2(DEPTH, FEAT, depth, pixel[1:], cell, shape)
    with pytest.raises(ValueError, match=r"ranks_feat: expected ranks in \[0, 8\), got 0 to 8"):
        bev_pool_v2(DEPTH, FEAT, depth, torch.arange(40) % 9, cell, shape)
    with pytest.raises(TypeError, match=r"ranks_depth: expected torch\.int32 or"):
        bev_pool_v2(DEPTH, FEAT, depth.float(), pixel, cell, shape)

"""Operators on boxes, points and sparse grids: on the soft NPU as on the CPU.

Not the numbers of a real NPU, but that every one of their steps is there on one, and
that nothing in them needs a tensor on the CPU.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from typing import Any, Callable

import pytest
import torch

from mx_autopatch import mmcv_ext, ops


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


BOXES = torch.cat((uniform(30, 2) * 20, uniform(30, 2, seed=1) * 9 + 21), 1)
TURNED = torch.cat((BOXES[:, :2], uniform(30, 2) * 9 + 1, uniform(30, 1, seed=2) * 6), 1)
SOLID = torch.cat(
    (TURNED[:, :2], uniform(30, 1), TURNED[:, 2:4], uniform(30, 1) + 1, TURNED[:, 4:]), 1
)
QUADS = torch.tensor([[0.0, 0, 4, 0, 4, 2, 0, 2]]) + uniform(30, 1, seed=3) * 8
SETS = uniform(30, 18) * 10
SCORES = uniform(30, seed=4)
POINTS, CENTRES = uniform(2, 60, 3) * 8, uniform(2, 9, 3, seed=5) * 8
FEATURES = uniform(2, 4, 60)
INDEX = (uniform(2, 9, 3, seed=6) * 60).int()
COUNT, ASKED = torch.tensor([60, 60]).int(), torch.tensor([9, 9]).int()
CELLS = (uniform(2, 5, 6, 4, seed=7) < 0.3).nonzero().int()
ROWS, KERNEL = uniform(len(CELLS), 4), uniform(3, 3, 3, 4, 5)
SIZES = [3, 3, 2], [3] * 3, [2] * 3, [1] * 3, [1] * 3
OUTIDS, *PAIRS = ops.get_indice_pairs(CELLS, 2, *SIZES)
CORNERS = uniform(1, 5, 24, 2) - 0.5
VALID = torch.arange(24).expand(1, 5, 24) < 6
GRID = [1.0, 1.0, 4.0], [0.0, 0.0, 0.0, 8.0, 8.0, 4.0]
LABELS = torch.zeros(8, 9, dtype=torch.int32)
LABELS[1:3, 1:3], LABELS[5:7, 5:8] = 1, 2
MASK = uniform(8, 9) < 0.9

CASES: dict[str, tuple[Callable[..., Any], tuple[torch.Tensor, ...]]] = {
    "bbox_overlaps": (ops.bbox_overlaps, (BOXES, BOXES)),
    "box_iou_rotated": (ops.box_iou_rotated, (TURNED, TURNED)),
    "box_iou_quadri": (ops.box_iou_quadri, (QUADS, QUADS)),
    "boxes_overlap_bev": (ops.boxes_overlap_bev, (SOLID, SOLID)),
    "nms_rotated": (lambda b, s: ops.nms_rotated(b, s, 0.3), (TURNED, SCORES)),
    "nms_quadri": (lambda b, s: ops.nms_quadri(b, s, 0.3), (QUADS, SCORES)),
    "nms3d": (lambda b, s: ops.nms3d(b, s, 0.3), (SOLID, SCORES)),
    "nms3d_normal": (lambda b, s: ops.nms3d_normal(b, s, 0.3), (SOLID, SCORES)),
    "nms_match": (lambda b: ops.nms_match(b, 0.3), (torch.cat((BOXES, SCORES[:, None]), 1),)),
    "soft_nms": (ops.soft_nms, (BOXES, SCORES)),
    "convex_iou": (ops.convex_iou, (SETS, QUADS)),
    "convex_giou": (ops.convex_giou, (SETS, QUADS)),
    "min_area_polygons": (ops.min_area_polygons, (SETS,)),
    "points_in_polygons": (ops.points_in_polygons, (SETS[:, :2], QUADS)),
    "sort_vertices": (ops.sort_vertices, (CORNERS, VALID, VALID.sum(2))),
    "hard_voxelize": (lambda p: ops.hard_voxelize(p, *GRID, 3, 30), (POINTS[0],)),
    "dynamic_voxelize": (lambda p: ops.dynamic_voxelize(p, *GRID), (POINTS[0],)),
    **{
        f"dynamic_scatter_{kind}": (
            lambda f, c, kind=kind: ops.dynamic_scatter(f, c, kind),
            (FEATURES[0].T, (POINTS[0] / 4).int()),
        )
        for kind in ("max", "mean")
    },
    "points_in_boxes": (ops.points_in_boxes, (POINTS[:1], SOLID[None])),
    "points_in_boxes_part": (ops.points_in_boxes_part, (POINTS[:1], SOLID[None])),
    **{
        f"roiaware_pool3d_{mode}": (
            lambda r, p, f, mode=mode: ops.roiaware_pool3d(r, p, f, 2, 9, mode),
            (SOLID, POINTS[0], FEATURES[0].T),
        )
        for mode in ("max", "avg")
    },
    "roipoint_pool3d": (
        lambda p, f, b: ops.roipoint_pool3d(p, f, b, 8),
        (POINTS, FEATURES.transpose(1, 2), SOLID.view(2, 15, 7)),
    ),
    "ball_query": (lambda c, p: ops.ball_query(c, p, 0, 2.0, 5), (CENTRES, POINTS)),
    "stack_ball_query": (
        lambda c, n, p, m: ops.stack_ball_query(c, n, p, m, 2.0, 5),
        (CENTRES.flatten(0, 1), ASKED, POINTS.flatten(0, 1), COUNT),
    ),
    "knn": (lambda p, c: ops.knn(7, p, c), (POINTS, CENTRES)),
    "three_nn": (ops.three_nn, (CENTRES, POINTS)),
    "furthest_point_sampling": (lambda p: ops.furthest_point_sampling(p, 9), (POINTS,)),
    "furthest_point_sampling_with_dist": (
        lambda d: ops.furthest_point_sampling_with_dist(d, 9),
        (torch.cdist(POINTS, POINTS),),
    ),
    "group_points": (ops.group_points, (FEATURES, INDEX)),
    "stack_group_points": (
        ops.stack_group_points,
        (POINTS.flatten(0, 1), COUNT, INDEX.flatten(0, 1), ASKED),
    ),
    "three_interpolate": (ops.three_interpolate, (FEATURES, INDEX, CENTRES)),
    "chamfer_distance": (ops.chamfer_distance, (POINTS, CENTRES)),
    "get_indice_pairs": (lambda c: ops.get_indice_pairs(c, 2, *SIZES), (CELLS,)),
    "get_indice_pairs_subm": (
        lambda c: ops.get_indice_pairs(c, 2, [5, 6, 4], *SIZES[1:], subm=True),
        (CELLS,),
    ),
    "indice_conv": (
        lambda f, w, p, n: ops.indice_conv(f, w, p, n, len(OUTIDS)),
        (ROWS, KERNEL, *PAIRS),
    ),
    "indice_maxpool": (
        lambda f, p, n: ops.indice_maxpool(f, p, n, len(OUTIDS)),
        (ROWS, *PAIRS),
    ),
    "pixel_group": (
        lambda *maps: torch.tensor(ops.pixel_group(*maps, 3, 1.0)[1]),
        (uniform(8, 9), MASK, uniform(8, 9, 2), LABELS, (LABELS > 0).byte()),
    ),
    "contour_expand": (
        lambda masks, labels: ops.contour_expand(masks, labels, 1, 2),
        (MASK.byte().expand(3, 8, 9), LABELS),
    ),
}


def results(
    f: Callable[..., Any], tensors: tuple[torch.Tensor, ...], device: str
) -> list[torch.Tensor]:
    """Outputs, and gradients where there are any, on the CPU."""
    leaves = [t.detach().to(device).requires_grad_(t.is_floating_point()) for t in tensors]
    outputs = f(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    loss = sum(t.square().sum() for t in outputs if t.requires_grad)
    wrt = [t for t in leaves if t.requires_grad]
    grads = torch.autograd.grad(loss, wrt, allow_unused=True) if torch.is_tensor(loss) else ()
    return [t.detach().cpu() for t in (*outputs, *grads) if t is not None]


@pytest.mark.parametrize("name", CASES)
def test_as_on_the_cpu(name: str) -> None:
    f, tensors = CASES[name]
    got, want = (results(f, tensors, device) for device in ("npu", "cpu"))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.fixture(scope="module")
def mmcv_ops() -> types.ModuleType:
    pytest.importorskip("mmcv")
    module = types.ModuleType("mmcv._ext")
    for name in ("__all__", "__getattr__", "__dir__", *mmcv_ext.__all__):
        setattr(module, name, getattr(mmcv_ext, name))
    sys.modules.setdefault("mmcv._ext", module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of mmcv's and its dependencies' own
        return importlib.import_module("mmcv.ops")


def test_angles_that_mmcv_turns_into_degrees_on_npus(mmcv_ops: types.ModuleType) -> None:
    for clockwise in (True, False):
        got, want = (
            mmcv_ops.box_iou_rotated(t, t, clockwise=clockwise).cpu()
            for t in (TURNED.to("npu"), TURNED)
        )
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    # mmcv converts the angles of its argument in place.
    _, got = mmcv_ops.nms_rotated(TURNED.to("npu"), SCORES.to("npu"), 0.3)
    _, want = mmcv_ops.nms_rotated(TURNED.clone(), SCORES, 0.3)
    assert got.tolist() == want.tolist()

"""Poolings over rotated and curved regions, against plain float64 references."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from operator_checks import (
    assert_agree,
    assert_arguments_are_left_alone,
    assert_rounded_once,
    assert_strides_do_not_matter,
    border_sample,
    random,
    with_gradients,
)
from torch.library import opcheck

from mx_autopatch.ops import bezier_align, riroi_align_rotated, roi_align, roi_align_rotated

SCALE, BINS = 0.5, (2, 3)


def samples_of(length, bins, ratio):
    return ratio if ratio > 0 else math.ceil(length / bins)


def rotated(input, rois, ratio, aligned, clockwise):
    """``roi_align_rotated``, one sample after the other."""
    outputs = []
    for image, cx, cy, w, h, angle in rois:
        cx, cy, w, h = (t * SCALE for t in (cx, cy, w, h))
        if aligned:
            cx, cy = cx - 0.5, cy - 0.5
        else:
            w, h = w.clamp(min=1), h.clamp(min=1)
        angle = -angle if clockwise else angle
        grid_y, grid_x = samples_of(h, BINS[0], ratio), samples_of(w, BINS[1], ratio)
        for p in range(BINS[0]):
            for q in range(BINS[1]):
                total = torch.zeros(input.shape[1], dtype=input.dtype)
                for i in range(grid_y):
                    for j in range(grid_x):
                        v = (p + (i + 0.5) / grid_y) * h / BINS[0] - h / 2
                        u = (q + (j + 0.5) / grid_x) * w / BINS[1] - w / 2
                        # Turned from the u axis, to the right, towards the -v axis, up.
                        x = cx + u * angle.cos() + v * angle.sin()
                        y = cy - u * angle.sin() + v * angle.cos()
                        total = total + border_sample(input[int(image)], y, x)
                outputs.append(total / max(grid_y * grid_x, 1))
    return torch.stack(outputs).view(len(rois), *BINS, -1).permute(0, 3, 1, 2)


def oriented(input, rois, samples, clockwise, orientations=4):
    """``riroi_align_rotated``, likewise."""
    pooled = rotated(input, rois, samples, False, clockwise)
    outputs = []
    for features, angle in zip(pooled.unflatten(1, (-1, orientations)), rois[:, 5]):
        turn = float(angle) / (2 * math.pi) * orientations
        k = math.floor(turn)
        for o in range(orientations):
            here, there = (
                features[:, (o - k) % orientations],
                features[:, (o - k + 1) % orientations],
            )
            outputs.append(here + (turn - k) * (there - here))
    return (
        torch.stack(outputs).view(len(rois), orientations, -1, *BINS).transpose(1, 2).flatten(1, 2)
    )


def curved(input, rois, ratio, aligned):
    """``bezier_align``, likewise."""
    outputs = []
    for image, *points in rois:
        points = torch.stack(points).view(8, 2) * SCALE
        upper, lower = points[:4], points[4:].flip(0)
        w, h = torch.maximum((upper[0] - upper[3]).abs(), (lower[0] - lower[3]).abs())
        if not aligned:
            w, h = w.clamp(min=1), h.clamp(min=1)
        grid_y, grid_x = samples_of(h, BINS[0], ratio), samples_of(w, BINS[1], ratio)
        for p in range(BINS[0]):
            for q in range(BINS[1]):
                u, v = q / BINS[1], p / BINS[0]
                weight = [math.comb(3, k) * u**k * (1 - u) ** (3 - k) for k in range(4)]
                above, below = (sum(f * c for f, c in zip(weight, t)) for t in (upper, lower))
                cx, cy = above + v * (below - above) - (0.5 if aligned else 0)
                total = torch.zeros(input.shape[1], dtype=input.dtype)
                for i in range(grid_y):
                    for j in range(grid_x):
                        y = cy + ((i + 0.5) / grid_y - 0.5) * h / BINS[0]
                        x = cx + ((j + 0.5) / grid_x - 0.5) * w / BINS[1]
                        total = total + border_sample(input[int(image)], y, x)
                outputs.append(total / max(grid_y * grid_x, 1))
    return torch.stack(outputs).view(len(rois), *BINS, -1).permute(0, 3, 1, 2)


INPUT = random(2, 4, 6, 9)
# Within, across the border, beyond it, tiny, of no area, larger than the image.
ROTATED = torch.tensor(
    [
        [0, 7.1, 5.3, 9.0, 4.2, 0.4],
        [1, 16.2, 3.1, 8.3, 6.1, -1.9],
        [1, 80.0, -60.0, 5.0, 5.0, 3.0],
        [0, 6.0, 6.2, 0.3, 0.2, 9.7],
        [1, 6.3, 6.2, 0.0, 4.0, 1.0],
        [0, 8.0, 5.0, 40.0, 33.0, 5.5],
    ],
    dtype=torch.float64,
)
CURVED = random(4, 17, seed=5) * 4 + 7
CURVED[:, 0] = torch.tensor([0, 1, 1, 0])
CURVED[3, 1:] = 6.2

OPERATORS = {
    "rotated": (
        lambda i, r, o=(0, True, False): roi_align_rotated(i, r, BINS, SCALE, *o),
        "roi_align_rotated",
        ROTATED,
        [SCALE, 2, True, False],
    ),
    "oriented": (
        lambda i, r, o=(0, 4, False): riroi_align_rotated(i, r, BINS, SCALE, *o),
        "riroi_align_rotated",
        ROTATED,
        [SCALE, 2, 4, True],
    ),
    "curved": (
        lambda i, r, o=(0, True): bezier_align(i, r, BINS, SCALE, *o),
        "bezier_align",
        CURVED,
        [SCALE, 2, False],
    ),
}
operators = pytest.mark.parametrize(
    ("operator", "name", "rois", "options"), OPERATORS.values(), ids=OPERATORS
)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("clockwise", [False, True])
def test_rotated_agrees_with_the_reference(ratio, aligned, clockwise):
    options = ratio, aligned, clockwise
    assert_agree(
        lambda i: roi_align_rotated(i, ROTATED, BINS, SCALE, *options),
        lambda i: rotated(i, ROTATED, *options),
        [INPUT],
    )


@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("clockwise", [False, True])
def test_oriented_agrees_with_the_reference(samples, clockwise):
    assert_agree(
        lambda i: riroi_align_rotated(i, ROTATED, BINS, SCALE, samples, 4, clockwise),
        lambda i: oriented(i, ROTATED, samples, clockwise),
        [INPUT],
    )


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [False, True])
def test_curved_agrees_with_the_reference(ratio, aligned):
    assert_agree(
        lambda i: bezier_align(i, CURVED, BINS, SCALE, ratio, aligned),
        lambda i: curved(i, CURVED, ratio, aligned),
        [INPUT],
    )


def test_without_a_turn_it_is_roi_align():
    rois = torch.tensor([[0, 2.0, 1.0, 11.0, 9.5], [1, 3.0, 0.0, 17.0, 11.0]]).double()
    image, x1, y1, x2, y2 = rois.T
    turned = torch.stack((image, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, 0 * x1), 1)
    for ratio in (0, 3):
        torch.testing.assert_close(
            roi_align_rotated(INPUT, turned, BINS, SCALE, ratio),
            roi_align(INPUT, rois, BINS, SCALE, ratio),
        )


def test_straight_curves_sample_a_grid():
    # Of the lines y = 2 and y = 8, from x = 3 to x = 12, on a ramp.
    points = [3, 2, 6, 2, 9, 2, 12, 2, 12, 8, 9, 8, 6, 8, 3, 8]
    ramp = torch.arange(20.0)[None, None, None].expand(1, 1, 20, 20)
    output = bezier_align(ramp, torch.tensor([[0.0, *points]]), (2, 3), aligned=False)
    torch.testing.assert_close(output[0, 0], torch.tensor([[3.0, 6.0, 9.0]] * 2))


@operators
def test_parts_add_up(operator, name, rois, options, monkeypatch):
    expected = with_gradients(operator, (INPUT, rois), [0])
    monkeypatch.setattr("mx_autopatch.ops._roi_grid._ENTRIES", 1)
    for got, want in zip(with_gradients(operator, (INPUT, rois), [0]), expected):
        torch.testing.assert_close(got, want)


@operators
def test_gradcheck(operator, name, rois, options):
    input = INPUT[:, :, :3, :4].clone().requires_grad_()
    torch.autograd.gradcheck(lambda i: operator(i, rois[:4]), input)


@operators
def test_half_precision_is_rounded_once(operator, name, rois, options):
    assert_rounded_once(lambda i: operator(i, rois.float()), [INPUT])
    assert_rounded_once(operator, [INPUT, rois])


@operators
def test_strides_do_not_matter(operator, name, rois, options):
    assert_strides_do_not_matter(operator, (INPUT, rois))
    assert_arguments_are_left_alone(operator, (INPUT, rois))


@operators
def test_nothing_outside_is_read(operator, name, rois, options):
    input = torch.full_like(INPUT, float("nan"))
    far = rois.clone()
    far[:, 1:5] += 1e3
    far[:, 9:] += 1e3
    assert operator(input, far).eq(0).all()
    far[:, 1] = float("nan")
    assert operator(input, far).eq(0).all()


@operators
@pytest.mark.parametrize("empty", ["rois", "channels"])
def test_empty(operator, name, rois, options, empty):
    input = INPUT[:, :0] if empty == "channels" else INPUT
    rois = rois[:0] if empty == "rois" else rois
    output, grad = with_gradients(operator, (input, rois), [0])
    assert output.shape == (len(rois), input.shape[1], *BINS)
    assert grad.eq(0).all()


@operators
def test_opcheck(operator, name, rois, options):
    module = importlib.import_module(f"mx_autopatch.ops.{name}")
    op, backward = getattr(module, f"{name}_op"), getattr(module, f"{name}_backward_op")
    input, rois = INPUT.float().requires_grad_(), rois.float()
    opcheck(op, (input, rois, list(BINS), *options))
    grad = op(input.detach(), rois, list(BINS), *options)
    opcheck(backward, (grad, rois, list(INPUT.shape), *options))


@operators
def test_bad_arguments(operator, name, rois, options):
    columns = rois.shape[1]
    for args, error, words in (
        ((INPUT[0], rois), ValueError, r"input: expected shape \(B, C, H, W\)"),
        ((INPUT.long(), rois), TypeError, "input: expected a floating dtype, got torch.int64"),
        ((INPUT, rois[:, 1:]), ValueError, rf"rois: expected shape \(R, {columns}\)"),
        ((INPUT, rois.to("meta")), ValueError, "rois: expected device cpu as input, got meta"),
        ((INPUT, rois + 7), ValueError, r"rois: expected an image index in \[0, 2\)"),
    ):
        with pytest.raises(error, match=f"{name}: {words}"):
            operator(*args)


def test_bad_sizes():
    with pytest.raises(ValueError, match="output_size: expected one or two sizes >= 1, got 0"):
        roi_align_rotated(INPUT, ROTATED, 0, SCALE)
    with pytest.raises(ValueError, match="num_orientations: expected a divisor of the 4 channels"):
        riroi_align_rotated(INPUT, ROTATED, 2, SCALE, 0, 3)

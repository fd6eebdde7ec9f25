"""Poolings over rotated and curved regions, against plain float64 references."""

from __future__ import annotations

import importlib

import pytest
import torch
from operator_checks import (
    assert_agree,
    assert_arguments_are_left_alone,
    assert_rounded_once,
    assert_strides_do_not_matter,
    random,
    with_gradients,
)
from torch.library import opcheck

from mx_autopatch.ops import bezier_align, riroi_align_rotated, roi_align, roi_align_rotated
from mx_autopatch.verify.references import turned_pooling as plain

SCALE, BINS = 0.5, (2, 3)


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
        lambda i: plain.roi_align_rotated(i, ROTATED, BINS, SCALE, *options),
        [INPUT],
    )


@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("clockwise", [False, True])
def test_oriented_agrees_with_the_reference(samples, clockwise):
    assert_agree(
        lambda i: riroi_align_rotated(i, ROTATED, BINS, SCALE, samples, 4, clockwise),
        lambda i: plain.riroi_align_rotated(i, ROTATED, BINS, SCALE, samples, 4, clockwise),
        [INPUT],
    )


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [False, True])
def test_curved_agrees_with_the_reference(ratio, aligned):
    assert_agree(
        lambda i: bezier_align(i, CURVED, BINS, SCALE, ratio, aligned),
        lambda i: plain.bezier_align(i, CURVED, BINS, SCALE, ratio, aligned),
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

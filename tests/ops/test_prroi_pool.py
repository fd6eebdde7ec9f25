"""prroi_pool against numerical integration, in float64."""

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

from mx_autopatch.ops import prroi_pool
from mx_autopatch.verify.references import pooling as plain

module = importlib.import_module("mx_autopatch.ops.prroi_pool")

SCALE, BINS = 0.5, (2, 3)


INPUT = random(2, 3, 6, 9)
# Within, across the border, beyond, within one pixel, of no area, inside out, all around.
ROIS = torch.tensor(
    [
        [0, 2.1, 1.3, 11.0, 9.5],
        [1, -7.2, -3.1, 4.3, 5.1],
        [0, 90.1, 80.3, 99.2, 99.5],
        [1, 6.21, 6.11, 6.43, 6.27],
        [1, 6.2, 6.1, 6.2, 8.0],
        [0, 9.1, 8.3, 2.1, 1.3],
        [1, -30.1, -20.3, 37.5, 33.7],
    ],
    dtype=torch.float64,
)


def pooled(input, rois):
    return prroi_pool(input, rois, BINS, SCALE)


@pytest.mark.parametrize("entries", [1 << 22, 1])
def test_agrees_with_the_reference(entries, monkeypatch):
    monkeypatch.setattr("mx_autopatch.ops._roi_grid._ENTRIES", entries)
    assert_agree(
        pooled,
        lambda i, r: plain.prroi_pool(i, r, BINS, SCALE),
        (INPUT, ROIS),
        (0, 1),
        tolerance=1e-9,
    )


def test_gradcheck():
    image, corners = ROIS[[0, 1, 3, 6]].split((1, 4), 1)
    tensors = INPUT[:, :2, :4, :5].clone(), corners.clone()
    torch.autograd.gradcheck(
        lambda i, c: pooled(i, torch.cat((image, c), 1)), [t.requires_grad_() for t in tensors]
    )


def test_a_constant_image_and_a_ramp():
    rois = torch.tensor([[0, 2.0, 3.0, 14.0, 11.0], [0, 6.0001, 6.0, 6.0002, 6.0001]])
    assert pooled(torch.full((1, 1, 20, 20), 7.0), rois).sub(7).abs().max() < 1e-4
    ramp = torch.arange(20.0)[None, None, None].expand(1, 1, 20, 20)
    centres = torch.tensor([[2.0, 4.0, 6.0]] * 2)
    torch.testing.assert_close(pooled(ramp, rois[:1])[0, 0], centres)


def test_half_precision_is_rounded_once():
    assert_rounded_once(lambda i: pooled(i, ROIS.float()), [INPUT])


def test_strides_do_not_matter():
    assert_strides_do_not_matter(pooled, (INPUT, ROIS), (0, 1))
    assert_arguments_are_left_alone(pooled, (INPUT, ROIS))


@pytest.mark.parametrize("empty", ["rois", "channels"])
def test_empty(empty):
    input = INPUT[:, :0] if empty == "channels" else INPUT
    rois = ROIS[:0] if empty == "rois" else ROIS
    output, *grads = with_gradients(pooled, (input, rois), (0, 1))
    assert output.shape == (len(rois), input.shape[1], *BINS)
    assert all(grad.eq(0).all() for grad in grads)


def test_opcheck():
    input, rois = INPUT.float().requires_grad_(), ROIS.float().requires_grad_()
    opcheck(module.prroi_pool_op, (input, rois, list(BINS), SCALE))
    input, rois = input.detach(), rois.detach()
    grad = module.prroi_pool_op(input, rois, list(BINS), SCALE)
    opcheck(module.prroi_pool_backward_op, (grad, rois, list(INPUT.shape), SCALE))
    opcheck(module.prroi_pool_coor_backward_op, (grad, input, rois, SCALE))


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((INPUT[0], ROIS), ValueError, r"input: expected shape \(B, C, H, W\)"),
        ((INPUT, ROIS[:, 1:]), ValueError, r"rois: expected shape \(R, 5\)"),
        ((INPUT, ROIS.long()), TypeError, "rois: expected a floating dtype"),
        ((INPUT, ROIS + 9), ValueError, r"rois: expected an image index in \[0, 2\)"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"prroi_pool: {words}"):
        pooled(*args)

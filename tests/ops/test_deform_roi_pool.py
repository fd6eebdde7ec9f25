"""deform_roi_pool against a plain float64 reference."""

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

from mx_autopatch.ops import deform_roi_pool, roi_align
from mx_autopatch.verify.references import pooling as plain

module = importlib.import_module("mx_autopatch.ops.deform_roi_pool")

SCALE, BINS, GAMMA = 0.5, (2, 3), 0.3


INPUT = random(2, 3, 6, 9)
ROIS = torch.tensor(
    [
        [0, 2.1, 1.3, 11.0, 9.5],
        [1, -7.2, -3.1, 4.0, 5.0],
        [1, 9.3, 7.1, 3.2, 2.0],
        [0, 90.0, 80.0, 99.0, 99.0],
        [1, -30.0, -20.0, 37.0, 33.0],
    ],
    dtype=torch.float64,
)
OFFSET = random(5, 2, *BINS, seed=1)


def pooled(input, rois, offset, ratio=0):
    return deform_roi_pool(input, rois, offset, BINS, SCALE, ratio, GAMMA)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("entries", [1 << 22, 1])
def test_agrees_with_the_reference(ratio, entries, monkeypatch):
    monkeypatch.setattr("mx_autopatch.ops._roi_grid._ENTRIES", entries)
    assert_agree(
        lambda i, o: pooled(i, ROIS, o, ratio),
        lambda i, o: plain.deform_roi_pool(i, ROIS, o, BINS, SCALE, ratio, GAMMA),
        (INPUT, OFFSET),
        (0, 1),
    )


@pytest.mark.parametrize("none", [None, torch.zeros(0)])
def test_without_offset_it_is_roi_align(none):
    for ratio in (0, 2):
        got = with_gradients(lambda i, r=ratio: pooled(i, ROIS, none, r), [INPUT], [0])
        want = with_gradients(lambda i, r=ratio: roi_align(i, ROIS, BINS, SCALE, r), [INPUT], [0])
        for a, b in zip(got, want):
            torch.testing.assert_close(a, b)


def test_gradcheck():
    tensors = INPUT[:, :2, :4, :5], OFFSET
    torch.autograd.gradcheck(
        lambda i, o: pooled(i, ROIS, o, 2), [t.clone().requires_grad_() for t in tensors]
    )


def test_only_what_is_needed_gets_a_gradient():
    full = with_gradients(lambda i, o: pooled(i, ROIS, o), (INPUT, OFFSET), (0, 1))
    for i in (0, 1):
        got = with_gradients(lambda i, o: pooled(i, ROIS, o), (INPUT, OFFSET), (i,))
        torch.testing.assert_close(got[1], full[1 + i])


def test_half_precision_is_rounded_once():
    assert_rounded_once(lambda i, o: pooled(i, ROIS.float(), o, 2), (INPUT, OFFSET), (0, 1))


def test_strides_do_not_matter():
    assert_strides_do_not_matter(pooled, (INPUT, ROIS, OFFSET), (0, 2))
    assert_arguments_are_left_alone(pooled, (INPUT, ROIS, OFFSET))


def test_nothing_outside_is_read():
    input = torch.full_like(INPUT, float("inf"))
    offset = torch.full_like(OFFSET, 99.0)
    offset[0, 0, 0, 0] = float("nan")
    for t in with_gradients(lambda i, o: pooled(i, ROIS, o), (input, offset), (0, 1)):
        assert t.eq(0).all()


@pytest.mark.parametrize("empty", ["rois", "channels"])
def test_empty(empty):
    input = INPUT[:, :0] if empty == "channels" else INPUT
    rois, offset = (ROIS[:0], OFFSET[:0]) if empty == "rois" else (ROIS, OFFSET)
    output, *grads = with_gradients(pooled, (input, rois, offset), (0, 2))
    assert output.shape == (len(rois), input.shape[1], *BINS)
    assert all(grad.eq(0).all() for grad in grads)


def test_opcheck():
    input, rois, offset = (t.float() for t in (INPUT, ROIS, OFFSET))
    leaves = input.clone().requires_grad_(), rois, offset.clone().requires_grad_()
    options = [SCALE, 2, GAMMA]
    opcheck(module.deform_roi_pool_op, (*leaves, list(BINS), *options))
    opcheck(module.deform_roi_pool_op, (input, rois, None, list(BINS), *options))
    grad = module.deform_roi_pool_op(input, rois, offset, list(BINS), *options)
    for needed in ([True, True], [False, True], [True, False]):
        args = grad, input, rois, offset, *options, needed
        opcheck(module.deform_roi_pool_backward_op, args)


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((INPUT[0], ROIS, OFFSET), ValueError, r"input: expected shape \(B, C, H, W\)"),
        ((INPUT, ROIS[:, 1:], OFFSET), ValueError, r"rois: expected shape \(R, 5\)"),
        ((INPUT, ROIS, OFFSET[:, :1]), ValueError, r"offset: expected shape \(5, 2, 2, 3\)"),
        ((INPUT, ROIS, OFFSET.long()), TypeError, "offset: expected a floating dtype"),
        ((INPUT, ROIS + 9, OFFSET), ValueError, r"rois: expected an image index in \[0, 2\)"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"deform_roi_pool: {words}"):
        pooled(*args)

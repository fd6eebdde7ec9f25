"""roi_pool against a plain reference."""

from __future__ import annotations

import importlib

import pytest
import torch
from operator_checks import (
    assert_agree,
    assert_arguments_are_left_alone,
    assert_strides_do_not_matter,
    random,
    with_gradients,
)
from torch.library import opcheck

from mx_autopatch.ops import roi_pool
from mx_autopatch.verify.references import pooling as plain

module = importlib.import_module("mx_autopatch.ops.roi_pool")

SCALE, BINS = 0.5, (2, 3)


INPUT = random(2, 3, 6, 9)
ROIS = torch.tensor(
    [
        [0, 2, 1, 11, 9],
        [1, -7, -3, 4, 5],
        [0, 90, 80, 99, 99],
        [1, 6, 6, 6, 6],
        [0, 9, 8, 2, 1],
        [1, -30, -20, 37, 33],
        [0, 3.3, 2.1, 9.9, 8.2],
    ],
    dtype=torch.float64,
)


def pooled(input, rois):
    return roi_pool(input, rois, BINS, SCALE)


@pytest.mark.parametrize("entries", [1 << 22, 1])
def test_agrees_with_the_reference(entries, monkeypatch):
    monkeypatch.setattr("mx_autopatch.ops._roi_grid._ENTRIES", entries)
    assert_agree(lambda i: pooled(i, ROIS), lambda i: plain.roi_pool(i, ROIS, BINS, SCALE), [INPUT])


def test_gradcheck():
    torch.autograd.gradcheck(lambda i: pooled(i, ROIS), INPUT.clone().requires_grad_())


def test_the_first_of_equals_wins_and_nan_never_does():
    input = torch.tensor([[[[1.0, 3.0, 3.0], [float("nan"), 2.0, 3.0]]]])
    roi = torch.tensor([[0, 0.0, 0.0, 2.0, 1.0]])
    output, argmax = module.roi_pool_forward(input, roi, 1)
    assert (output.item(), argmax.item()) == (3.0, 1)
    for nothing in (float("nan"), float("-inf")):
        output, argmax = module.roi_pool_forward(torch.full_like(input, nothing), roi, 1)
        assert (output.item(), argmax.item()) == (torch.finfo(torch.float32).min, -1)
    output, argmax = module.roi_pool_forward(input, roi - torch.tensor([0, 9, 9, 9, 9]), 1)
    assert (output.item(), argmax.item()) == (0.0, -1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_exact(dtype):
    input = INPUT.to(dtype)
    output, grad = with_gradients(lambda i: pooled(i, ROIS.float()), [input], [0])
    assert output.dtype == grad.dtype == dtype
    assert torch.equal(output.double(), pooled(input.double(), ROIS))


def test_strides_do_not_matter():
    assert_strides_do_not_matter(pooled, (INPUT, ROIS))
    assert_arguments_are_left_alone(pooled, (INPUT, ROIS))


@pytest.mark.parametrize("empty", ["rois", "channels"])
def test_empty(empty):
    input = INPUT[:, :0] if empty == "channels" else INPUT
    rois = ROIS[:0] if empty == "rois" else ROIS
    output, grad = with_gradients(pooled, (input, rois), [0])
    assert output.shape == (len(rois), input.shape[1], *BINS)
    assert grad.eq(0).all()


def test_opcheck():
    input, rois = INPUT.float().requires_grad_(), ROIS.float()
    opcheck(module.roi_pool_op, (input, rois, list(BINS), SCALE))
    output, argmax = module.roi_pool_op(input.detach(), rois, list(BINS), SCALE)
    opcheck(module.roi_pool_backward_op, (output, rois, argmax, list(INPUT.shape)))


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
    with pytest.raises(error, match=f"roi_pool: {words}"):
        pooled(*args)

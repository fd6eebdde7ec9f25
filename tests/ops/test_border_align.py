"""border_align against a plain float64 reference."""

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

from mx_autopatch.ops import border_align
from mx_autopatch.verify.references import turned_pooling as plain

module = importlib.import_module("mx_autopatch.ops.border_align")

STEPS = 3


INPUT = random(2, 12, 5, 6)
BOXES = torch.tensor(
    [
        [[0.3, 0.7, 4.2, 3.9], [-0.6, -0.4, 2.1, 1.3], [3.1, 2.2, 9.4, 8.1]],
        [[4.2, 3.9, 1.1, 0.2], [20.0, 20.0, 30.0, 30.0], [2.2, 1.7, 2.2, 1.7]],
    ],
    dtype=torch.float64,
)


def aligned(input, boxes):
    return border_align(input, boxes, STEPS)


@pytest.mark.parametrize("elements", [1 << 22, 1])
def test_agrees_with_the_reference(elements, monkeypatch):
    monkeypatch.setattr(module, "_ELEMENTS", elements)
    assert_agree(
        lambda i: aligned(i, BOXES), lambda i: plain.border_align(i, BOXES, STEPS), [INPUT]
    )


def test_gradcheck():
    boxes = BOXES[:, :2] + 0.01
    input = INPUT[:, :4, :4, :5].clone().requires_grad_()
    torch.autograd.gradcheck(lambda i: aligned(i, boxes), input)


def test_the_pixel_around_the_image_is_its_border():
    input = torch.arange(1.0, 5.0).view(1, 4, 1, 1).expand(1, 4, 2, 2).clone().requires_grad_()
    output = border_align(input, torch.tensor([[[-1.0, -1.0, -1.0, -1.0]]]), 2)
    output.sum().backward()
    assert output.flatten().tolist() == [1, 2, 3, 4]
    assert input.grad[0, :, 0, 0].eq(1).all()
    assert input.grad.sum() == 4


def test_half_precision_is_rounded_once():
    assert_rounded_once(lambda i: aligned(i, BOXES.float()), [INPUT])


def test_strides_do_not_matter():
    assert_strides_do_not_matter(aligned, (INPUT, BOXES))
    assert_arguments_are_left_alone(aligned, (INPUT, BOXES))


@pytest.mark.parametrize("empty", ["batch", "boxes", "channels"])
def test_empty(empty):
    input, boxes = INPUT, BOXES
    if empty == "batch":
        input, boxes = input[:0], boxes[:0]
    elif empty == "boxes":
        boxes = boxes[:, :0]
    else:
        input = input[:, :0]
    output, grad = with_gradients(aligned, (input, boxes), [0])
    assert output.shape == (len(input), input.shape[1] // 4, boxes.shape[1], 4)
    assert grad.eq(0).all()


def test_opcheck():
    input, boxes = INPUT.float().requires_grad_(), BOXES.float()
    opcheck(module.border_align_op, (input, boxes, STEPS))
    output, argmax = module.border_align_op(input.detach(), boxes, STEPS)
    args = output, boxes, argmax, list(INPUT.shape), STEPS
    opcheck(module.border_align_backward_op, args)


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((INPUT[0], BOXES, 2), ValueError, r"input: expected shape \(B, 4 \* C, H, W\)"),
        ((INPUT[:, 1:], BOXES, 2), ValueError, "input: expected a multiple of 4 channels, got 11"),
        ((INPUT, BOXES[:1], 2), ValueError, r"boxes: expected shape \(2, N, 4\)"),
        ((INPUT, BOXES.long(), 2), TypeError, "boxes: expected a floating dtype"),
        ((INPUT, BOXES, 0), ValueError, "pool_size: expected at least 1, got 0"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"border_align: {words}"):
        border_align(*args)

"""masked_im2col and masked_col2im, together a convolution at some pixels."""

from __future__ import annotations

import importlib

import pytest
import torch
from operator_checks import assert_agree, assert_strides_do_not_matter, random, with_gradients
from torch.library import opcheck

from mx_autopatch.ops import masked_col2im, masked_im2col

module = importlib.import_module("mx_autopatch.ops.masked_conv")

# Output pixels of a 3 x 2 kernel on 5 x 6 pixels with padding (2, 1): of 7 x 7.
Y, X = torch.tensor([0, 6, 3, 3]), torch.tensor([0, 6, 2, 5])
KERNEL, PADDING = (3, 2), (2, 1)


def convolved(image, weight):
    columns = masked_im2col(image, Y, X, KERNEL, PADDING)
    return masked_col2im(weight.flatten(1) @ columns, Y, X, (7, 7))


def reference(image, weight):
    mask = torch.zeros(7, 7, dtype=image.dtype)
    mask[Y, X] = 1
    return torch.conv2d(image, weight, padding=PADDING) * mask


def tensors():
    return random(1, 3, 5, 6), random(4, 3, *KERNEL, seed=1)


def test_it_is_a_convolution():
    assert_agree(convolved, reference, tensors(), (0, 1))


def test_gradcheck():
    torch.autograd.gradcheck(convolved, [t.requires_grad_() for t in tensors()])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_copied(dtype):
    image = tensors()[0].to(dtype)
    columns, grad = with_gradients(lambda t: masked_im2col(t, Y, X, KERNEL, PADDING), [image], [0])
    assert columns.dtype == grad.dtype == dtype
    assert torch.equal(columns.float(), masked_im2col(image.float(), Y, X, KERNEL, PADDING))


def test_strides_do_not_matter():
    assert_strides_do_not_matter(convolved, tensors(), (0, 1))


def test_nothing_outside_is_read():
    image = torch.full((1, 1, 2, 2), float("nan"))
    columns = masked_im2col(image, torch.tensor([0]), torch.tensor([0]), 1, 1)
    assert columns.eq(0).all()


def test_empty():
    none = Y[:0]
    image = tensors()[0]
    columns, grad = with_gradients(lambda t: masked_im2col(t, none, none, 3, 1), [image], [0])
    assert columns.shape == (27, 0)
    assert grad.eq(0).all()
    assert masked_col2im(columns, none, none, (5, 6)).eq(0).all()
    assert masked_im2col(image[:, :0], Y, X, 3, 1).shape == (0, 4)


def test_opcheck():
    image = tensors()[0].float().requires_grad_()
    opcheck(module.masked_im2col_op, (image, Y, X, [3, 2], [2, 1]))
    columns = module.masked_im2col_op(image.detach(), Y, X, [3, 2], [2, 1])
    opcheck(module.masked_im2col_backward_op, (columns, Y, X, [3, 2], [2, 1], [1, 3, 5, 6]))
    opcheck(module.masked_col2im_op, (columns.requires_grad_(), Y, X, [7, 7]))
    image = module.masked_col2im_op(columns.detach(), Y, X, [7, 7])
    opcheck(module.masked_col2im_backward_op, (image, Y, X))


IMAGE, C = tensors()[0], torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: masked_im2col(IMAGE[0], Y, X, 3),
            ValueError,
            r"_im2col: image: expected shape \(1, C",
        ),
        (
            lambda: masked_im2col(IMAGE, Y[1:], X, 3),
            ValueError,
            r"_im2col: x: expected shape \(3,\)",
        ),
        (
            lambda: masked_im2col(IMAGE, Y.int(), X, 3),
            TypeError,
            "_im2col: y: expected torch.int64",
        ),
        (
            lambda: masked_im2col(IMAGE, Y, X, 0),
            ValueError,
            "_im2col: kernel_size: expected one or",
        ),
        (
            lambda: masked_col2im(C[:, 1:], Y, X, 9),
            ValueError,
            r"_col2im: y: expected shape \(3,\)",
        ),
        (lambda: masked_col2im(C.int(), Y, X, 9), TypeError, "_col2im: columns: expected a floa"),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=f"masked{words}"):
        call()

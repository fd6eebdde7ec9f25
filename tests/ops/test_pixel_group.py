"""Grouping of pixels against a queue worked off pixel by pixel."""

from __future__ import annotations

import importlib

import pytest
import torch
from operator_checks import random
from torch.library import opcheck

from mx_autopatch.ops.pixel_group import contour_expand, pixel_group
from mx_autopatch.verify.references import text as plain

# The package exports the function under the module's name.
module = importlib.import_module("mx_autopatch.ops.pixel_group")


def scene(size=(18, 23), seed=0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.zeros(size, dtype=torch.int32)
    for k in range(1, 5):
        y, x = (int(torch.randint(0, n - 3, (1,), generator=g)) for n in size)
        labels[y : y + 3, x : x + 3] = k
    contour = (torch.rand(size, generator=g) < 0.8).to(torch.uint8)
    mask = torch.rand(size, generator=g) < 0.8
    return random(*size, seed=seed).float(), mask, random(*size, 3, seed=1).float(), labels, contour


@pytest.mark.parametrize("threshold", [0.0, 1.5, 2.0, 10.0])
@pytest.mark.parametrize("seed", range(3))
def test_groups(threshold, seed):
    score, mask, embedding, kernel, contour = scene(seed=seed)
    got = pixel_group(score, mask, embedding, kernel, contour, 6, threshold)
    want = plain.pixel_group(score, mask, embedding, kernel, contour, 6, threshold)
    assert got[0] == got[5] == [0, 0]
    assert [group[1:] for group in got] == [group[1:] for group in want]
    assert [group[0] for group in got] == pytest.approx([group[0] for group in want], abs=1e-6)


@pytest.mark.parametrize("least", [0, 8, 10])
@pytest.mark.parametrize("kernels", [1, 2, 4])
def test_contours(least, kernels):
    _, _, _, kernel, _ = scene()
    g = torch.Generator().manual_seed(3)
    share = torch.linspace(1, 0.3, kernels)[:, None, None]
    masks = (torch.rand(kernel.shape, generator=g) < share).to(torch.uint8)
    got = contour_expand(masks, kernel, least, 4)
    assert got.dtype == torch.int32
    assert torch.equal(got, plain.contour_expand(masks, kernel, least, 4))


def test_who_waited_first_gets_the_pixel():
    labels = torch.tensor([[1, 0, 0, 2]], dtype=torch.int32)
    masks = torch.ones(2, 1, 4, dtype=torch.uint8)
    assert contour_expand(masks, labels, 0, 2).tolist() == [[1, 1, 2, 2]]
    labels = torch.tensor([[2, 0, 1]], dtype=torch.int32)
    assert contour_expand(masks[..., :3], labels, 0, 2).tolist() == [[2, 2, 1]]


def test_half_precision_strides_and_arguments_left_alone():
    score, mask, embedding, kernel, contour = scene()
    want = pixel_group(score, mask, embedding.half().float(), kernel, contour, 5, 2.0)
    strided = [
        torch.stack((t, t), -1)[..., 0] for t in (score, mask, embedding.half(), kernel, contour)
    ]
    before = [t.clone() for t in strided]
    assert pixel_group(*strided, 5, 2.0) == want
    assert all(torch.equal(a, b) for a, b in zip(strided, before))


def test_no_kernels_and_no_pixels():
    score, mask, embedding, kernel, contour = scene()
    got = pixel_group(score, mask, embedding, kernel * 0, contour, 2, 1.0)
    assert got == [[0, 0], [0, 0]]
    assert contour_expand(mask[None].to(torch.uint8), kernel * 0, 0, 0).eq(0).all()
    none = (t[:0] for t in (score, mask, embedding, kernel, contour))
    assert pixel_group(*none, 1, 1.0) == [[0, 0]]
    assert contour_expand(torch.zeros(2, 0, 3).byte(), torch.zeros(0, 3).int(), 1, 1).shape == (
        0,
        3,
    )


def test_opcheck():
    _, mask, embedding, kernel, contour = scene((6, 7))
    opcheck(module.pixel_group_op, (mask, embedding.requires_grad_(), kernel, contour, 5, 2.0))
    opcheck(module.contour_expand_op, (mask[None].repeat(2, 1, 1).byte(), kernel, 1, 4))


SCORE, MASK, EMBEDDING, KERNEL, CONTOUR = scene((6, 7))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: pixel_group(SCORE, MASK.byte(), EMBEDDING, KERNEL, CONTOUR, 5, 1.0),
            TypeError,
            "pixel_group: mask: expected torch.bool, got torch.uint8",
        ),
        (
            lambda: pixel_group(SCORE, MASK, EMBEDDING[:3], KERNEL, CONTOUR, 5, 1.0),
            ValueError,
            r"pixel_group: embedding: expected shape \(6, 7, C\)",
        ),
        (
            lambda: pixel_group(SCORE, MASK, EMBEDDING, KERNEL, CONTOUR, 3, 1.0),
            ValueError,
            "kernel_label: expected labels below kernel_region_num = 3, got 4",
        ),
        (
            lambda: contour_expand(MASK[None].byte(), KERNEL - 1, 0, 4),
            ValueError,
            "internal_kernel_label: expected labels from 0 to kernel_num = 4, got -1 to 3",
        ),
        (
            lambda: contour_expand(MASK.byte(), KERNEL, 0, 4),
            ValueError,
            r"contour_expand: kernel_mask: expected shape \(K, H, W\)",
        ),
        (
            lambda: contour_expand(MASK[None], KERNEL, 0, 4),
            TypeError,
            "contour_expand: kernel_mask: expected torch.uint8",
        ),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()

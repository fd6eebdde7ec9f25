"""Sparse convolution and pooling against dense ones."""

from __future__ import annotations

import itertools

import pytest
import torch
from operator_checks import assert_agree, assert_rounded_once, random
from torch.library import opcheck
from torch.nn import functional as F

from mx_autopatch.ops import sparse_conv as module
from mx_autopatch.ops.sparse_conv import (
    indice_conv,
    indice_conv_backward,
    indice_maxpool,
    indice_maxpool_backward,
)
from mx_autopatch.ops.sparse_pairs import get_indice_pairs, get_indice_pairs_op

CONV = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
POOL = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


def scene(shape, batch=2, share=0.3, seed=0):
    """Active cells (N, D + 1), in no order."""
    g = torch.Generator().manual_seed(seed)
    cells = (torch.rand(batch, *shape, generator=g) < share).nonzero().int()
    return cells[torch.randperm(len(cells), generator=g)]


def dense(features, cells, shape, batch=2):
    grid = features.new_zeros(batch, *shape, features.shape[1])
    grid = grid.index_put(tuple(cells.long().T), features)
    return grid.movedim(-1, 1)


def at(grid, cells):
    return grid.movedim(1, -1)[tuple(cells.long().T)]


def kernel(weight):
    """(k1, ..., kD, C, O) as torch's dense convolutions have it, (O, C, k1, ..., kD)."""
    dims = weight.dim() - 2
    return weight.permute(dims + 1, dims, *range(dims))


# shape, kernel, stride, padding, dilation
CASES = [
    ((9,), (3,), (1,), (1,), (1,)),
    ((7, 6), (3, 2), (2, 1), (1, 0), (1, 1)),
    ((8, 7), (3, 3), (1, 1), (2, 2), (2, 2)),
    ((7, 7), (2, 2), (3, 3), (0, 0), (1, 1)),
    ((5, 6, 4), (3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1)),
    ((5, 6, 4), (3, 1, 2), (2, 1, 1), (0, 1, 1), (1, 1, 2)),
]


def out_shape(shape, k, s, p, d):
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(shape, k, s, p, d)]


@pytest.mark.parametrize(("shape", "k", "s", "p", "d"), CASES)
def test_convolution(shape, k, s, p, d):
    cells, size = scene(shape), out_shape(shape, k, s, p, d)
    outids, pairs, num = get_indice_pairs(cells, 2, size, k, s, p, d)
    assert outids.dtype == pairs.dtype == num.dtype == torch.int32
    features, weight, bias = random(len(cells), 4), random(*k, 4, 5, seed=1), random(5, seed=2)

    def convolved(features, weight):
        return CONV[len(shape) - 1](dense(features, cells, shape), kernel(weight), None, s, p, d)

    # Active are the outputs that some input reaches, in order.
    reached = convolved(torch.ones_like(features), torch.ones_like(weight))[:, 0]
    assert torch.equal(outids.long(), (reached > 0).nonzero())
    assert reached.sum() == 4 * num.sum()
    assert_agree(
        lambda f, w, b: indice_conv(f, w, pairs, num, len(outids), False, b),
        lambda f, w, b: at(convolved(f, w), outids) + b,
        (features, weight, bias),
        (0, 1, 2),
    )


@pytest.mark.parametrize(("shape", "k", "s", "p", "d"), CASES)
def test_submanifold(shape, k, s, p, d):
    cells = scene(shape)
    outids, pairs, num = get_indice_pairs(cells, 2, shape, k, s, p, d, subm=True)
    assert torch.equal(outids, cells)
    assert outids.data_ptr() != cells.data_ptr()
    features, weight = random(len(cells), 4), random(*k, 4, 5, seed=1)
    # Enough on both sides; an even kernel reaches further to the one than to the other.
    around = [(i - 1) * j for i, j in zip(k, d)]

    def reference(features, weight):
        grid = dense(features, cells, shape)
        full = CONV[len(shape) - 1](grid, kernel(weight), None, 1, around, d)
        for axis, (i, j, n) in enumerate(zip(k, d, shape)):
            full = full.narrow(axis + 2, (i - 1) * j - i // 2 * j, n)
        return at(full, cells)

    f = (lambda f, w: indice_conv(f, w, pairs, num, len(cells)), reference)
    assert_agree(*f, (features, weight), (0, 1))


@pytest.mark.parametrize(("shape", "k", "s", "p", "d"), [c for c in CASES if min(c[0]) > 3])
def test_transposed_and_inverse(shape, k, s, p, d):
    cells = scene(shape)
    size = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in zip(shape, k, s, p, d)]
    outids, pairs, num = get_indice_pairs(cells, 2, size, k, s, p, d, transpose=True)
    features, weight = random(len(cells), 4), random(*k, 4, 5, seed=1)

    def reference(features, weight):
        flipped = kernel(weight).transpose(0, 1)
        grid = dense(features, cells, shape)
        return TRANSPOSED[len(shape) - 1](grid, flipped, None, s, p, 0, 1, d)

    assert_agree(
        lambda f, w: indice_conv(f, w, pairs, num, len(outids)),
        lambda f, w: at(reference(f, w), outids),
        (features, weight),
        (0, 1),
    )
    # The inverse of a convolution is the transposed one, at the inputs that there were.
    size = out_shape(shape, k, s, p, d)
    outids, pairs, num = get_indice_pairs(cells, 2, size, k, s, p, d)
    features = random(len(outids), 4)

    def inverse(features, weight):
        flipped = kernel(weight).transpose(0, 1)
        extra = [n - ((o - 1) * s - 2 * p + d * (k - 1) + 1) for n, o, k, s, p, d in
                 zip(shape, size, k, s, p, d)]  # fmt: skip
        grid = dense(features, outids, size)
        return at(TRANSPOSED[len(shape) - 1](grid, flipped, None, s, p, extra, 1, d), cells)

    assert_agree(
        lambda f, w: indice_conv(f, w, pairs, num, len(cells), True),
        inverse,
        (features, weight),
        (0, 1),
    )


def test_four_dimensions():
    shape, k = (3, 4, 3, 2), (2, 3, 2, 1)
    cells = scene(shape, share=0.4)
    size = out_shape(shape, k, (1,) * 4, (0, 1, 0, 0), (1,) * 4)
    outids, pairs, num = get_indice_pairs(cells, 2, size, k, (1,) * 4, (0, 1, 0, 0), (1,) * 4)
    found = set()
    for element, count in enumerate(num.tolist()):
        at_kernel = list(itertools.product(*map(range, k)))[element]
        for source, target in pairs[element, :, :count].T.tolist():
            batch, *cell = cells[source].tolist()
            want = [c - e + p for c, e, p in zip(cell, at_kernel, (0, 1, 0, 0))]
            assert outids[target].tolist() == [batch, *want]
            found.add((element, source))
        assert pairs[element, :, count:].eq(-1).all()
    reach = [
        (e, n)
        for e, at_kernel in enumerate(itertools.product(*map(range, k)))
        for n, (_, *cell) in enumerate(cells.tolist())
        if all(0 <= c - a + p < o for c, a, p, o in zip(cell, at_kernel, (0, 1, 0, 0), size))
    ]
    assert found == set(reach)


@pytest.mark.parametrize(
    ("shape", "k", "s", "p", "d"), [c for c in CASES if c[3][0] <= c[1][0] // 2]
)
def test_pooling(shape, k, s, p, d):
    p = [min(a, b // 2) for a, b in zip(p, k)]
    cells, size = scene(shape), out_shape(shape, k, s, p, d)
    outids, pairs, num = get_indice_pairs(cells, 2, size, k, s, p, d)

    def reference(features):
        pooled = POOL[len(shape) - 1](dense(features, cells, shape), k, s, p, d)
        return at(pooled.clamp(min=0), outids)

    assert_agree(
        lambda f: indice_maxpool(f, pairs, num, len(outids)), reference, (random(len(cells), 4),)
    )


def test_pooling_of_ties_and_of_negatives():
    cells = torch.tensor([[0, 0], [0, 1]], dtype=torch.int32)
    outids, pairs, num = get_indice_pairs(cells, 1, [1], [2], [2], [0], [1])
    features = torch.tensor([[2.0, -1.0, torch.nan], [2.0, -3.0, 1.0]]).requires_grad_()
    output = indice_maxpool(features, pairs, num, len(outids))
    assert output.tolist() == [[2, 0, 1]]
    output.sum().backward()
    assert features.grad.tolist() == [[1, 0, 0], [1, 0, 1]]


def example(n=6, dtype=torch.float64):
    cells = scene((4, 4), share=0.5)[:n]
    outids, pairs, num = get_indice_pairs(cells, 2, (2, 2), (3, 3), (2, 2), (1, 1), (1, 1))
    features, weight = random(n, 2, dtype=dtype), random(3, 3, 2, 3, seed=1, dtype=dtype)
    return features, weight, pairs, num, len(outids)


def test_gradients_half_precision_and_strides():
    features, weight, pairs, num, count = example()
    bias = random(3, seed=2)
    torch.autograd.gradcheck(
        lambda f, w, b: indice_conv(f, w, pairs, num, count, False, b),
        [t.requires_grad_() for t in (features, weight, bias)],
    )
    torch.autograd.gradcheck(lambda f: indice_maxpool(f, pairs, num, count), features)
    tensors = features.detach(), weight.detach()
    assert_rounded_once(lambda f, w: indice_conv(f, w, pairs, num, count), tensors, (0, 1))
    assert_rounded_once(lambda f: indice_maxpool(f, pairs, num, count), tensors[:1])
    strided = [torch.stack((t, t), -1)[..., 0] for t in tensors]
    torch.testing.assert_close(
        indice_conv(*strided, pairs, num, count), indice_conv(*tensors, pairs, num, count)
    )
    swapped = weight.detach().transpose(-1, -2).contiguous().transpose(-1, -2)
    got = indice_conv_backward(tensors[0], swapped, random(count, 3), pairs, num)
    want = indice_conv_backward(*tensors, random(count, 3), pairs, num)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("subm", [False, True])
def test_nothing_is_active(subm):
    cells = torch.zeros(0, 3, dtype=torch.int32)
    outids, pairs, num = get_indice_pairs(cells, 2, (2, 2), (3, 3), (2, 2), (1, 1), (1, 1), subm)
    assert (outids.shape, pairs.shape, num.tolist()) == ((0, 3), (9, 2, 0), [0] * 9)
    features = torch.ones(0, 2, requires_grad=True)
    output = indice_conv(features, torch.ones(3, 3, 2, 4), pairs, num, 0)
    assert output.shape == (0, 4)
    output.sum().backward()
    assert indice_maxpool(features, pairs, num, 0).shape == (0, 2)


@pytest.mark.parametrize("n", [0, 6])
def test_opcheck(n):
    features, weight, pairs, num, count = example(n)
    sizes = [2, 2], [3, 3], [2, 2], [1, 1], [1, 1]
    for subm in (False, True):
        opcheck(get_indice_pairs_op, (scene((4, 4))[:n], 2, *sizes, subm, False))
    for bias in (None, random(3)):
        tensors = features.requires_grad_(), weight.requires_grad_(), pairs, num
        opcheck(module.indice_conv_op, (*tensors, count, False, bias))
    features, weight = features.detach(), weight.detach()
    grad = random(count, 3)
    opcheck(module.indice_conv_backward_op, (features, weight, grad, pairs, num, False))
    opcheck(module.indice_maxpool_op, (features.requires_grad_(), pairs, num, count))
    output = indice_maxpool(features, pairs, num, count).detach()
    opcheck(module.indice_maxpool_backward_op, (features.detach(), output, output, pairs, num))


FEATURES, WEIGHT, PAIRS, NUM, COUNT = example()
CELLS = scene((4, 4))
ONES = (1, 1)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: get_indice_pairs(CELLS.long(), 2, ONES, ONES, ONES, ONES, ONES),
            TypeError,
            "get_indice_pairs: indices: expected torch.int32, got torch.int64",
        ),
        (
            lambda: get_indice_pairs(CELLS, 2, ONES, (3,), ONES, ONES, ONES),
            ValueError,
            r"ksize: expected 2 sizes >= 1, got \[3\]",
        ),
        (
            lambda: get_indice_pairs(CELLS, 2, ONES, ONES, (1, 0), ONES, ONES),
            ValueError,
            r"stride: expected 2 sizes >= 1, got \[1, 0\]",
        ),
        (
            lambda: indice_conv(FEATURES, WEIGHT[..., :1, :], PAIRS, NUM, COUNT),
            ValueError,
            r"indice_conv: filters: expected shape \(k1, k2, 2, O\), got \(3, 3, 1, 3\)",
        ),
        (
            lambda: indice_conv(FEATURES, WEIGHT.float(), PAIRS, NUM, COUNT),
            TypeError,
            "filters: expected torch.float64, got torch.float32",
        ),
        (
            lambda: indice_conv(FEATURES, WEIGHT, PAIRS[:4], NUM[:4], COUNT),
            ValueError,
            r"indice_pairs: expected shape \(9, 2, L\)",
        ),
        (
            lambda: indice_conv(FEATURES, WEIGHT, PAIRS, NUM.long(), COUNT),
            TypeError,
            "indice_pair_num: expected torch.int32",
        ),
        (
            lambda: indice_conv_backward(FEATURES, WEIGHT, FEATURES, PAIRS, NUM),
            ValueError,
            r"indice_conv_backward: grad: expected shape \(num_out, 3\)",
        ),
        (
            lambda: indice_maxpool(FEATURES.to("meta"), PAIRS, NUM, COUNT),
            ValueError,
            "indice_maxpool: pairs: expected device meta as features, got cpu",
        ),
        (
            lambda: indice_maxpool_backward(FEATURES, FEATURES[:, :1], FEATURES, PAIRS, NUM),
            ValueError,
            r"indice_maxpool_backward: output: expected shape \(num_out, 2\)",
        ),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()

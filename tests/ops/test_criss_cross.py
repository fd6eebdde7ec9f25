"""Criss-cross affinities and sums against their definition, in float64."""

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

from mx_autopatch.ops import criss_cross_affinity, criss_cross_map
from mx_autopatch.verify.references import attention as plain

module = importlib.import_module("mx_autopatch.ops.criss_cross")

QUERY, KEY = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1)
WEIGHT = random(2, 8, 4, 5, seed=2)


PAIRS = {
    "affinity": (criss_cross_affinity, plain.criss_cross_affinity, (QUERY, KEY)),
    "map": (criss_cross_map, plain.criss_cross_map, (WEIGHT, KEY)),
}
pairs = pytest.mark.parametrize(("f", "reference", "tensors"), PAIRS.values(), ids=PAIRS)


@pairs
def test_agrees_with_the_reference(f, reference, tensors):
    assert_agree(f, reference, tensors, (0, 1))


@pytest.mark.parametrize("size", [(1, 4), (4, 1), (1, 1)])
def test_one_line(size):
    query, key = QUERY[:, :, : size[0], : size[1]], KEY[:, :, : size[0], : size[1]]
    assert_agree(criss_cross_affinity, plain.criss_cross_affinity, (query, key), (0, 1))


@pairs
def test_gradients_of_any_order(f, reference, tensors):
    leaves = [t[:1, :, :2, :3].clone() for t in tensors]
    if f is criss_cross_map:
        leaves[0] = WEIGHT[:1, :4, :2, :3].clone()
    leaves = [t.requires_grad_() for t in leaves]
    torch.autograd.gradcheck(f, leaves)
    torch.autograd.gradgradcheck(f, leaves)


def test_transposing_twice_changes_nothing():
    torch.testing.assert_close(
        module.transposed_affinity(module.transposed_affinity(WEIGHT)), WEIGHT
    )
    torch.testing.assert_close(
        module.transposed_affinity(plain.criss_cross_affinity(QUERY, KEY)),
        plain.criss_cross_affinity(KEY, QUERY),
    )


@pairs
def test_half_precision_is_rounded_once(f, reference, tensors):
    assert_rounded_once(f, tensors, (0, 1))


@pairs
def test_strides_do_not_matter(f, reference, tensors):
    assert_strides_do_not_matter(f, tensors, (0, 1))
    assert_arguments_are_left_alone(f, tensors)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5)])
def test_empty(shape):
    for f, first in ((criss_cross_affinity, shape), (criss_cross_map, (shape[0], 8, 4, 5))):
        tensors = torch.zeros(first), torch.zeros(shape)
        output, *grads = with_gradients(f, tensors, (0, 1))
        assert output.eq(0).all()
        assert [g.shape for g in grads] == [t.shape for t in tensors]


def test_opcheck():
    query, key, weight = (t.float().requires_grad_() for t in (QUERY, KEY, WEIGHT))
    opcheck(module.criss_cross_affinity_op, (query, key))
    opcheck(module.criss_cross_map_op, (weight, key))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: criss_cross_affinity(QUERY[0], KEY), ValueError, r"_affinity: query: expected sh"),
        (lambda: criss_cross_affinity(QUERY, KEY[:1]), ValueError, r"_affinity: key: expected sh"),
        (lambda: criss_cross_affinity(QUERY, KEY.float()), TypeError, "_affinity: key: expected"),
        (
            lambda: criss_cross_map(WEIGHT[:, 1:], KEY),
            ValueError,
            r"_map: weight: .*\(2, 8, 4, 5\)",
        ),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=f"criss_cross{words}"):
        call()

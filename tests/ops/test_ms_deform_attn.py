"""Multi-scale deformable attention against torch's grid_sample, in float64."""

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

from mx_autopatch.ops import ms_deform_attn
from mx_autopatch.verify.references import attention as plain

module = importlib.import_module("mx_autopatch.ops.ms_deform_attn")

SHAPES = torch.tensor([[5, 3], [1, 4], [2, 2]])
STARTS = torch.tensor([0, 15, 19])


def arguments(dtype=torch.float64, queries=6):
    """Value, locations and attention; some locations are outside, one is NaN."""
    locations = random(2, queries, 3, 3, 2, 2, seed=1).mul(0.6).add(0.5)
    locations[0, 0, 0, 0, 0, 0] = float("nan")
    return tuple(
        t.to(dtype)
        for t in (random(2, 23, 3, 4), locations, random(2, queries, 3, 3, 2, seed=2).sigmoid())
    )


def plain_attend(value, locations, attention):
    return plain.ms_deform_attn(value, SHAPES, STARTS, locations, attention)


def attend(value, locations, attention):
    return ms_deform_attn(value, SHAPES, STARTS, locations, attention)


@pytest.mark.parametrize("points", [1 << 15, 1])
def test_agrees_with_the_reference(points, monkeypatch):
    monkeypatch.setattr(module, "_POINTS", points)
    assert_agree(attend, plain_attend, arguments(), range(3))


def test_gradcheck():
    value, locations, attention = arguments(queries=2)
    tensors = value[:1], locations[1:], attention[:1]
    torch.autograd.gradcheck(attend, [t.clone().requires_grad_() for t in tensors])


def test_half_precision_is_rounded_once():
    value, locations, attention = arguments()
    # Locations on a grid that half precision has, so that both look at the same place.
    locations = locations.mul(16).round().div(16).add(1 / 64)
    assert_rounded_once(attend, (value, locations, attention), range(3))


def test_locations_may_be_more_precise_than_the_value():
    value, locations, attention = arguments(torch.float32)
    leaves = [value.half(), locations, attention]
    got = with_gradients(attend, leaves, range(3))
    assert [t.dtype for t in got[1:]] == [torch.float16, torch.float32, torch.float32]
    want = with_gradients(attend, (value.half().float(), locations, attention), range(3))
    for a, b in zip(got, want):
        torch.testing.assert_close(a.float(), b, rtol=2e-3, atol=1e-2)


def test_strides_do_not_matter():
    assert_strides_do_not_matter(attend, arguments(), range(3))
    assert_arguments_are_left_alone(attend, [t.nan_to_num() for t in arguments()])


@pytest.mark.parametrize("needed", range(3))
def test_only_what_is_needed_gets_a_gradient(needed):
    full = with_gradients(attend, arguments(), range(3))
    _, grad = with_gradients(attend, arguments(), [needed])
    torch.testing.assert_close(grad, full[1 + needed])


def test_nothing_outside_is_read():
    value, locations, attention = arguments()
    value.fill_(float("inf"))
    for t in with_gradients(attend, (value, locations + 9, attention), range(3)):
        assert t.eq(0).all()


@pytest.mark.parametrize("empty", ["batch", "queries", "points", "channels"])
def test_empty(empty):
    value, locations, attention = arguments()
    if empty == "batch":
        value, locations, attention = value[:0], locations[:0], attention[:0]
    elif empty == "queries":
        locations, attention = locations[:, :0], attention[:, :0]
    elif empty == "points":
        locations, attention = locations[..., :0, :], attention[..., :0]
    else:
        value = value[..., :0]
    output, *grads = with_gradients(attend, (value, locations, attention), range(3))
    assert output.shape == (value.shape[0], locations.shape[1], 3 * value.shape[3])
    assert all(t.eq(0).all() for t in (output, *grads))


def test_opcheck():
    value, locations, attention = (t.requires_grad_() for t in arguments(torch.float32))
    args = (value, SHAPES, STARTS, locations, attention)
    opcheck(module.ms_deform_attn_op, args)
    args = [t.detach() for t in args]
    grad = module.ms_deform_attn_op(*args)
    opcheck(module.ms_deform_attn_backward_op, (grad, *args, [True, True, True]))
    opcheck(module.ms_deform_attn_backward_op, (grad, *args, [False, True, False]))


def test_compiles_whole():
    def f(*t):
        return attend(*t).square()

    torch._dynamo.reset()
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    for got, want in zip(*(with_gradients(g, arguments(), range(3)) for g in (compiled, f))):
        torch.testing.assert_close(got, want)


V, L, A = arguments(torch.float32)


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((V, SHAPES.int(), STARTS, L, A), TypeError, "spatial_shapes: expected torch.int64"),
        ((V[0], SHAPES, STARTS, L, A), ValueError, r"value: expected shape \(B, S, heads, D\)"),
        ((V, SHAPES, STARTS[:2], L, A), ValueError, r"level_start_index: expected shape \(3,\)"),
        ((V, SHAPES, STARTS, L[..., :1], A), ValueError, "sampling_locations: expected shape"),
        ((V, SHAPES, STARTS, L[:1], A), ValueError, r"sampling_locations: expected shape \(2, Q"),
        ((V, SHAPES, STARTS, L, A[:, :1]), ValueError, r"attention_weights: expected shape \(2, 6"),
        ((V[:, :9], SHAPES, STARTS, L, A), ValueError, "spatial_shapes: expected levels within"),
        ((V, SHAPES.to("meta"), STARTS, L, A), ValueError, "spatial_shapes: expected device cpu"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=f"ms_deform_attn: {words}"):
        ms_deform_attn(*args)

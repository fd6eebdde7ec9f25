"""nms against a plain quadratic reference, and against mmcv's compiled operator."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.library import opcheck

from mx_autopatch.ops import nms
from mx_autopatch.verify.references import boxes as plain

# The package exports the function under the module's name.
module = importlib.import_module("mx_autopatch.ops.nms")


def reference(boxes, scores, iou_threshold, offset=0):
    """Pair by pair, in float32."""
    boxes, offset = np.asarray(boxes, np.float32), np.float32(offset)
    iou_threshold = np.float32(iou_threshold)
    groups = plain.greedy(
        scores,
        lambda i, j: plain.overlap(boxes[i], boxes[j], offset=offset),
        lambda iou: iou > iou_threshold,
    )
    return [group[0] for group in groups]


def random_boxes(n, extent=100.0, size=30.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    corner, length = torch.rand(n, 2, generator=g) * extent, torch.rand(n, 2, generator=g) * size
    return torch.cat((corner, corner + length), 1), torch.rand(n, generator=g)


@pytest.mark.parametrize("case", ["nms_0", "nms_1", "nms_2", "nms_3", "nms_empty"])
def test_agrees_with_the_compiled_operator(golden, case):
    data, kwargs = golden(case)
    keep = nms(data["in_boxes"], data["in_scores"], **kwargs)
    assert keep.dtype == torch.int64
    assert torch.equal(keep, data["out_1"])


# Few coordinates and scores: ties, touching and equal boxes, boxes of no area or
# turned inside out, and IoUs that equal the threshold, come all the time.
coordinate = st.sampled_from([0.0, 1.0, 2.0, 2.5, 3.0, 4.0, 1e4])
candidate = st.tuples(*[coordinate] * 4, st.sampled_from([0.1, 0.5, 0.9]))


@settings(deadline=None, max_examples=200)
@given(
    st.lists(candidate, max_size=40),
    st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.7, 1.0]),
    st.sampled_from([0, 1]),
    st.sampled_from([1, 3, 512]),
)
def test_agrees_with_the_reference(candidates, iou_threshold, offset, block):
    table = torch.tensor(candidates, dtype=torch.float32).reshape(-1, 5)
    boxes, scores = table[:, :4], table[:, 4]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MIN_BLOCK", block)
        patch.setattr(module, "_MAX_BLOCK", block)
        keep = nms(boxes, scores, iou_threshold, offset)
    assert keep.tolist() == reference(boxes.numpy(), scores.tolist(), iou_threshold, offset)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_reference_on_many_boxes(seed):
    boxes, scores = random_boxes(700, seed=seed)
    assert nms(boxes, scores, 0.3).tolist() == reference(boxes.numpy(), scores.tolist(), 0.3)


@pytest.mark.parametrize("shift", [1e-3, -1e-3])
def test_strictly_greater(shift):
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.0]])  # IoU 0.5
    scores = torch.tensor([1.0, 0.5])
    assert nms(boxes, scores, 0.5).tolist() == [0, 1]
    assert nms(boxes, scores, 0.5 + shift).tolist() == ([0, 1] if shift > 0 else [0])


def test_a_chain_in_which_each_box_suppresses_the_next():
    x = torch.arange(1500.0)[:, None]
    boxes = torch.cat((x, x * 0, x + 3, x * 0 + 1), 1)  # neighbours: IoU 0.5; next but one: 0.2
    keep = nms(boxes, -x[:, 0], 0.4)
    assert keep.tolist() == list(range(0, 1500, 2))


def test_many_boxes_in_little_memory(monkeypatch):
    sizes = []
    original = module._overlapping
    monkeypatch.setattr(
        module,
        "_overlapping",
        lambda a, b, *r: sizes.append(a.shape[1] * b.shape[1]) or original(a, b, *r),
    )
    boxes, scores = random_boxes(20_000, extent=50.0)
    nms(boxes, scores, 0.3)
    assert max(sizes) <= 1 << 20


def test_equal_scores_keep_their_order():
    boxes = torch.arange(300.0)[:, None] * 10 + torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert nms(boxes, torch.full((300,), 0.5), 0.5).tolist() == list(range(300))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    boxes, scores = random_boxes(200)
    boxes, scores = boxes.round().to(dtype), scores.to(dtype)  # whole numbers: exact in all
    assert torch.equal(nms(boxes, scores, 0.4), nms(boxes.float(), scores.float(), 0.4))


def test_strides_do_not_matter():
    boxes, scores = random_boxes(100)
    strided = torch.stack((boxes, boxes), 2)[:, :, 0]
    reversed_scores = scores.repeat_interleave(2)[::2]
    assert not strided.is_contiguous()
    assert torch.equal(nms(strided, reversed_scores, 0.4), nms(boxes, scores, 0.4))


def test_no_gradient_flows():
    boxes, scores = random_boxes(20)
    keep = nms(boxes.requires_grad_(), scores.requires_grad_(), 0.5)
    assert not keep.requires_grad
    boxes[keep].sum().backward()
    assert boxes.grad.sum() == 4 * len(keep)


@pytest.mark.parametrize("n", [0, 1, 50])
def test_opcheck(n):
    opcheck(module.nms_op, (*random_boxes(n), 0.5, 0))
    opcheck(module.nms_op, (*(t.requires_grad_() for t in random_boxes(n)), 0.5, 1))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_whole(backend):
    def f(boxes, scores):
        return boxes[nms(boxes, scores, 0.3)] * 2

    boxes, scores = random_boxes(60)
    torch._dynamo.reset()
    got = torch.compile(f, fullgraph=True, backend=backend)(boxes, scores)
    assert torch.equal(got, f(boxes, scores))


BOXES, SCORES = random_boxes(3)


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        (
            (BOXES.numpy(), SCORES, 0.5),
            TypeError,
            "nms: boxes: expected a torch.Tensor, got ndarray",
        ),
        (
            (BOXES.long(), SCORES, 0.5),
            TypeError,
            "nms: boxes: expected a floating dtype, got .*int64",
        ),
        ((BOXES, SCORES.long(), 0.5), TypeError, "nms: scores: expected a floating dtype"),
        (
            (BOXES[:, :3], SCORES, 0.5),
            ValueError,
            r"nms: boxes: expected shape \(N, 4\), got \(3, 3\)",
        ),
        ((BOXES[0], SCORES, 0.5), ValueError, r"nms: boxes: expected shape \(N, 4\), got \(4,\)"),
        ((BOXES, SCORES[:2], 0.5), ValueError, r"nms: scores: expected shape \(3,\), got \(2,\)"),
        ((BOXES, SCORES.to("meta"), 0.5), ValueError, "nms: scores: expected device cpu as boxes"),
        ((BOXES, SCORES, 0.5, 2), ValueError, "nms: offset: expected 0 or 1, got 2"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=words):
        nms(*args)

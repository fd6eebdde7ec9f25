"""Calls that only older releases of mmcv make, as they make them."""

from __future__ import annotations

import pytest
import torch

import mx_autopatch.ops as ours
from mx_autopatch import mmcv_ext


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


INPUT = random(2, 8, 6, 7)


def gradients(f, *tensors):
    leaves = [t.clone().requires_grad_() for t in tensors]
    output = f(*leaves)
    return output.detach(), torch.autograd.grad(output, leaves, torch.ones_like(output))


@pytest.mark.parametrize("direction", ["top", "bottom", "left", "right"])
def test_corner_pooling(direction):
    output, (grad,) = gradients(lambda t: ours.corner_pool(t, direction), INPUT)
    forward = getattr(mmcv_ext, f"{direction}_pool_forward")
    backward = getattr(mmcv_ext, f"{direction}_pool_backward")
    assert torch.equal(forward(INPUT), output)
    assert torch.equal(backward(INPUT, torch.ones_like(INPUT)), grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_criss_cross_attention(dtype):
    query, key = INPUT.to(dtype), random(2, 8, 6, 7, seed=1).to(dtype)
    affinity, grads = gradients(ours.criss_cross_affinity, query, key)
    weight = torch.zeros(2, 12, 6, 7)  # float32, whatever the others are
    mmcv_ext.ca_forward(query, key, weight)
    torch.testing.assert_close(weight.to(dtype), affinity)
    dt, df = torch.zeros_like(query), torch.zeros_like(key)
    mmcv_ext.ca_backward(torch.ones_like(weight), query, key, dt, df)
    torch.testing.assert_close((dt, df), grads)

    output, grads = gradients(ours.criss_cross_map, affinity, key)
    out = torch.zeros_like(key)
    mmcv_ext.ca_map_forward(weight, key, out)
    torch.testing.assert_close(out, output)
    dw, dg = torch.zeros_like(weight), torch.zeros_like(key)
    mmcv_ext.ca_map_backward(torch.ones_like(out), weight, key, dw, dg)
    torch.testing.assert_close((dw.to(dtype), dg), grads)


def test_deformable_attention_of_mmcv_1_3_2_returns_gradients():
    value, shapes, starts = random(1, 6, 2, 4), torch.tensor([[2, 3]]), torch.tensor([0])
    locations, weights = random(1, 5, 2, 1, 3, 2, seed=1).sigmoid(), random(1, 5, 2, 1, 3, seed=2)
    output, grads = gradients(
        lambda v, at, w: ours.ms_deform_attn(v, shapes, starts, at, w), value, locations, weights
    )
    tensors = value, shapes, starts, locations, weights
    returned = mmcv_ext.ms_deform_attn_backward(*tensors, torch.ones_like(output), 64)
    torch.testing.assert_close(returned, list(grads))


def test_rotated_roi_align_before_mmcv_1_4_6_takes_sample_num():
    rois = torch.tensor([[0, 3.0, 3.0, 4.0, 2.0, 0.5]])
    options = {"pooled_height": 2, "pooled_width": 3, "spatial_scale": 1.0}
    options.update(sample_num=2, aligned=True, clockwise=False)
    output, (grad,) = gradients(lambda t: ours.roi_align_rotated(t, rois, (2, 3), 1.0, 2), INPUT)
    got, grad_input = torch.zeros_like(output), torch.zeros_like(INPUT)
    mmcv_ext.roi_align_rotated_forward(INPUT, rois, got, **options)
    mmcv_ext.roi_align_rotated_backward(torch.ones_like(got), rois, grad_input, **options)
    torch.testing.assert_close((got, grad_input), (output, grad))

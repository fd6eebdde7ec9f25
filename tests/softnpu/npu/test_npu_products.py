"""Matrix products, convolutions and deformable convolutions."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from npu_calls import agrees, call, close
from torch import Tensor


def test_linear() -> None:
    agrees(
        "npu_linear",
        lambda x, w, b: x @ w.T + b,
        [torch.randn(3, 4), torch.randn(5, 4), torch.randn(5)],
    )


def test_batched_product() -> None:
    a, b = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
    agrees("npu_bmmV2", torch.matmul, [a, b], [])


def test_batched_product_of_other_ranks() -> None:
    a, b = torch.randn(2, 3, 4), torch.randn(4, 5)
    leaves = a.npu().requires_grad_(), b.npu().requires_grad_()
    out = torch.ops.npu.npu_bmmV2(*leaves, [])
    wide = a.double().requires_grad_(), b.double().requires_grad_()
    seed = torch.randn(2, 3, 5)
    (torch.matmul(*wide) * seed).sum().backward()
    out.backward(seed.npu())
    close(out.detach().cpu(), a @ b)
    close([leaf.grad.cpu() for leaf in leaves], [t.grad for t in wide])
    close(call("npu_bmmV2", a, torch.randn(2, 4, 5) * 0 + b, [3, 5], meta=False), (a @ b).sum(0))


def test_second_derivative_of_a_product() -> None:
    a, b, g = (torch.randn(s).double().requires_grad_() for s in ((3, 4), (4, 5), (3, 5)))
    da, db = torch.autograd.grad(a @ b, (a, b), g, create_graph=True)
    seeds = torch.randn(3, 4).double(), torch.randn(4, 5).double()
    expected = torch.autograd.grad((da, db), (g, a, b), seeds)
    found = call("matmul_double_backward", *seeds, g.detach(), a.detach(), b.detach(), [True] * 3)
    close(found, expected)


def test_transposed_batched_product() -> None:
    x, w = torch.randn(3, 2, 4), torch.randn(2, 4, 5)
    found = call("npu_transpose_batchmatmul", x, w, perm_x1=[1, 0, 2])
    close(found, torch.stack([x[:, i] @ w[i] for i in range(2)], 1))


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution(groups: int) -> None:
    inputs = [torch.randn(2, 4, 6, 7), torch.randn(6, 4 // groups, 3, 2), torch.randn(6)]

    def plain(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.conv2d(x, w, b, (2, 1), (1, 0), (1, 2), groups)

    agrees("npu_convolution", plain, inputs, [2, 1], [1, 0], [1, 2], groups)
    found = call("npu_conv2d", *inputs, [2, 1], [1, 0], [1, 2], groups)
    close(found, plain(*inputs))


def test_convolution_in_three_dimensions() -> None:
    inputs = [torch.randn(1, 2, 4, 5, 4), torch.randn(3, 2, 2, 2, 2), torch.randn(3)]

    def plain(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.conv3d(x, w, b, 1, 1, 1)

    agrees("npu_convolution", plain, inputs, [1, 1, 1], [1, 1, 1], [1, 1, 1], 1)
    found = call("npu_conv3d", *inputs, [1, 1, 1], [1, 1, 1], [1, 1, 1], 1)
    close(found, plain(*inputs))


def test_transposed_convolution() -> None:
    inputs = [torch.randn(2, 4, 5, 6), torch.randn(4, 3, 3, 3), torch.randn(6)]

    def plain(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.conv_transpose2d(x, w, b, 2, 1, 1, 2)

    rest = [1, 1], [1, 1], [2, 2], [1, 1], 2
    agrees("npu_convolution_transpose", plain, inputs, *rest)
    close(call("npu_conv_transpose2d", *inputs, *rest), plain(*inputs))


def test_gradients_are_left_out_where_nobody_asks() -> None:
    x, w = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3)
    grad = torch.randn(1, 3, 2, 2)
    mask = [False, True, False]
    found = torch.ops.npu.npu_conv2d_backward(
        x.npu(), grad.npu(), w.npu(), [1, 1], [0, 0], [1, 1], 1, mask
    )
    assert found[0] is None
    assert found[2] is None
    expected = torch.nn.grad.conv2d_weight(x, w.shape, grad)
    close(found[1].cpu(), expected)


# ---- deformable ------------------------------------------------------------------------------


def sample(image: Tensor, y: float, x: float) -> float:
    """One value between pixels, pixel by pixel."""
    height, width = image.shape
    total = 0.0
    for row in range(height):
        for column in range(width):
            share = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
            total += share * float(image[row, column])
    return total


def test_deformable_convolution_tap_by_tap() -> None:
    x, w, b = torch.randn(1, 2, 5, 6), torch.randn(3, 2, 3, 2), torch.randn(3)
    stride, padding, dilation = (2, 1), (1, 1, 0, 0), (1, 2)
    out_h, out_w = (5 + 2 - 3) // 2 + 1, (6 - 3) // 1 + 1
    offset = torch.randn(1, 3 * 2 * 6, out_h, out_w)
    columns, rows, masks = offset.view(3, 2, 3, 2, out_h, out_w)
    expected = torch.zeros(1, 3, out_h, out_w)
    sampled = torch.zeros(1, 2, out_h * 3, out_w * 2)
    for c in range(2):  # each channel is a deformable group
        for i in range(3):
            for j in range(2):
                for oh in range(out_h):
                    for ow in range(out_w):
                        y = oh * stride[0] - padding[0] + i * dilation[0]
                        column = ow * stride[1] - padding[2] + j * dilation[1]
                        place = c, i, j, oh, ow
                        value = sample(
                            x[0, c], y + float(rows[place]), column + float(columns[place])
                        ) * float(masks[place])
                        sampled[0, c, oh * 3 + i, ow * 2 + j] = value
                        expected[0, :, oh, ow] += w[:, c, i, j] * value
    found = call(
        *("npu_deformable_conv2d", x, w, offset, b, [3, 2], [1, 1, *stride], list(padding)),
        *([1, 1, *dilation], 1, 2, True),
    )
    close(found, [expected + b.view(1, 3, 1, 1), sampled])


def test_deformable_convolution_without_masks_and_with_a_wrong_shape() -> None:
    x, w = torch.randn(1, 2, 4, 4), torch.randn(2, 2, 3, 3)
    settings = [3, 3], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], 1, 1, False
    zeros = torch.zeros(1, 18, 4, 4)
    close(
        call("npu_deformable_conv2d", x, w, zeros, None, *settings)[0], F.conv2d(x, w, None, 1, 1)
    )
    with pytest.raises(RuntimeError, match=r"offset has shape .* expected \(1, 18, 4, 4\)"):
        call("npu_deformable_conv2d", x, w, zeros[:, :9], None, *settings)


@pytest.fixture
def mmcv_ops(monkeypatch: pytest.MonkeyPatch) -> Any:
    """mmcv's operators, some of which call torch_npu's for tensors of an npu."""
    from mx_autopatch import mmcv_ext

    extension = types.ModuleType("mmcv._ext")
    for name in ("__getattr__", *mmcv_ext.__all__):
        setattr(extension, name, getattr(mmcv_ext, name))
    if "mmcv._ext" not in sys.modules:
        monkeypatch.setitem(sys.modules, "mmcv._ext", extension)
    from mmcv import ops

    return ops


def test_mmcv_trains_its_deformable_convolution_on_the_device(mmcv_ops: Any) -> None:
    """mmcv's own branch for npu against mmcv's formula with torch's autograd."""
    torch.manual_seed(1)
    tensors = [
        *(torch.randn(2, 4, 5, 6), torch.randn(2, 2 * 2 * 9, 5, 6)),
        *(torch.rand(2, 2 * 9, 5, 6), torch.randn(6, 2, 3, 3), torch.randn(6)),
    ]
    leaves = [t.npu().requires_grad_() for t in tensors]
    out = mmcv_ops.modulated_deform_conv2d(*leaves, 1, 1, 1, 2, 2)
    wide = [t.double().requires_grad_() for t in tensors]
    expected = composed(*wide, groups=2, deform_groups=2)
    close(out.detach().cpu(), expected.detach())
    seed = torch.randn(out.shape)
    (expected * seed).sum().backward()
    out.backward(seed.npu())
    for leaf, other in zip(leaves, wide):
        close(leaf.grad.cpu(), other.grad)


def test_mmcv_trains_the_one_without_masks(mmcv_ops: Any) -> None:
    tensors = torch.randn(2, 4, 5, 6), torch.randn(2, 2 * 2 * 9, 5, 6), torch.randn(6, 2, 3, 3)
    leaves = [t.npu().requires_grad_() for t in tensors]
    out = mmcv_ops.deform_conv2d(*leaves, 1, 1, 1, 2, 2)
    wide = [t.double().requires_grad_() for t in tensors]
    ones, zeros = torch.ones(2, 2 * 9, 5, 6).double(), torch.zeros(6).double()
    expected = composed(wide[0], wide[1], ones, wide[2], zeros, groups=2, deform_groups=2)
    close(out.detach().cpu(), expected.detach())
    seed = torch.randn(out.shape)
    (expected * seed).sum().backward()
    out.backward(seed.npu())
    for leaf, other in zip(leaves, wide):
        close(leaf.grad.cpu(), other.grad)


def test_mmcv_masks_a_convolution_of_torch_npus(mmcv_ops: Any) -> None:
    x, w, b = torch.randn(1, 3, 5, 6), torch.randn(4, 3, 3, 3), torch.randn(4)
    mask = (torch.rand(1, 5, 6) < 0.5).float()
    found = mmcv_ops.masked_conv2d(*(t.npu() for t in (x, mask, w, b)), 1)
    close(found.cpu(), F.conv2d(x, w, b, padding=1) * mask)


def composed(
    x: Tensor, offset: Tensor, mask: Tensor, w: Tensor, b: Tensor, groups: int, deform_groups: int
) -> Tensor:
    """A 3 x 3 modulated convolution with padding 1, by ``grid_sample`` for each tap."""
    c, h, width = x.shape[1:]
    base_y, base_x = torch.meshgrid(
        torch.arange(h).double(), torch.arange(width).double(), indexing="ij"
    )
    columns = []
    for g in range(deform_groups):
        part = x[:, g * c // deform_groups : (g + 1) * c // deform_groups]
        for k in range(9):
            channel = (g * 9 + k) * 2
            y = base_y + k // 3 - 1 + offset[:, channel]
            at = base_x + k % 3 - 1 + offset[:, channel + 1]
            grid = torch.stack(((at * 2 + 1) / width - 1, (y * 2 + 1) / h - 1), -1)
            values = F.grid_sample(part, grid, align_corners=False)
            columns.append((g, k, values * mask[:, g * 9 + k].unsqueeze(1)))
    stacked = torch.stack(
        [torch.cat([v for g, k, v in columns if k == tap], 1) for tap in range(9)],
        2,
    )  # (n, c, 9, h, w)
    out = []
    for g in range(groups):
        own = stacked[:, g * c // groups : (g + 1) * c // groups]
        weights = w[g * w.size(0) // groups : (g + 1) * w.size(0) // groups].flatten(2)
        out.append(torch.einsum("nckhw,ock->nohw", own, weights))
    return torch.cat(out, 1) + b.view(1, -1, 1, 1)

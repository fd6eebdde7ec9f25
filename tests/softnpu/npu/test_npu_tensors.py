"""Operators that move elements, and casts, against plain indexing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_npu
from npu_calls import agrees, call, close
from torch import Tensor

from mx_autopatch.errors import SoftNpuError


def same(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


X = torch.arange(24).view(2, 3, 4)


def test_transpose_reshape_broadcast_slice() -> None:
    same(call("npu_transpose", X, [2, 0, 1]), X.permute(2, 0, 1))
    assert torch.ops.npu.npu_transpose(X.npu(), [2, 0, 1]).is_contiguous()
    same(call("npu_reshape", X, [6, 4]), X.view(6, 4))
    same(call("npu_broadcast", X[:, :1], [2, 3, 4]), X[:, :1].expand(2, 3, 4))
    same(call("npu_slice", X, [0, 1, 1], [2, 2, -1]), X[:2, 1:3, 1:])


def test_results_go_into_out_and_resize_it() -> None:
    out = torch.empty(0, dtype=torch.int64).npu()
    assert torch.ops.npu.npu_slice.out(X.npu(), [0, 0, 0], [1, 2, 3], out=out) is out
    same(out.cpu(), X[:1, :2, :3])
    kept = torch.empty(4, 3, 2, dtype=torch.int64).npu()
    torch.ops.npu.npu_transpose.out(X.npu(), [2, 1, 0], out=kept)
    same(kept.cpu(), X.permute(2, 1, 0))


def test_indexing() -> None:
    expected = torch.from_numpy(X.numpy()[0:2, 2:0:-1, 3:0:-2].copy())
    same(call("npu_indexing", X, [0, 2, 3], [2, 0, 0], [1, -1, -2]), expected)
    same(call("npu_indexing", X, [1, 0, 1], [2, 3, 4], [1, 2, 2]), X[1:2, 0:3:2, 1:4:2])
    same(call("npu_indexing", X, [1, 1, 1], [2, 2, 2], [1, 1, 1], 2, 4), X[1:2, :2, 1:])
    with pytest.raises(SoftNpuError, match=r"npu_indexing.*shrink_axis_mask"):
        call("npu_indexing", X, [0, 0, 0], [1, 1, 1], [1, 1, 1], 0, 0, 0, 0, 1)


def test_pad_one_hot_sort() -> None:
    x = torch.tensor([[20.0, 20.0, 10.0, 10.0]]).half()
    expected = torch.zeros(3, 6).half()
    expected[1, 1:5] = x[0]
    same(call("npu_pad", x, [1, 1, 1, 1]), expected)
    same(call("npu_pad", X, [1, 0, 0, 2, 0, 0])[1:, :3], X)
    hot = call("npu_one_hot", torch.tensor([5, 3, 2, 1], dtype=torch.int32), depth=5)
    same(hot, torch.eye(6)[[5, 3, 2, 1]][:, :5])
    shifted = call("npu_one_hot", torch.tensor([1]), -1, 3, 5.0, -1.0)
    same(shifted, torch.tensor([[-1.0, 5.0, -1.0]]))
    y = torch.randn(3, 5)
    same(call("npu_sort_v2", y, -1, True), torch.from_numpy(-np.sort(-y.numpy(), -1)))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_masked_fill_range(axis: int) -> None:
    x = torch.randn(3, 4, 5)
    rows = 3 if axis == 2 else 1
    start = torch.randint(0, 2, (2, rows), dtype=torch.int32)
    end = start + torch.randint(0, 3, (2, rows), dtype=torch.int32)
    value = torch.tensor([7.0, 9.0])
    expected = x.clone()
    for i in range(2):
        for j in range(rows):
            for k in range(int(start[i, j]), int(end[i, j])):
                if axis == 0:
                    expected[k] = value[i]
                elif axis == 1:
                    expected[:, k] = value[i]
                else:
                    expected[j, :, k] = value[i]
    same(call("npu_masked_fill_range", x, start, end, value, axis), expected)


def test_signs_in_bits() -> None:
    x = torch.tensor([5, 4, 3, 2, 0, -1, -2, 4, 3, 2, 1, 0, -1, -2], dtype=torch.float32)
    same(call("npu_sign_bits_pack", x, 2), torch.tensor([[159], [15]], dtype=torch.uint8))
    packed = torch.tensor([159, 15], dtype=torch.uint8)
    bits = np.unpackbits(packed.numpy(), bitorder="little").astype(np.float32) * 2 - 1
    found = call("npu_sign_bits_unpack", packed, 2, torch.float32)
    same(found, torch.from_numpy(bits.reshape(2, 8)))


def test_stride_add_counts_in_sixteen_channels() -> None:
    one = torch.ones(1, 1, 1, 1)
    found = call("npu_stride_add", one, one, 0, 0, 1)
    assert found.shape == (1, 16, 1, 1)
    assert found.flatten().tolist() == [2.0] + [0.0] * 15
    a, b = torch.randn(2, 48, 2, 2), torch.randn(2, 32, 2, 2)
    close(call("npu_stride_add", a, b, 2, 1, 1), a[:, 32:48] + b[:, 16:32])


def test_strided_copies() -> None:
    same(call("npu_stride_copy", X, [3, 2], [4, 1], 1), X.as_strided((3, 2), (4, 1), 1))
    whole = torch.zeros(4, 3, dtype=torch.int64).npu()
    torch.ops.npu.npu_view_copy(whole.T, torch.arange(12).view(3, 4).npu(), True)
    same(whole.cpu(), torch.arange(12).view(3, 4).T)


def test_scatter_puts_one_update_for_each_place_beside_the_dimension() -> None:
    x, updates = torch.randn(2, 2), torch.tensor([-1.1993, -1.5247])
    expected = x.clone()
    expected[0, 0], expected[1, 1] = updates
    same(call("npu_scatter", x, torch.tensor([0, 1], dtype=torch.int32), updates, 0), expected)


@pytest.mark.parametrize("first", [False, True])
def test_confusion_transpose(first: bool) -> None:
    x = torch.randn(2, 3, 4, 5) if first else torch.randn(2, 3, 20)
    shape = [2, 4, 15] if first else [2, 3, 4, 5]

    def plain(a: Tensor) -> Tensor:
        if first:
            return a.permute(0, 2, 1, 3).reshape(shape)
        return a.reshape(shape).permute(0, 2, 1, 3)

    agrees("npu_confusion_transpose", plain, [x], [0, 2, 1, 3], shape, first)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", ["max", "min"])
def test_max_and_min_by_dimension(name: str, keepdim: bool) -> None:
    x = torch.randn(3, 4, 5)
    reduce = getattr(torch, f"a{name}")
    found = agrees(f"npu_{name}.dim", lambda a: reduce(a, 1, keepdim), [x], 1, keepdim)
    same(found[1], getattr(torch, f"arg{name}")(x, 1, keepdim).int())


def test_gathering() -> None:
    index = torch.tensor([[1, 0], [1, 2]])

    def plain(a: Tensor) -> Tensor:
        return torch.stack([a[i] for i in index.flatten()]).view(2, 2, 4)

    agrees("npu_gather_sparse_index", plain, [torch.randn(3, 4)], index)
    grad, where = torch.randn(2, 3), torch.tensor([[0, 0, 1], [1, 0, 1]])
    x = torch.randn(2, 4).requires_grad_()
    (x.gather(1, where) * grad).sum().backward()
    close(call("npu_gather_backward", grad, [2, 4], 1, where, False), x.grad)
    close(
        call("_npu_index_add", torch.zeros(3, 2), torch.tensor([0, 2, 0]), torch.ones(3, 2)),
        torch.tensor([[2.0, 2.0], [0.0, 0.0], [1.0, 1.0]]),
    )


def test_updates_by_place() -> None:
    x = torch.zeros(2, 4, 3)
    updates = torch.randn(2, 1, 3)
    expected = x.clone()
    expected[0, 2], expected[1, 1] = updates[:, 0]
    same(call("scatter_update", x, torch.tensor([2, 1]), updates, -2), expected)
    indices, values = torch.tensor([[0, 3], [1, 0]]), torch.randn(2, 3)
    expected = x.clone()
    expected[0, 3], expected[1, 0] = values
    same(call("npu_scatter_nd_update", x, indices, values), expected)
    on_npu = x.npu()
    torch.ops.npu.npu_scatter_nd_update_(on_npu, indices.npu(), values.npu())
    same(on_npu.cpu(), expected)


def test_random_choice_of_true_places() -> None:
    x = torch.rand(6, 7) < 0.5
    chosen, valid = call("npu_random_choice_with_mask", x, 30)
    count = min(30, int(x.sum()))
    assert valid.tolist() == [True] * count + [False] * (30 - count)
    places = {tuple(p) for p in chosen[:count].tolist()}
    assert len(places) == count
    assert all(x[p] for p in places)
    assert not chosen[count:].any()
    same(
        call("npu_random_choice_with_mask", x, 9, 1, 2)[0],
        call("npu_random_choice_with_mask", x, 9, 1, 2)[0],
    )


def test_casts_of_dtype() -> None:
    x = torch.randn(3, 4)
    agrees("_npu_dtype_cast", lambda a: a.half().double(), [x], torch.float16, tolerance=1e-3)
    leaf = x.npu().requires_grad_()
    y = torch_npu.npu_dtype_cast(leaf, torch.float16)
    assert y.dtype == torch.float16
    y.sum().backward()
    assert leaf.grad.dtype == torch.float32
    same(call("npu_dtype_cast", x, 3), x.int())
    target = torch.zeros(3, 4, dtype=torch.int32).npu()
    torch.ops.npu.npu_dtype_cast_(target, x.npu())
    same(target.cpu(), x.int())
    with pytest.raises(SoftNpuError, match="npu_dtype_cast: dtype 290"):
        torch.ops.npu.npu_dtype_cast(x.npu(), 290)


def test_casts_of_format_keep_elements_and_gradients() -> None:
    x = torch.randn(2, 3, 4, 5)
    leaf = x.npu().requires_grad_()
    y = torch_npu.npu_format_cast(leaf, torch_npu.Format.FRACTAL_NZ)
    same(y.detach().cpu(), x)
    y.sum().backward()
    same(leaf.grad.cpu(), torch.ones_like(x))
    assert torch_npu.get_npu_format(y) in (torch_npu.Format.ND, torch_npu.Format.NCHW)
    same(torch_npu.npu_format_cast_(x.npu(), 3).cpu(), x)
    other = torch.zeros_like(x).npu()
    same(torch.ops.npu.npu_format_cast_(other, x.npu()).cpu(), x)
    with pytest.raises(RuntimeError, match="77 is no format"):
        torch.ops.npu.npu_format_cast_(x.npu(), 77)


def test_flags_of_overflow_stay_clear() -> None:
    x = torch.randn(2).npu()
    same(torch.ops.npu.npu_alloc_float_status(x).cpu(), torch.zeros(8))
    same(torch.ops.npu.npu_get_float_status(x).cpu(), torch.zeros(8, dtype=torch.int32))
    same(torch.ops.npu.npu_clear_float_status(x).cpu(), torch.zeros(8))
    check = torch.ops.npu._amp_foreach_non_finite_check
    assert not check([x])
    assert check([x, torch.tensor([1.0, float("inf")]).npu()])


def test_memory_is_shared_and_copied_as_asked() -> None:
    whole = torch.zeros(6).npu()
    part = torch.ones(2).npu()
    torch_npu.npu_change_data_ptr(part, whole, 4)
    part.fill_(5)
    assert whole.cpu().tolist() == [0, 0, 0, 0, 5, 5]
    torch_npu.copy_memory_(whole, torch.arange(6.0).npu())
    assert part.cpu().tolist() == [4, 5]
    same(torch.ops.npu.one_(part).cpu(), torch.ones(2))


def test_what_stays_torch_npus_own_runs_no_kernel() -> None:
    x = torch.randn(4, 4).npu()
    assert torch_npu.npu_prefetch(x, None, 64) is None
    assert torch_npu.get_storage_size(x) == 16
    place = {"dtype": torch.float32, "device": torch.device("npu:0")}
    for made in (
        torch_npu.empty_with_format([2, 3], **place, acl_format=2),
        torch_npu.empty_with_format([2, 3], **place, acl_format=29),
        torch.ops.npu.unsafe_empty_with_format([2, 3], **place, acl_format=29),
        torch_npu.empty_with_swapped_memory([2, 3], **place),
    ):
        same(made.fill_(2).add(1).cpu(), torch.full((2, 3), 3.0))

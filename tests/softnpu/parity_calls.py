"""Calls of overloads that the samples of OpInfo do not lead to, in the shape of OpInfos."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.testing._internal.opinfo.core import SampleInput

__all__ = ["CALLS"]


class Call:
    """One call of an aten overload; it has of an OpInfo what the parity run asks for."""

    variant_test_name = ""
    supports_autograd = False
    supports_out = False
    inplace_variant = None

    def __init__(self, overload: str, *args: Any, **kwargs: Any) -> None:
        packet, _, rest = overload.partition(".")
        self.name = f"aten::{overload}"
        self.op = getattr(getattr(torch.ops.aten, packet), rest or "default")
        self.args, self.kwargs = args, kwargs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.op(*args, **kwargs)

    def supported_dtypes(self, device: str) -> set[torch.dtype]:
        return {torch.float32}

    def supported_backward_dtypes(self, device: str) -> set[torch.dtype]:
        return set()

    def sample_inputs(
        self, device: str, dtype: torch.dtype, requires_grad: bool
    ) -> Iterator[SampleInput]:
        yield SampleInput(self.args[0], args=self.args[1:], kwargs=self.kwargs)


def _real(*size: int) -> torch.Tensor:
    return torch.linspace(-1.3, 1.7, torch.Size(size).numel()).view(size).sin().contiguous()


def _whole(*size: int) -> torch.Tensor:
    return torch.arange(torch.Size(size).numel()).mul(7).remainder(5).view(size)


def _calls() -> Iterator[Call]:
    x, y, n = _real(3, 4), _real(3, 4) + 2, _whole(3, 4)
    cpu = {"device": torch.device("cpu")}
    for name in ("lshift", "rshift"):
        for short in (f"__{name}__", f"__i{name}__"):
            yield Call(f"{short}.Scalar", n, 2)
            yield Call(f"{short}.Tensor", n, n)
    for name in ("left", "right"):
        yield Call(f"bitwise_{name}_shift.Scalar_Tensor", 2, n)
        yield Call(f"bitwise_{name}_shift.Tensor_Scalar", n, 2)
    for name in ("and", "or", "xor"):
        yield Call(f"bitwise_{name}.Scalar", n, 3)
    yield Call("__ior__.Scalar", n, 3)
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        yield Call(f"{name}_.Scalar", n, 2)
    yield Call("fmod.Scalar", x, 0.7)
    yield Call("remainder.Scalar_Tensor", 5.0, y)
    yield Call("floor_divide.Scalar", n, 2)
    yield Call("div.Scalar_mode", x, 0.3, rounding_mode="floor")
    yield Call("xlogy.Scalar_Other", y, 2.0)
    yield Call("xlogy.Scalar_Self", 2.0, y)
    yield Call("lerp.Tensor", x, y, y)
    yield Call("clamp_max", x, 0.2)
    yield Call("_add_relu.Tensor", x, y)
    yield Call("fill_.Tensor", x, torch.tensor(2.0))
    yield Call("fill_diagonal_", x, 3.0)
    yield Call("index_fill.int_Tensor", x, 0, _whole(2), torch.tensor(1.0))
    yield Call("flatten_dense_tensors", [x, y])
    yield Call("where", x > 0)
    # reductions, sorting, searching
    yield Call("_aminmax", x)
    yield Call("_aminmax.dim", x, 1)
    yield Call("count_nonzero.dim_IntList", n, [1])
    yield Call("median.dim", x, 1)
    yield Call("prod.dim_int", x, 1)
    yield Call("norm.ScalarOpt_dtype", x, 2.0, dtype=torch.float64)
    yield Call("norm.ScalarOpt_dim_dtype", x, 2.0, [1], False, dtype=torch.float64)
    yield Call("sort.stable", n, stable=True, dim=1)
    yield Call("argsort.stable", n, stable=True, dim=1)
    yield Call("isin.Tensor_Scalar", n, 2)
    yield Call("bucketize.Scalar", 0.5, x.flatten().sort().values)
    yield Call("searchsorted.Scalar", x.flatten().sort().values, 0.5)
    yield Call("_unique", n)
    yield Call("unique_dim", n, 0)
    yield Call("repeat_interleave.Tensor", _whole(4))
    yield Call("repeat_interleave.self_Tensor", x, _whole(3), 0)
    yield Call("inverse", _real(3, 3) + torch.eye(3))
    yield Call("slogdet", _real(3, 3) + torch.eye(3))
    # new tensors
    for name in ("bartlett", "blackman", "hamming", "hann"):
        yield Call(f"{name}_window", 6, **cpu)
        yield Call(f"{name}_window.periodic", 6, False, **cpu)
    yield Call("hamming_window.periodic_alpha", 6, True, 0.5, **cpu)
    yield Call("hamming_window.periodic_alpha_beta", 6, True, 0.5, 0.4, **cpu)
    yield Call("range", 0, 4, **cpu)
    yield Call("range.step", 0, 4, 0.5, **cpu)
    yield Call("eye.m", 3, 2, **cpu)
    yield Call("arange.out", 5, out=torch.empty(0))
    yield Call("randperm", 7, **cpu)
    yield Call("randperm.out", 7, out=torch.empty(0, dtype=torch.int64))
    yield Call("bernoulli.p", x, 0.5)
    yield Call("bernoulli_.float", x, 0.5)
    yield Call("bernoulli_.Tensor", x, torch.full((3, 4), 0.5))
    yield Call("random_", x)
    yield Call("random_.to", n, 9)
    yield Call("normal.Tensor_float", x, 2.0)
    yield Call("normal.float_Tensor", 1.0, y)
    # layers
    image, volume = _real(1, 2, 5, 5), _real(1, 2, 3, 4, 5)
    frame2, frame3 = [1, 2, 0, 1], [1, 2, 0, 1, 1, 1]
    for kind in ("reflection", "replication"):
        yield Call(f"{kind}_pad2d", image, frame2)
        yield Call(f"{kind}_pad2d_backward", _real(1, 2, 6, 8), image, frame2)
        yield Call(f"{kind}_pad3d", volume, frame3)
        yield Call(f"{kind}_pad3d_backward", _real(1, 2, 5, 5, 8), volume, frame3)
    for name in ("upsample_nearest", "_upsample_nearest_exact"):
        yield Call(f"{name}2d", image, [7, 10])
        yield Call(f"{name}2d_backward", _real(1, 2, 7, 10), [7, 10], [1, 2, 5, 5])
        yield Call(f"{name}3d", volume, [6, 4, 7])
        yield Call(f"{name}3d_backward", _real(1, 2, 6, 4, 7), [6, 4, 7], [1, 2, 3, 4, 5])
    yield Call("_upsample_bicubic2d_aa", image, [3, 4], False)
    yield Call("_upsample_bicubic2d_aa_backward", _real(1, 2, 3, 4), [3, 4], [1, 2, 5, 5], False)
    yield Call("adaptive_avg_pool3d.out", volume, [2, 2, 2], out=torch.empty(1, 2, 2, 2, 2))
    target = _whole(1, 5, 5).remainder(2)
    yield Call("nll_loss2d_forward", image, target, None, 1, -100)
    total = torch.tensor(25.0)
    yield Call("nll_loss2d_backward", torch.tensor(1.5), image, target, None, 1, -100, total)
    yield Call("conv_tbc", _real(5, 2, 3), _real(3, 3, 4), _real(4), 1)
    kernel, deep = _real(4, 2, 3, 3), _real(4, 2, 2, 2, 2)
    yield Call("_slow_conv2d_forward", image, kernel, [3, 3], None, [1, 1], [1, 0])
    yield Call("slow_conv3d_forward", volume, deep, [2, 2, 2], None, [1, 1, 1], [0, 1, 0])
    yield Call("slow_conv_dilated2d", image, kernel, [3, 3], None, [1, 1], [2, 2], [2, 2])
    yield Call("slow_conv_transpose2d", image, _real(2, 4, 3, 3), [3, 3])
    yield Call("_weight_norm", x, _real(3, 1), 0)
    theta, grid = _real(1, 2, 3), [1, 2, 4, 5]
    yield Call("affine_grid_generator", theta, grid, False)
    yield Call("affine_grid_generator_backward", _real(1, 4, 5, 2), grid, False)
    yield Call("embedding_renorm_", x, _whole(2), 1.0, 2.0)
    yield Call("_embedding_bag_forward_only", x, _whole(6).remainder(3), torch.tensor([0, 2]))
    yield Call("_masked_softmax", x, x > 0, 1, 2)
    yield Call("_transform_bias_rescale_qkv", _real(2, 3, 12), _real(12), 2)
    words = _real(2, 3, 4)
    weights = (_real(12, 4), _real(12), _real(4, 4), _real(4))
    yield Call("_native_multi_head_attention", words, words, words, 4, 2, *weights)
    yield Call("_addmm_activation.out", x, _real(3, 2), _real(2, 4), out=torch.empty(3, 4))


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.range is deprecated, and torch_npu has a kernel
    CALLS = list(_calls())

"""Integer arithmetic of quantised inference, in the forms that are plain: int8, no groups."""

from __future__ import annotations

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.casts import dtype_of
from mx_autopatch.softnpu.npu.reference import reference, unsupported, widened, without

__all__: list[str] = []

#: torch's numbers of quantised dtypes, and the plain ones that torch_npu returns for them.
_INTEGERS = {
    0: torch.uint8,
    1: torch.int8,
    3: torch.int32,
    12: torch.int8,
    13: torch.uint8,
    14: torch.int32,
}


def _rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """To the nearest integer, halves to the even one, within the range of ``dtype``."""
    limits = torch.iinfo(dtype)
    return values.round().clamp(limits.min, limits.max).to(dtype)


def _along(vector: Tensor, input: Tensor, axis: int) -> Tensor:
    if vector.numel() == 1 or vector.dim() == input.dim():
        return vector
    shape = [1] * input.dim()
    shape[axis] = -1
    return vector.reshape(shape)


@reference("npu_quantize")
def npu_quantize(
    input: Tensor,
    scales: Tensor,
    zero_points: Tensor | None,
    dtype: int,
    axis: int = 1,
    div_mode: bool = True,
) -> Tensor:
    """``round(input / scales) + zero_points`` (or ``input * scales``), saturated.

    Args:
        scales: One, or one for each place along ``axis``; so for ``zero_points``.
        dtype: qint8, quint8 or qint32, as torch numbers them, or their plain kin.
    """
    target = _INTEGERS.get(int(dtype))
    if target is None:
        unsupported("npu_quantize", f"dtype {dtype}")
    scale = widened(_along(scales, input, axis))
    scaled = widened(input) / scale if div_mode else widened(input) * scale
    if zero_points is not None:
        scaled = scaled + _along(zero_points, input, axis)
    return _rounded(scaled, target)


@reference("npu_anti_quant")
def npu_anti_quant(
    x: Tensor,
    scale: Tensor,
    *,
    offset: Tensor | None = None,
    dst_dtype: int | None = None,
    src_dtype: int | None = None,
) -> Tensor:
    """``(x + offset) * scale`` of int8, in float16 unless ``dst_dtype`` says otherwise."""
    if x.dtype != torch.int8:
        unsupported("npu_anti_quant", f"x of {x.dtype}")
    values = x.float()
    if offset is not None:
        values = values + offset.float()
    dtype = torch.float16 if dst_dtype is None else dtype_of(dst_dtype, "npu_anti_quant")
    return (values * scale.float()).to(dtype)


@reference("npu_dynamic_quant")
def npu_dynamic_quant(
    input: Tensor,
    *,
    smooth_scales: Tensor | None = None,
    group_index: Tensor | None = None,
    dst_type: int | None = None,
    quant_mode: str = "pertoken",
    dst_type_max: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """int8 of each row by its own scale, and the scales, float32 without the last dimension."""
    without("npu_dynamic_quant", group_index=group_index, dst_type_max=dst_type_max)
    if quant_mode != "pertoken" or dst_type not in (None, 1):
        unsupported("npu_dynamic_quant", f"quant_mode {quant_mode!r} or dst_type {dst_type}")
    values = input.float()
    if smooth_scales is not None:
        values = values * smooth_scales.float()
    scale = values.abs().amax(-1, keepdim=True) / 127
    quantised = torch.where(scale > 0, values / scale, 0.0)
    return _rounded(quantised, torch.int8), scale.squeeze(-1)


@reference("npu_quant_matmul")
def npu_quant_matmul(
    x1: Tensor,
    x2: Tensor,
    scale: Tensor,
    *,
    offset: Tensor | None = None,
    pertoken_scale: Tensor | None = None,
    bias: Tensor | None = None,
    output_dtype: int | None = None,
    x1_dtype: int | None = None,
    x2_dtype: int | None = None,
    pertoken_scale_dtype: int | None = None,
    scale_dtype: int | None = None,
    group_sizes: list[int] | None = None,
    y_scale: Tensor | None = None,
) -> Tensor:
    """``(x1 @ x2 + bias) * scale * pertoken_scale + offset`` of int8.

    A bias that is not int32 is added after scaling.

    Args:
        scale: ``(1,)`` or ``(n,)``, float32 or bfloat16; the packed int64 form is refused.
        pertoken_scale: ``(m,)`` float32.
        output_dtype: int8 unless given; float16, bfloat16 and int32 besides.
    """
    operator = "npu_quant_matmul"
    if x1.dtype != torch.int8 or x2.dtype != torch.int8 or not scale.is_floating_point():
        unsupported(operator, f"x1 {x1.dtype}, x2 {x2.dtype}, scale {scale.dtype}")
    without(operator, group_sizes=group_sizes, y_scale=y_scale, scale_dtype=scale_dtype)
    without(operator, pertoken_scale_dtype=pertoken_scale_dtype)
    dtype = torch.int8 if output_dtype is None else dtype_of(output_dtype, operator)
    # Sums of products of int8 are whole, and exact in float64.
    total = x1.double() @ x2.double()
    if bias is not None and not bias.is_floating_point():
        total = total + bias
    if dtype == torch.int32:
        return total.int()
    result = total * scale.double()
    if pertoken_scale is not None:
        result = result * pertoken_scale.double().unsqueeze(-1)
    if bias is not None and bias.is_floating_point():
        result = result + bias
    if offset is not None:
        result = result + offset
    return _rounded(result, dtype) if dtype == torch.int8 else result.to(dtype)


@reference("npu_weight_quant_batchmatmul")
def npu_weight_quant_batchmatmul(
    x: Tensor,
    weight: Tensor,
    antiquant_scale: Tensor,
    antiquant_offset: Tensor | None = None,
    quant_scale: Tensor | None = None,
    quant_offset: Tensor | None = None,
    bias: Tensor | None = None,
    antiquant_group_size: int = 0,
    inner_precise: int = 0,
    weight_dtype: int | None = None,
) -> Tensor:
    """``x @ ((weight + antiquant_offset) * antiquant_scale) + bias`` of an int8 weight.

    Args:
        x: ``(m, k)``; weight ``(k, n)``.
        antiquant_scale: ``(1,)``, ``(n,)`` or ``(1, n)``; by groups of rows
            ``(k / antiquant_group_size, n)``.
    """
    operator = "npu_weight_quant_batchmatmul"
    if weight.dtype != torch.int8:
        unsupported(operator, f"a weight of {weight.dtype}")
    without(operator, quant_scale=quant_scale, quant_offset=quant_offset)

    def spread(vector: Tensor) -> Tensor:
        if antiquant_group_size:
            vector = vector.repeat_interleave(antiquant_group_size, 0)[: weight.size(0)]
        return vector.float()

    plain = weight.float()
    if antiquant_offset is not None:
        plain = plain + spread(antiquant_offset)
    result = widened(x) @ (plain * spread(antiquant_scale))
    if bias is not None:
        result = result + bias.float()
    return result.to(x.dtype)

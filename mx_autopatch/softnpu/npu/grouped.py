"""Products of groups of rows with a matrix each, unquantised."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.casts import dtype_of
from mx_autopatch.softnpu.npu.reference import reference, unsupported, widened, without

__all__: list[str] = []


def _grouped(
    operator: str,
    x: list[Tensor],
    weight: list[Tensor],
    bias: list[Tensor] | None,
    sizes: list[int] | None,
    split_item: int,
    group_type: int | None,
    act_type: int,
    dtype: torch.dtype | None,
) -> list[Tensor]:
    if group_type not in (None, -1, 0) or act_type:
        unsupported(operator, f"group_type {group_type} or act_type {act_type}")
    matrices = list(weight[0].unbind(0)) if len(weight) == 1 and weight[0].dim() == 3 else weight
    if bias and len(bias) == 1 and bias[0].dim() == 2:
        shifts: Sequence[Tensor | None] = list(bias[0].unbind(0))
    else:
        shifts = bias or [None] * len(matrices)
    parts = x
    if len(x) == 1 and len(matrices) > 1:
        if sizes is None:
            raise RuntimeError(f"{operator}: one x for {len(matrices)} weights needs group_list")
        parts = list(x[0][: sum(sizes)].split(sizes))
    results = []
    for part, matrix, shift in zip(parts, matrices, shifts):
        product = widened(part) @ widened(matrix)
        if shift is not None:
            product = product + widened(shift)
        results.append(product.to(dtype or part.dtype))
    if split_item in (0, 1):
        return results
    joined = torch.cat(results)
    missing = x[0].size(0) - joined.size(0) if len(x) == 1 else 0
    return [torch.nn.functional.pad(joined, (0, 0, 0, missing))]


def _sizes(ends: Sequence[int], kind: int | None, operator: str) -> list[int]:
    """The rows of each group, from their ends (0) or as they are (1)."""
    if kind not in (None, 0, 1):
        unsupported(operator, f"group_list_type {kind}")
    if kind == 1:
        return [int(end) for end in ends]
    return [int(b) - int(a) for a, b in zip([0, *ends], ends)]


@reference("npu_grouped_matmul")
def npu_grouped_matmul(
    x: list[Tensor],
    weight: list[Tensor],
    *,
    bias: list[Tensor] | None = None,
    scale: list[Tensor] | None = None,
    offset: list[Tensor] | None = None,
    antiquant_scale: list[Tensor] | None = None,
    antiquant_offset: list[Tensor] | None = None,
    per_token_scale: list[Tensor] | None = None,
    group_list: Tensor | None = None,
    activation_input: list[Tensor] | None = None,
    activation_quant_scale: list[Tensor] | None = None,
    activation_quant_offset: list[Tensor] | None = None,
    split_item: int | None = 0,
    group_type: int | None = None,
    group_list_type: int | None = 0,
    act_type: int | None = 0,
    tuning_config: list[int] | None = None,
    output_dtype: int | None = None,
    x_dtype: int | None = None,
    weight_dtype: int | None = None,
    scale_dtype: int | None = None,
    per_token_scale_dtype: int | None = None,
) -> list[Tensor]:
    """``x[i] @ weight[i] + bias[i]``, or groups of rows of a single x.

    Args:
        weight: Matrices ``(k, n)``, or one tensor ``(groups, k, n)``.
        group_list: Ends of the groups, or their sizes if ``group_list_type`` is 1.
        split_item: 0 or 1 for a result each, 2 or 3 for one.
        group_type: -1 for none, 0 for groups of rows.
    """
    operator = "npu_grouped_matmul"
    without(operator, scale=scale, offset=offset, antiquant_scale=antiquant_scale)
    without(operator, antiquant_offset=antiquant_offset, per_token_scale=per_token_scale)
    without(operator, activation_input=activation_input)
    sizes = None
    if group_list is not None:
        sizes = _sizes(group_list.tolist(), group_list_type, operator)
    dtype = None if output_dtype is None else dtype_of(output_dtype, operator)
    return _grouped(
        *(operator, x, weight, bias, sizes, split_item or 0, group_type, act_type or 0, dtype)
    )


@reference("npu_grouped_matmul.List")
def npu_grouped_matmul_list(
    x: list[Tensor],
    weight: list[Tensor],
    *,
    bias: list[Tensor] | None = None,
    scale: list[Tensor] | None = None,
    offset: list[Tensor] | None = None,
    antiquant_scale: list[Tensor] | None = None,
    antiquant_offset: list[Tensor] | None = None,
    per_token_scale: list[Tensor] | None = None,
    group_list: list[int] | None = None,
    activation_input: list[Tensor] | None = None,
    activation_quant_scale: list[Tensor] | None = None,
    activation_quant_offset: list[Tensor] | None = None,
    split_item: int | None = 0,
    group_type: int | None = None,
    group_list_type: int | None = 0,
    act_type: int | None = 0,
    output_dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """As above, with the groups in a list."""
    operator = "npu_grouped_matmul"
    without(operator, scale=scale, offset=offset, antiquant_scale=antiquant_scale)
    without(operator, antiquant_offset=antiquant_offset, per_token_scale=per_token_scale)
    without(operator, activation_input=activation_input)
    sizes = None if group_list is None else _sizes(group_list, group_list_type, operator)
    return _grouped(
        *(operator, x, weight, bias, sizes, split_item or 0, group_type, act_type or 0),
        output_dtype,
    )

"""Casts of dtype and format, and the flags of overflow.

A format is how the hardware lays a tensor out in memory. The soft NPU knows only ND: a
format number is checked, and what comes back is ND, as ``get_npu_format`` says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mx_autopatch.softnpu.npu.reference import reference, unsupported

__all__: list[str] = []

#: Numbers of torch's dtypes as torch_npu's integer arguments have them.
_DTYPES = {
    **dict(enumerate((torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64))),
    **dict(enumerate((torch.float16, torch.float32, torch.float64), 5)),
    **dict(enumerate((torch.complex32, torch.complex64, torch.complex128, torch.bool), 8)),
    15: torch.bfloat16,
    23: torch.float8_e5m2,
    24: torch.float8_e4m3fn,
    291: torch.float8_e5m2,
    292: torch.float8_e4m3fn,
}

#: Formats of ACL: UNDEFINED, NCHW, NHWC, ND, NC1HWC0, FRACTAL_Z, NC1HWC0_C04, HWCN, NDHWC,
#: FRACTAL_NZ, NCDHW, NDC1HWC0, FRACTAL_Z_3D, NC, NCL, and the NZ of other cube sizes.
_FORMATS = frozenset((-1, 0, 1, 2, 3, 4, 12, 16, 27, 29, 30, 32, 33, 35, 47, 50, 51))


def dtype_of(number: int, operator: str) -> torch.dtype:
    """The torch dtype of a number; those that torch has no dtype for are refused."""
    dtype = _DTYPES.get(int(number))
    if dtype is None:
        unsupported(operator, f"dtype {number}")
    return dtype


@reference("npu_dtype_cast")
def npu_dtype_cast(input: Tensor, dtype: int, input_dtype: int | None = None) -> Tensor:
    if input_dtype is not None and dtype_of(input_dtype, "npu_dtype_cast") != input.dtype:
        unsupported("npu_dtype_cast", f"input_dtype {input_dtype} for {input.dtype}")
    return input.to(dtype_of(dtype, "npu_dtype_cast"))


@reference("_npu_dtype_cast")
def _npu_dtype_cast(input: Tensor, dtype: torch.dtype) -> Tensor:
    return input.to(dtype)


@reference("_npu_dtype_cast_backward")
def _npu_dtype_cast_backward(grad: Tensor, dtype: torch.dtype) -> Tensor:
    return grad.to(dtype)


@reference("npu_dtype_cast_backward")
def npu_dtype_cast_backward(
    grad: Tensor,
    dtype: torch.dtype,
    grad_dtype: int | None = None,
    input_dtype: int | None = None,
) -> Tensor:
    for number in (grad_dtype, input_dtype):
        if number is not None:
            dtype_of(number, "npu_dtype_cast_backward")
    return grad.to(dtype)


@reference("npu_dtype_cast_")
def npu_dtype_cast_(input: Tensor, src: Tensor) -> Tensor:
    """``src`` written into ``input``, in the dtype of ``input``."""
    return input.copy_(src)


def _checked(acl_format: int, operator: str) -> None:
    if int(acl_format) not in _FORMATS:
        raise RuntimeError(f"{operator}: {acl_format} is no format of ACL")


# ``npu_format_cast`` is torch_npu's own: it compares formats and calls one of these.


@reference("_npu_format_cast")
def _npu_format_cast(input: Tensor, acl_format: int) -> Tensor:
    """The same elements; they stay ND."""
    _checked(acl_format, "_npu_format_cast")
    return input


@reference("_npu_format_cast.aclnn")
def _npu_format_cast_aclnn(input: Tensor, acl_format: int, customize_dtype: int) -> Tensor:
    return _npu_format_cast(input, acl_format)


@reference("_npu_format_cast.input_dtype")
def _npu_format_cast_input_dtype(
    input: Tensor, acl_format: int, customize_dtype: int, input_dtype: int
) -> Tensor:
    return _npu_format_cast(input, acl_format)


@reference("npu_format_cast_.acl_format")
def npu_format_cast_(
    input: Tensor,
    acl_format: int,
    *,
    customize_dtype: int | None = None,
    input_dtype: int | None = None,
) -> Tensor:
    _checked(acl_format, "npu_format_cast_")
    return input


@reference("npu_format_cast_")
def npu_format_cast_from(
    input: Tensor,
    src: Tensor,
    *,
    customize_dtype: int | None = None,
    input_dtype: int | None = None,
) -> Tensor:
    """``src`` written into ``input``, whose format it takes."""
    return input.copy_(src)


# The hardware counts overflows in eight words of a register that arithmetic sets. Arithmetic
# of the CPU gives inf and nan instead, which an Ascend 910B1 does too by default, and which
# torch_npu's GradScaler looks for: the register stays clear.


@reference("npu_alloc_float_status")
def npu_alloc_float_status(input: Tensor) -> Tensor:
    """Eight zeros, float32."""
    return torch.zeros(8, dtype=torch.float32, device=input.device)


@reference("npu_get_float_status")
def npu_get_float_status(input: Tensor, mode: int = 0) -> Tensor:
    """Eight zeros, int32: nothing has overflowed silently."""
    return torch.zeros(8, dtype=torch.int32, device=input.device)


@reference("npu_clear_float_status")
def npu_clear_float_status(input: Tensor, mode: int = 0) -> Tensor:
    return torch.zeros(8, dtype=input.dtype, device=input.device)


@reference("_amp_foreach_non_finite_check")
def _amp_foreach_non_finite_check(scaled_grads: list[Tensor]) -> bool:
    """Whether any gradient has an inf or a nan."""
    return not all(bool(torch.isfinite(grad).all()) for grad in scaled_grads)

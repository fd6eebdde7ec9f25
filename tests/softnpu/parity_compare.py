"""Samples put on a device as they lie in memory, and results compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

__all__ = ["Disagreement", "compare", "names_device", "placed"]

#: Relative and absolute; for what vectorised loops add up in another order.
_TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 1e-5,
    torch.complex128: 1e-11,
    torch.complex64: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}


class Disagreement(Exception):
    """The soft NPU does not do what the CPU does; the message says in what."""


def placed(sample: Any, device: torch.device) -> Any:
    """A copy of a sample on ``device``: offsets, strides and shared memory are the same.

    Tensors that are views of one another still are, one given twice is given twice, and
    arguments that name a device name this one.
    """
    tensors: dict[int, Tensor] = {}
    memories: dict[tuple[int, torch.dtype], Tensor] = {}

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            if id(value) not in tensors:
                tensors[id(value)] = _moved(value, device, memories)
            return tensors[id(value)]
        return device if _is_device(value) else value

    return tree_map(moved, sample)


def names_device(sample: Any) -> bool:
    """Whether ``placed`` has anything to put on the device."""
    return any(isinstance(x, Tensor) or _is_device(x) for x in tree_flatten(sample)[0])


def _is_device(value: Any) -> bool:
    return isinstance(value, torch.device) or (isinstance(value, str) and value == "cpu")


def _moved(
    value: Tensor, device: torch.device, memories: dict[tuple[int, torch.dtype], Tensor]
) -> Tensor:
    plain = value.detach()
    if value.layout != torch.strided:
        return plain.clone().to(device).requires_grad_(value.requires_grad)
    storage = value.untyped_storage()
    key = (storage.data_ptr(), value.dtype)
    if key not in memories:
        flat = torch.empty(0, dtype=value.dtype).set_(storage)
        memories[key] = flat.clone().to(device)
    result = memories[key].as_strided(plain.size(), plain.stride(), plain.storage_offset())
    if plain.is_conj():
        result = torch._conj(result)
    if plain.is_neg():
        result = torch._neg_view(result)
    return result.detach().requires_grad_(value.requires_grad)


def compare(
    host: Any, ours: Any, values: bool = True, strides: bool = True, factor: float = 1
) -> None:
    """Raise Disagreement unless ``ours``, of the soft NPU, is what ``host`` is.

    Args:
        values: False: only type, dtype, shape and stride, for what is random or not set.
        strides: Whether the strides are to be equal.
        factor: By what the tolerance is larger than for identical kernels.
    """
    (left, shape), (right, other) = tree_flatten(host), tree_flatten(ours)
    if shape != other:
        raise Disagreement(f"structure {other} instead of {shape}")
    for i, (one, two) in enumerate(zip(left, right)):
        where = f"result {i}: " if len(left) > 1 else ""
        if isinstance(one, Tensor) and isinstance(two, Tensor):
            problem = _difference(one, two, values, strides, factor)
        elif isinstance(one, torch.device):
            problem = None
        elif type(one) is not type(two):
            problem = f"{type(two).__name__} instead of {type(one).__name__}"
        elif values and one != two and not (one != one and two != two):
            problem = f"{two!r} instead of {one!r}"
        else:
            problem = None
        if problem:
            raise Disagreement(where + problem)


def _steps(tensor: Tensor) -> list[int]:
    """The strides that matter: where there is a second element to step to."""
    return [step for size, step in zip(tensor.shape, tensor.stride()) if size > 1]


def _difference(
    host: Tensor, ours: Tensor, values: bool, strides: bool, factor: float
) -> str | None:
    if ours.device.type != "npu" and host.layout == torch.strided:
        return f"is on {ours.device}"
    for what in ("dtype", "layout", "shape", "requires_grad"):
        if getattr(host, what) != getattr(ours, what):
            return f"{what} {getattr(ours, what)} instead of {getattr(host, what)}"
    if host.layout == torch.strided:
        if strides and host.numel() and _steps(host) != _steps(ours):
            return f"stride {ours.stride()} instead of {host.stride()} for {tuple(host.shape)}"
        if host.is_conj() != ours.is_conj() or host.is_neg() != ours.is_neg():
            return "is a conjugate or negative view, or is not one, unlike on the CPU"
    if not values:
        return None
    tolerance = factor * _TOLERANCE.get(host.dtype, 0.0)
    try:
        torch.testing.assert_close(
            ours.detach().cpu(), host.detach(), rtol=tolerance, atol=tolerance, equal_nan=True
        )
    except AssertionError as error:
        return " ".join(str(error).split())[:160]
    return None

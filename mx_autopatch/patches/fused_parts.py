"""How the tensors of a fused optimizer lie together, and which may.

Parameters are moved by torch_npu's npu_change_data_ptr, which points the storage of each into
the one of all and leaves whose that is to the caller. States and gradients are views of
theirs.

Imported with torch and torch_npu, see fused_optimizers.py.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing import reductions

__all__ = [
    "Part",
    "StorageWeakRef",
    "flatten",
    "gradient_can",
    "parameter_can",
    "state_can",
    "states_of",
    "unflatten",
]

# torch's annotations have gaps.
flatten: Any = torch._utils._flatten_dense_tensors
unflatten: Any = torch._utils._unflatten_dense_tensors
StorageWeakRef: Any = reductions.StorageWeakRef

_FORMATS = ("NCHW", "ND", "NCDHW")


class Part:
    """Parameters whose step is computed as one: of a group, of a dtype, equally old."""

    def __init__(self, group: int, names: Sequence[str]) -> None:
        self.group = group
        self.names = names
        self.parameters: list[Tensor] = []
        self.step = 0
        #: Name of a state -> the tensor of all parameters, and that of each, a view of it.
        self.states: dict[str, Any] = {}
        self.views: list[list[Tensor]] = []
        self.places: list[int] = []

    def lay_out(self, state: dict[Any, Any]) -> None:
        """Put parameters and states into one tensor each."""
        import torch_npu

        self.flat = flatten(self.parameters)
        if len(self.parameters) > 1:  # else it is a view of that one
            # torch_npu's npu_combine_tensors does it too, after a copy of zeros from the host.
            start = 0
            for p in self.parameters:
                torch_npu.npu_change_data_ptr(p, self.flat, start)
                start += p.numel()
            _keep(self.flat, self.parameters)
        self.places = [p.data_ptr() for p in self.parameters]
        for name in self.names:
            each = [state[p][name] for p in self.parameters]
            flat = flatten(each)
            views = list(unflatten(flat, self.parameters))
            for p, view in zip(self.parameters, views):
                state[p][name] = view
            self.states[name] = flat
            self.views.append(views)
        self.states["step"] = self.step

    def holds(self, state: dict[Any, Any]) -> bool:
        """Whether parameters and states are where they were put."""
        if [p.data_ptr() for p in self.parameters] != self.places:
            return False
        return all(
            state[p].get(name) is view
            for name, views in zip(self.names, self.views)
            for p, view in zip(self.parameters, views)
        )


def states_of(group: dict[str, Any]) -> tuple[str, ...]:
    """The names of the tensors that torch's optimizer keeps for each parameter."""
    if "betas" not in group:
        return ("momentum_buffer",) if group["momentum"] else ()
    return ("exp_avg", "exp_avg_sq") + (("max_exp_avg_sq",) if group["amsgrad"] else ())


def _owns_memory(tensor: Tensor) -> bool:
    return (
        tensor.storage_offset() == 0
        and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    )


def parameter_can(p: Tensor) -> bool:
    """Whether a parameter may be moved: nothing else lies in its memory, in any order."""
    import torch_npu

    return (
        type(p) in (Tensor, torch.nn.Parameter)
        and p.device.type == "npu"
        and p.dtype in (torch.float32, torch.float16)
        and p.is_contiguous()
        and p.numel() > 0
        and _owns_memory(p)
        and str(torch_npu.get_npu_format(p)).rpartition(".")[2] in _FORMATS
    )


def state_can(state: Any, p: Tensor) -> bool:
    return (
        isinstance(state, Tensor)
        and state.shape == p.shape
        and state.dtype is p.dtype
        and state.device == p.device
    )


def gradient_can(p: Tensor, flats: Mapping[int, Any]) -> bool:
    """Whether another gradient may take its place: not so in the buckets of DDP."""
    grad = p.grad
    return (
        type(grad) is Tensor
        and grad.layout is torch.strided
        and grad.dtype is p.dtype
        and grad.device == p.device
        and not grad.requires_grad
        and (_owns_memory(grad) or grad.untyped_storage()._cdata in flats)
    )


# -- memory that is held as long as any tensor over it -------------------------------------------

_kept: list[tuple[Tensor, list[Any]]] = []


def _keep(flat: Tensor, parameters: Sequence[Tensor]) -> None:
    """Hold ``flat`` as long as one of the parameters' storages, which point into it, is there."""
    _kept.append((flat, [StorageWeakRef(p.untyped_storage()) for p in parameters]))
    for p in parameters:
        weakref.finalize(p, _let_go).atexit = False
    _let_go()


def _let_go() -> None:
    _kept[:] = [
        (flat, storages)
        for flat, storages in _kept
        if not all(storage.expired() for storage in storages)
    ]

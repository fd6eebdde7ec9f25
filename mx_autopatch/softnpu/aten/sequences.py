"""Sequences packed for recurrent networks: the sizes of the batches stay on the CPU."""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch import Tensor

from mx_autopatch.softnpu.alias import on_device, on_host

__all__ = ["KERNELS"]


def _pack_padded_sequence(
    input: Tensor, lengths: Tensor, batch_first: bool
) -> tuple[Tensor, Tensor]:
    """The elements on the device of ``input``; how many there are at each step on the CPU.

    Raises:
        RuntimeError: ``lengths`` is not on the CPU: torch's own words, as on the hardware.
    """
    if lengths.device.type != "cpu":
        raise RuntimeError(
            "'lengths' argument should be a 1D CPU int64 tensor, "
            f"but got {lengths.dim()}D {lengths.device} {lengths.dtype} tensor"
        )
    packed, sizes = torch.ops.aten._pack_padded_sequence.default(
        on_host(input), lengths, batch_first
    )
    return on_device(packed, input.device), sizes


KERNELS: dict[str, Callable[..., Any]] = {"aten::_pack_padded_sequence": _pack_padded_sequence}

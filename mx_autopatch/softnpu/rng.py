"""Random numbers of the soft NPU.

A generator of torch_npu holds a seed and an offset and draws in a kernel. Here the CPU
draws, from a generator made of the two for each operator; then the offset moves on. So
everything that a script can do to the state (seed it, save it, set it back, as activation
checkpointing does) has the effect that it has on the hardware, and the CPU's own
generator is not touched. The numbers are not those of an NPU; the first operator after
seeding draws what the CPU would.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["drawing", "drawn_from"]

#: torch_npu wants a multiple of four.
_STEP = 4
_MIX = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def drawn_from(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    """A CPU generator for one operator, at the state of an npu generator, which it advances.

    Args:
        generator: None for the default one of ``device``.
    """
    if generator is None:
        from torch_npu.npu import _lazy_init, current_device, default_generators

        _lazy_init()
        index = device.index if device.index is not None else current_device()
        generator = default_generators[index]
    elif generator.device.type != "npu":
        raise RuntimeError(
            f"Expected a 'npu' device type for generator but found '{generator.device.type}'"
        )
    seed, offset = generator.initial_seed(), generator.get_offset()
    generator.set_offset(offset + _STEP)
    host = torch.Generator()
    host.manual_seed(seed if offset == 0 else (seed ^ (offset * _MIX)) & _MASK)
    return host


@contextmanager
def drawing(device: torch.device) -> Iterator[None]:
    """Let operators that take no generator draw from the default one of ``device``."""
    default = torch.default_generator
    state = default.get_state()
    default.set_state(drawn_from(None, device).get_state())
    try:
        yield
    finally:
        default.set_state(state)

"""Whether all ranks of a group mean the same collective, before any data moves.

HCCL compares the parameters of a collective between its ranks. Gloo does not: it waits for
ever, writes half of a tensor, or ends the process. So each rank says first what it is about
to do, in one small exchange.
"""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C import _distributed_c10d as c10d

__all__ = ["agreed", "described"]

_TEXT = 160  # bytes


def described(what: str, *details: object) -> str:
    """A collective in words: all ranks must come with the same ones."""
    return f"{what}({', '.join(map(str, details))})"


def agreed(
    gloo: Any,
    text: str,
    counts: list[int],
    timeout: timedelta,
    names: list[int],
) -> Tensor:
    """Exchange what the ranks are about to do; all must come with the same ``text``.

    Args:
        counts: Up to two numbers for each rank, which may differ between the ranks.
        timeout: How long to wait for the others; negative for the group's own.
        names: The global ranks in the group, for messages.

    Returns:
        What each rank has passed as ``counts``: int64 of size (ranks, 2 * ranks), zero
        where fewer were given.

    Raises:
        DistBackendError: two ranks differ.
    """
    size = gloo.size()
    mine = torch.zeros(_TEXT + 16 * size, dtype=torch.uint8)
    words = text.encode()
    if len(words) > _TEXT:  # as much as can be read, and a word for the whole
        words = words[: _TEXT - 24] + b" ... " + sha256(words).hexdigest()[:16].encode()
    mine[: len(words)] = torch.frombuffer(bytearray(words), dtype=torch.uint8)
    numbers = mine[_TEXT:].view(torch.int64)
    numbers[: len(counts)] = torch.tensor(counts, dtype=torch.int64)
    everyone = torch.empty(size, len(mine), dtype=torch.uint8)
    options = c10d.AllgatherOptions()
    options.timeout = timeout
    gloo._allgather_base(everyone.view(-1), mine, options).wait()
    texts = everyone[:, :_TEXT]
    if not torch.equal(texts, mine[:_TEXT].expand_as(texts)):
        rows = [bytes(row.tolist()).rstrip(b"\0").decode(errors="replace") for row in texts]
        said = "; ".join(f"rank {name}: {row}" for name, row in zip(names, rows))
        raise dist.DistBackendError(
            f"hccl: the ranks do not call the same collective with the same sizes: {said}"
        )
    return everyone[:, _TEXT:].contiguous().view(torch.int64)

"""What a project's own operators are called with, here and in project_calls.py."""

from __future__ import annotations

import torch
from torch import Tensor

SIZE = 2, 2, 3, 4
V2_SHAPE = 1, 2, 3, 4, 8


def inputs() -> dict[str, list[Tensor]]:
    """Of each operator, on the CPU: floating tensors first."""
    g = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=g)

    cells = torch.stack([torch.randint(0, n, (50,), generator=g) for n in (3, 4, 2, 2)], 1)
    ranks_bev = torch.randint(0, 24, (30,), generator=g).sort()[0]
    first = torch.cat((torch.ones(1, dtype=torch.bool), ranks_bev[1:] != ranks_bev[:-1]))
    starts = torch.where(first)[0]
    ranks = torch.randperm(48, generator=g)[:30], torch.randint(0, 8, (30,), generator=g), ranks_bev
    lengths = torch.diff(torch.cat((starts, starts.new_full((1,), 30))))
    tables = torch.tensor([[[3, 4], [2, 2]], [[2, 3], [1, 1]]]), torch.tensor([[0, 12], [16, 22]])
    levels = torch.tensor([[3, 4], [2, 2]]), torch.tensor([0, 12])
    return {
        "bev_pool": [rand(50, 8), cells],
        "bev_pool_v2": [rand(1, 2, 6, 2, 2), rand(1, 2, 2, 2, 8), *ranks, starts, lengths],
        "deformable_aggregation": [
            *(rand(2, 23, 16), rand(2, 3, 2, 2, 2), rand(2, 3, 2, 2, 2, 8)),
            *tables,
        ],
        "attention": [rand(2, 16, 2, 8), rand(2, 5, 2, 2, 3, 2), rand(2, 5, 2, 2, 3), *levels],
    }


def weighed(output: Tensor) -> Tensor:
    """A loss that weighs every element differently, so that no exchange goes unseen."""
    weight = torch.arange(1.0, output.numel() + 1).cos().view(output.shape).to(output)
    return (output * weight).sum()

"""Calls the patches for NPUs where torch_npu's own schemas and meta functions answer.

Prints, for each call, the operators of torch_npu's own that it came to, what was refused, and
what kind of tensors it returned. A script of its own, since the whole process is for the
device "contract".
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

warnings.simplefilter("ignore")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "patches"))

import torch  # noqa: E402
from npu_projects import (  # noqa: E402
    GemmaLikeRMSNorm,
    LlamaLikeRMSNorm,
    SwiGLUBlock,
)
from torch import nn  # noqa: E402

from mx_autopatch import check_contract  # noqa: E402

Call = tuple[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def calls() -> Iterator[Call]:
    x = torch.randn(2, 5, 16, requires_grad=True)
    half = x.detach().half().requires_grad_()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    for name, norm in (
        ("rms_norm", nn.RMSNorm(16)),
        ("llama", LlamaLikeRMSNorm(16)),
        ("gemma", GemmaLikeRMSNorm(16)),
    ):
        yield name, norm, (x,), {}
        yield f"{name} half", norm.half(), (half,), {}
    yield "swiglu", SwiGLUBlock(16, 8), (x,), {}
    attention = nn.MultiheadAttention(16, 4, batch_first=True)
    given = {"key_padding_mask": padding, "need_weights": False}

    def attend(x: Any, **given: Any) -> Any:
        return attention(x, x, x, **given)[0]

    yield "attention", attend, (x,), given
    yield "encoder layer", nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True), (x,), {}
    if "mmcv" in sys.argv:
        from mmcv.cnn.bricks.transformer import MultiheadAttention

        yield "mmcv", MultiheadAttention(16, 4), (x,), {}
    if "transformers" in sys.argv:
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        q, cos = torch.randn(2, 4, 5, 8, requires_grad=True), torch.randn(1, 5, 8)
        yield "rotary", apply_rotary_pos_emb, (q, q.detach(), cos, cos), {}
    a, b = torch.randn(2, 1, 3, 3, requires_grad=True), torch.randn(2, 4, 3, 1, requires_grad=True)
    yield "batch_matmul", torch.matmul, (a, b), {}
    mask = torch.tensor([True, False])

    def fill(x: Any, mask: Any) -> Any:
        y = x * 1
        y[mask] = 0.0
        return y

    yield "fill", fill, (x, mask), {}


def main() -> None:
    found = {}
    for name, function, args, kwargs in calls():
        result = check_contract(function, *args, backward=True, **kwargs)
        found[name] = {
            "npu": sorted({c.name for c in result.calls if c.name.startswith("npu::")}),
            "ok": result.ok,
            "text": str(result),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""Rotary position embeddings of language models by one kernel, on NPUs.

Why: ``q * cos + rotate_half(q) * sin`` is seven kernels and three copies, for q and for k, in
     every layer. 4 of 61 published migrations replace it by npu_rotary_mul.
How: the apply_rotary_pos_emb of the models below, which is the same function in each. For
     tensors (batch, heads, length, width) of the device npu within the documented limits
     it is torch_npu.npu_rotary_mul, twice; else their own. Partial rotation hands in
     the columns that it rotates, and so is covered.
Upstream: transformers/models/*/modeling_*.py, 4.38 and later. Before, cosines came as a table
     with position_ids; such calls stay their own.
Remove when: transformers calls a kernel for it (its kernels hub has none for NPUs).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mx_autopatch.model import Patch, Replace

if TYPE_CHECKING:
    from torch import Tensor

_MODELS = (
    *("gemma", "gemma2", "granite", "llama", "mistral", "mixtral", "olmoe", "persimmon", "phi"),
    *("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "stablelm", "starcoder2"),
)


def apply_rotary_pos_emb(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    position_ids: Any = None,
    unsqueeze_dim: int = 1,
) -> tuple[Tensor, Tensor]:
    from mx_autopatch.patches.npu_calls import rotary

    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return rotary(q, cos, sin), rotary(k, cos, sin)


def _on_npu(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    position_ids: Any = None,
    unsqueeze_dim: int = 1,
) -> bool:
    if q.device.type != "npu" or unsqueeze_dim != 1 or not cos.dim() == sin.dim() == 3:
        return False
    from mx_autopatch.patches.npu_calls import can_rotary

    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return can_rotary(q, cos, sin) and can_rotary(k, cos, sin)


PATCHES = (
    Patch(
        name="transformers.rotary",
        edits=tuple(
            Replace(
                f"transformers.models.{name}.modeling_{name}:apply_rotary_pos_emb",
                apply_rotary_pos_emb,
                guard=_on_npu,
            )
            for name in _MODELS
        ),
        requires=("device:npu",),
    ),
)

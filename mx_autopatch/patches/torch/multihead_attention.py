"""nn.MultiheadAttention with bool masks by fused attention, on NPUs.

Why: torch turns bool masks into floating ones before it calls scaled_dot_product_attention,
     and torch_npu's takes npu_fusion_attention for bool masks alone: with a mask of either
     kind (padding, the groups of denoising queries, causal) all scores are written to memory,
     batch x heads x queries x keys. 13 of 61 published migrations call
     npu_fusion_attention by hand.
How: what torch makes of a bool mask of the device npu (``_canonical_mask``, in the encoder,
     its layers and the attention) remembers it. Where all masks were bool and the weights are
     not asked for, the same projections are made, and scaled_dot_product_attention is called
     with one bool mask. A query that may see nothing gets zeros, as from torch. Other calls
     are torch's own, and so is compiled code, that of TorchScript included.
     Random numbers of dropout are drawn by another kernel, so training with dropout has the
     same distribution, not the same numbers.
Upstream: torch.nn.functional.multi_head_attention_forward, torch >= 2.1.
Remove when: torch hands bool masks on, or torch_npu fuses floating ones.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Optional

from mx_autopatch.model import Call, Context, Patch, Replace, Wrap

if TYPE_CHECKING:
    from torch import Tensor

_Maybe = Optional["Tensor"]

#: The attribute of a floating mask: the bool one that it was made of, and its own version.
_MADE_OF = "_mx_autopatch_made_of"


def _remember(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    made = wrapped(*args, **kwargs)
    given = args[0] if args else kwargs.get("mask")
    if given is not made and getattr(getattr(made, "device", None), "type", "") == "npu":
        import torch

        if given.dtype is torch.bool and not torch.compiler.is_compiling():
            setattr(made, _MADE_OF, (given, made._version, given._version))
    return made


def _bool_of(mask: Any) -> Any:
    """The bool mask that ``mask`` is, or was made of; else None."""
    import torch

    if mask.dtype is torch.bool:
        return mask
    made_of, *versions = getattr(mask, _MADE_OF, (None,))
    if made_of is None or versions != [mask._version, made_of._version]:
        return None  # one of them was written to since
    return made_of


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: _Maybe,
    in_proj_bias: _Maybe,
    bias_k: _Maybe,
    bias_v: _Maybe,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: _Maybe,
    training: bool = True,
    key_padding_mask: _Maybe = None,
    need_weights: bool = True,
    attn_mask: _Maybe = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: _Maybe = None,
    k_proj_weight: _Maybe = None,
    v_proj_weight: _Maybe = None,
    static_k: _Maybe = None,
    static_v: _Maybe = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, None]:
    import torch
    import torch.nn.functional as F

    rows, batch, width = query.shape
    weights: Any
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        assert in_proj_weight is not None
        weights = in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (
        # (length, batch, width) -> (batch, heads, length, width of a head)
        F.linear(x, weight, bias).view(x.size(0), batch, num_heads, -1).permute(1, 2, 0, 3)
        for x, weight, bias in zip((query, key, value), weights, biases)
    )
    hidden = torch.zeros((), dtype=torch.bool, device=query.device)
    attn_mask, key_padding_mask = (
        None if mask is None else _bool_of(mask) for mask in (attn_mask, key_padding_mask)
    )
    if attn_mask is not None:
        lead = (batch, num_heads) if attn_mask.dim() == 3 else (1, 1)
        hidden = attn_mask.view(*lead, rows, -1)
    if key_padding_mask is not None:
        hidden = hidden | key_padding_mask[:, None, None]
    # What the operator gives for a query that sees nothing is not documented.
    blind = hidden.all(-1, keepdim=True)
    visible = (~hidden | blind).expand(-1, -1, rows, -1)
    out = F.scaled_dot_product_attention(q, k, v, visible, dropout_p if training else 0.0)
    out = out.masked_fill(blind, 0).permute(2, 0, 1, 3).reshape(rows, batch, width)
    return F.linear(out, out_proj_weight, out_proj_bias), None


def _on_npu_with_bool_masks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    *args: Any,
    **kwargs: Any,
) -> bool:
    if query.device.type != "npu":
        return False
    import inspect

    from torch.overrides import has_torch_function

    names = list(inspect.signature(multi_head_attention_forward).parameters)
    given = {**dict(zip(names[10:], args)), **kwargs}
    attn, padding = given.get("attn_mask"), given.get("key_padding_mask")
    masks = [mask for mask in (attn, padding) if mask is not None]
    if not masks or given.get("need_weights", True) or given.get("is_causal", False):
        return False
    if add_zero_attn or any(
        extra is not None
        for extra in (bias_k, bias_v, given.get("static_k"), given.get("static_v"))
    ):
        return False
    tensors = (query, key, value, *masks)
    if any(_bool_of(mask) is None for mask in masks) or has_torch_function(tensors):
        return False
    # What does not fit has a message of torch's own.
    if not query.dim() == key.dim() == value.dim() == 3 or key.shape[:2] != value.shape[:2]:
        return False
    rows, batch, width = query.shape
    columns = key.size(0)
    return (
        width == embed_dim_to_check
        and width % num_heads == 0
        and key.size(1) == batch
        and rows * columns * batch > 0
        and (padding is None or padding.shape == (batch, columns))
        and (attn is None or attn.shape in ((rows, columns), (batch * num_heads, rows, columns)))
    )


def _for_torchscript(context: Context) -> str:
    """TorchScript compiles by the source, and is to compile torch's own."""
    names = ("_canonical_mask", "multi_head_attention_forward")
    for name in names:
        function = getattr(context.module, name)
        function.__prepare_scriptable__ = functools.partial(getattr, function, "__wrapped__")
    return f"TorchScript sees torch's own {' and '.join(names)}"


PATCHES = (
    Patch(
        name="torch.multihead_attention",
        edits=(
            Wrap("torch.nn.functional:_canonical_mask", _remember),
            Replace(
                "torch.nn.functional:multi_head_attention_forward",
                multi_head_attention_forward,
                guard=_on_npu_with_bool_masks,
            ),
            Call("torch.nn.functional", _for_torchscript),
        ),
        requires=("device:npu", "torch>=2.1"),
    ),
)

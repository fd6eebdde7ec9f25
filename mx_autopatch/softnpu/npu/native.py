"""Operators of torch_npu whose own code is right on the soft NPU, since it runs no kernel.

It looks at memory, copies it, or calls other operators of the namespace, whose kernels are
the soft NPU's.
"""

from __future__ import annotations

__all__ = ["COMPOSITE", "NATIVE"]

#: Operators without a tensor among their arguments, which torch_npu registers for every
#: device, and whose code runs a kernel.
COMPOSITE = ("npu::npu_dropout_gen_mask",)

NATIVE = frozenset(
    f"npu::{name}"
    for name in (
        # memory
        *("get_npu_format", "get_storage_size", "copy_memory_", "npu_change_data_ptr"),
        "npu_prefetch",
        # made of other operators, through the dispatcher
        *("npu_ciou", "npu_format_cast", "npu_format_cast.Tensor", "dropout_with_byte_mask"),
        *("npu_fused_attention_score", "npu_moe_token_unpermute"),
        "npu_moe_token_unpermute_with_routing_map",
        # say that only their overload with out= is implemented
        *("npu_apply_adam", "npu_apply_adam_w", "npu_bert_apply_adam"),
    )
)

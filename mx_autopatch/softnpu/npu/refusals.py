"""Operators of torch_npu that the soft NPU refuses, and why.

The first pattern that matches counts. ``tests/softnpu/npu/test_npu_contracts.py`` checks
that every operator of the installed torch_npu has a reference, is native, or is listed here.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

__all__ = ["REFUSED", "why_refused"]

_RANKS = "it communicates between ranks by HCCL inside a kernel"
_SCHEDULE = "it schedules work between devices"
_QUANTISED = "it is for quantised inference, whose rounding is the hardware's own"
_CACHE = "it is for the paged caches of language models"
_LANGUAGE = "it is for language models, and has no reference yet"
_GRAPHS = "it serves captured graphs, which the soft NPU does not have"
_LAYOUT = "its documentation does not say in which order its operands are packed"
_UNCLEAR = "its documentation leaves open what exactly it computes"
_UNDOCUMENTED = "it is not documented"

REFUSED = {
    # distributed
    "*all_gather*": _RANKS,
    "*all_to_all*": _RANKS,
    "*alltoall*": _RANKS,
    "*reduce_scatter*": _RANKS,
    "*mm_all_reduce*": _RANKS,
    "*moe_distribute*": _RANKS,
    "*distribute_barrier": _RANKS,
    "npu_attention_to_ffn": _RANKS,
    "npu_ffn_to_attention": _RANKS,
    "*worker*": _SCHEDULE,
    # graphs
    "*_infer_output": _GRAPHS,
    "*_get_max_workspace": _GRAPHS,
    "*npugraph*": _GRAPHS,
    "super_kernel*": _GRAPHS,
    "npu_fused_infer_attention_score*.out": _GRAPHS,
    "npu_fusion_attention*_v3.out": _GRAPHS,
    # quantisation
    "*quant*": _QUANTISED,
    "npu_dequant*": _QUANTISED,
    "*int4pack": _QUANTISED,
    "npu_group_quant": _QUANTISED,
    "npu_ifmr": _QUANTISED,
    "npu_ffn": _QUANTISED,
    "*matmul_compress*": _QUANTISED,
    # language models
    "*kv_cache*": _CACHE,
    "*kvcache*": _CACHE,
    "*pa_cache*": _CACHE,
    "*rope_cache*": _CACHE,
    "npu_advance_step*": _CACHE,
    "npu_batch_gather_matmul*": _CACHE,
    "*mla_prolog*": _LANGUAGE,
    "*nsa_*": _LANGUAGE,
    "*lightning*": _LANGUAGE,
    "*sparse_*attention*": _LANGUAGE,
    "*delta_rule*": _LANGUAGE,
    "*causal_conv1d*": _LANGUAGE,
    "npu_mhc_*": _LANGUAGE,
    "*floyd*": _LANGUAGE,
    "npu_mrope": _LANGUAGE,
    "*moe_*": _LANGUAGE,
    "npu_top_k_top_p*": _LANGUAGE,
    "*grouped_matmul*": _LANGUAGE,
    "*max_sum*": _LANGUAGE,
    "npu_ring_attention_update": _LANGUAGE,
    "npu_attention_update": _LANGUAGE,
    "npu_scatter_list*": _LANGUAGE,
    "npu_attn_softmax*": _UNDOCUMENTED,
    # packed operands
    "npu_lstm*": _LAYOUT,
    "npu_gru*": _LAYOUT,
    "_lstm_npu*": _LAYOUT,
    "_gru_npu*": _LAYOUT,
    "npu_multi_head_attention*": _LAYOUT,
    "npu_fused_attention_*": _UNCLEAR,
    # the rest
    "npu_hans_*": "it compresses by a method of the hardware",
    "obfuscation*": _UNDOCUMENTED,
    "set_op_timeout_ms": "no operator is watched for the time it takes",
    "*abft*": "it looks for faults of the hardware",
    "npu_fused_matmul": _UNDOCUMENTED,
    "npu_sub_sample": _UNDOCUMENTED,
}


def why_refused(name: str) -> str:
    """Why an operator of the namespace npu has no kernel."""
    for pattern, why in REFUSED.items():
        if fnmatchcase(name.partition("::")[2], pattern):
            return why
    return "it is newer than the soft NPU"

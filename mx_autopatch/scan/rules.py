"""The idioms that a source written for CUDA has, and what becomes of each on an NPU."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NO_COUNTERPART", "OPERATORS", "RULES", "Rule"]


@dataclass(frozen=True)
class Rule:
    """An idiom.

    Attributes:
        name: What the finding is called.
        patch: The patch that takes care of it; empty where none does, or where each
            finding names its own.
        advice: What the patch does about it, or what is to be written.
    """

    name: str
    patch: str
    advice: str


#: Parts of torch.cuda that torch.npu has nothing for; transfer_to_npu leaves them as they are.
NO_COUNTERPART = frozenset(
    {
        *("CUDAPluggableAllocator", "comm", "cudart", "gds", "get_arch_list", "jiterator"),
        *("nccl", "nvtx", "profiler", "sparse", "tunable"),
    }
)

#: Last name of a compiled module that projects keep a copy of -> the patch that provides it.
OPERATORS = {
    "MultiScaleDeformableAttention": "projects.ms_deform_attn",
    "bev_pool_ext": "projects.bev_pool",
    "bev_pool_v2_ext": "projects.bev_pool_v2",
    "deformable_aggregation_ext": "projects.deformable_aggregation",
}

_TRANSFER = "torch.transfer_to_npu"

RULES = {
    rule.name: rule
    for rule in (
        Rule("cuda-method", _TRANSFER, "`.cuda()` goes to npu"),
        Rule("torch-cuda", _TRANSFER, "torch.cuda is torch.npu"),
        Rule("cuda-string", _TRANSFER, "the device 'cuda' is npu"),
        Rule("cuda-amp", _TRANSFER, "torch.cuda.amp is torch.npu.amp"),
        Rule("nccl", "torch.distributed_backend", "the process group is made with hccl"),
        Rule("local-rank", "torch.local_rank", "`--local-rank` is understood as well"),
        Rule("flash-attn", "flash_attn.provided", "computed by npu_fusion_attention"),
        Rule("torch-scatter", "torch_scatter.provided", "computed by torch"),
        Rule("gone-name", "", "defined again where the library has dropped it"),
        Rule("own-operator", "", "provided wherever the project keeps it"),
        Rule("mask-index", "torch.index", "masked_select on npu; the size is still waited for"),
        Rule(
            "cuda-only",
            "",
            "torch.npu has no such thing: keep it behind `if torch.version.cuda:`",
        ),
        Rule(
            "spconv",
            "",
            "spconv has no build for NPUs: import the same modules (SubMConv3d, "
            "SparseSequential ...) from mmcv.ops",
        ),
        Rule("apex", "", "apex is for CUDA: torch.amp and torch.optim have what it gave"),
        Rule(
            "cuda-extension",
            "",
            "not built for an NPU: write its functions in torch, and provide the module",
        ),
        Rule("cuda-source", "", "a CUDA kernel: what it computes has to be written in torch"),
        Rule(
            "item-in-loop",
            "",
            "waits for the device each time, if the tensor is there: collect, then one `.tolist()`",
        ),
        Rule("float64", "", "slow on NPUs, and not there for all operators: use float32"),
    )
}

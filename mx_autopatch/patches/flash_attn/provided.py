"""``flash_attn`` where it is not installed.

Why: it has to be compiled, for CUDA, and BEV models and transformers import it by name
     (FlashMHA in temporal attention); there is none for the NPU or the CPU.
How: the functions of flash-attn 2.6, and those of 1.x, on torch's
     scaled_dot_product_attention, and on an NPU on torch_npu.npu_fusion_attention. One that
     is installed and loads is left alone.
Upstream: flash_attn/flash_attn_interface.py and bert_padding.py.
Remove when: flash-attn has kernels for the NPU and wheels for current torch.
"""

from mx_autopatch.model import Patch, Provide

_SOURCE = "mx_autopatch.provided.flash_attn"


PATCHES = (
    Patch(
        name="flash_attn.provided",
        edits=(
            Provide("flash_attn", source=_SOURCE),
            Provide("flash_attn.flash_attn_interface", source=f"{_SOURCE}.flash_attn_interface"),
            Provide("flash_attn.bert_padding", source=f"{_SOURCE}.bert_padding"),
        ),
        requires=("torch>=2.1",),  # the argument scale of scaled_dot_product_attention
    ),
)

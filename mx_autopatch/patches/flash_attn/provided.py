"""``flash_attn`` where it is not installed.

Why: it has to be compiled, for CUDA, and BEV models and transformers import it by name
     (FlashMHA in temporal attention); there is none for the NPU or the CPU.
How: the functions and modules of flash-attn 2.6, and those of 1.x, on torch's
     scaled_dot_product_attention, and on an NPU on torch_npu.npu_fusion_attention. One that
     is installed and loads is left alone, and what its release lacks stays lacking.
Upstream: flash_attn/flash_attn_interface.py, bert_padding.py, modules/mha.py and, of 1.x,
     flash_attention.py.
Remove when: flash-attn has kernels for the NPU and wheels for current torch.
"""

from __future__ import annotations

import sys

from mx_autopatch.model import Patch, Provide

_SOURCE = "mx_autopatch.provided.flash_attn"


def package_is_provided() -> bool | str:
    """Whether ``flash_attn``, which is imported before its submodules, is the provided one."""
    package = vars(sys.modules["flash_attn"]) if "flash_attn" in sys.modules else {}
    function = package.get("flash_attn_func")
    if getattr(function, "__module__", "").startswith(_SOURCE):
        return True
    return "the installed flash_attn is of a release without it"


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
    Patch(
        name="flash_attn.provided_modules",
        edits=(
            Provide("flash_attn.flash_attention", source=f"{_SOURCE}.flash_attention"),
            Provide("flash_attn.modules", source=f"{_SOURCE}.namespace"),
            Provide("flash_attn.modules.mha", source=f"{_SOURCE}.modules"),
            Provide("flash_attn.layers", source=f"{_SOURCE}.namespace"),
            Provide("flash_attn.layers.rotary", source=f"{_SOURCE}.layers"),
        ),
        requires=("torch>=2.1", package_is_provided),
    ),
)

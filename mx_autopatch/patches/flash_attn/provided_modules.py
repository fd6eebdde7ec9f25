"""The modules of ``flash_attn`` where it is provided: FlashMHA, MHA and their parts.

Why: temporal attention of BEV models is built of FlashAttention and FlashMHA, which
     flash-attn 2 dropped, transformers of flash_attn.modules.mha; see flash_attn.provided.
How: the same names, parameters and weights on the functions that are provided. Where
     flash_attn itself is installed and loads, what its release lacks stays lacking.
Upstream: flash_attn/flash_attention.py of 1.x; modules/mha.py and layers/rotary.py of 2.6.
Remove when: flash_attn.provided is removed.
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
        name="flash_attn.provided_modules",
        edits=(
            Provide("flash_attn.flash_attention", source=f"{_SOURCE}.flash_attention"),
            Provide("flash_attn.modules", source=f"{_SOURCE}.namespace"),
            Provide("flash_attn.modules.mha", source=f"{_SOURCE}.mha"),
            Provide("flash_attn.layers", source=f"{_SOURCE}.namespace"),
            Provide("flash_attn.layers.rotary", source=f"{_SOURCE}.rotary"),
        ),
        requires=("torch>=2.1", package_is_provided),
    ),
)

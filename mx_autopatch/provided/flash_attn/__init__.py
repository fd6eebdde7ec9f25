"""Flash attention's interface, computed by torch, and on an NPU by ``npu_fusion_attention``.

Contract: the docstrings of flash-attn 2.6, for float16, bfloat16, float32 and float64, any
head size, on every device. A query that sees no key gives zeros and the logarithm ``inf``,
as there. ``deterministic`` and ``num_splits`` choose between kernels that are not here, and
change nothing. Wrong arguments raise TypeError or ValueError, what is not supported
NotImplementedError; each names function, argument and value.
"""

from .flash_attn_interface import (
    flash_attn_func,
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
    flash_attn_varlen_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
    flash_attn_with_kvcache,
)

#: The last release whose ``unpad_input`` gives four results, as in 1.x, which is what
#: projects of that time unpack; the attention functions have the same signatures in 2.8.
__version__ = "2.6.3"

__all__ = [
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_varlen_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
    "flash_attn_with_kvcache",
]

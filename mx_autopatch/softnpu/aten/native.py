"""Operators that torch_npu's own code does right on the soft NPU, since it runs no kernel."""

from __future__ import annotations

__all__ = ["NATIVE"]

NATIVE = frozenset(
    (
        # memory
        "aten::new_empty_strided",
        *("aten::empty.memory_format", "aten::empty_strided", "aten::resize_", "aten::is_pinned"),
        *("aten::_pin_memory", "aten::record_stream"),
        # another look at the same memory
        *(
            "aten::as_strided",
            "aten::as_strided_",
            "aten::resize_as_",
            "aten::view",
            "aten::_reshape_alias",
            "aten::unfold",
        ),
        *("aten::view_as_real", "aten::view_as_complex", "aten::squeeze", "aten::squeeze.dim"),
        *("aten::unsqueeze", "aten::set_", "aten::set_.source_Storage"),
        *("aten::set_.source_Storage_storage_offset", "aten::set_.source_Tensor"),
        "aten::is_set_to",
        "aten::_resize_output_",
        # what a tensor's memory is like
        *("npu::get_npu_format", "npu::get_storage_size"),
    )
)

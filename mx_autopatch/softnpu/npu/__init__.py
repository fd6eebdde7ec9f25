"""Reference implementations of torch_npu's own operators, from their documented contracts."""

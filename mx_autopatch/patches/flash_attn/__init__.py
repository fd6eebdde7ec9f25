"""The flash_attn that is not installed."""

"""A package of flash_attn that holds modules, and nothing of its own."""

__all__: list[str] = []

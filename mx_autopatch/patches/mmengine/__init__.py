"""Patches of mmengine's modules."""

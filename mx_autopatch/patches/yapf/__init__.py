"""Patches of yapf's modules."""

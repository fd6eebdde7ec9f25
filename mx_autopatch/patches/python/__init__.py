"""Patches of the standard library's modules."""

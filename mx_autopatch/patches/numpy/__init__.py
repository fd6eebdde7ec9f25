"""Patches of numpy's modules."""

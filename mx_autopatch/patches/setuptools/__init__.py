"""Patches of setuptools modules."""

"""Patches of mmdet's modules."""

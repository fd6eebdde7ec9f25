"""Patches of mmdet3d's modules."""

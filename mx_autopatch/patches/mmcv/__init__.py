"""Patches of mmcv's modules."""

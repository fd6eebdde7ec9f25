"""Patches of mx_driving's modules."""

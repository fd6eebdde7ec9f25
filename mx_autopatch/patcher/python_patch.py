"""Predefined patches for the standard library."""

from __future__ import annotations

from mx_autopatch.patcher._predefined import CollectionsCompat

__all__ = ["CollectionsCompat"]

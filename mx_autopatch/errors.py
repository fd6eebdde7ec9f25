"""The exception tree.

Every message names the file, the key, the value and the remedy, so that it can
be acted on without reading our source.
"""

from __future__ import annotations

__all__ = [
    "AutopatchError",
    "CatalogError",
    "ConfigError",
    "PatchError",
    "SoftNpuError",
    "StubError",
    "TargetError",
]


class AutopatchError(Exception):
    """Base of every error that mx_autopatch raises on purpose."""


class ConfigError(AutopatchError):
    """The configuration cannot be used: bad file, key, type, name or owner."""


class TargetError(AutopatchError, ValueError):
    """A target string does not follow ``module:qualname``."""


class CatalogError(AutopatchError, KeyError):
    """The catalog has no such entry, or has one under that key already."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which garbles a sentence.
        return str(self.args[0]) if self.args else ""


class PatchError(AutopatchError):
    """A patch could not be applied or reverted (raised in strict mode only)."""


class StubError(AutopatchError, ImportError):
    """Something of a stubbed module was used; the message names the rule."""


class SoftNpuError(AutopatchError, RuntimeError):
    """The soft NPU cannot be had here, or was asked for what it does not have."""

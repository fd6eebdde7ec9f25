"""What the command line asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mx_autopatch.model import Patch

__all__ = ["Given", "Plan"]


class Given(NamedTuple):
    """The options that stand before the script or the subcommand."""

    #: ``--config``.
    config: str | None = None
    #: Dotted key of the configuration -> value, as text or as TOML has it.
    overrides: dict[str, Any] = {}  # noqa: RUF012 - never written to

    def __bool__(self) -> bool:
        return self.config is not None or bool(self.overrides)


class Plan(NamedTuple):
    """A script or module to run."""

    target: str
    args: tuple[str, ...]
    is_module: bool
    given: Given
    #: Patches for this run alone.
    patches: tuple[Patch, ...] = ()

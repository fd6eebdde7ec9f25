"""What has been added to a Patcher."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mx_autopatch.patcher._base import BasePatch, Patch
from mx_autopatch.patcher._ledger import Holding, Ledger
from mx_autopatch.patcher._units import Unit


@dataclass(eq=False)
class Item:
    """A patch or a group, with what it was added with, and what is held for it.

    Attributes:
        patch: An instance of BasePatch, or a class derived from Patch.
        module: The module that a patch function was added for.
        done: Whether it has had its turn.
    """

    patch: Any
    options: dict[str, Any] | None = None
    module: str = ""
    held: list[Holding] = field(default_factory=list)
    done: bool = False
    _patches: list[BasePatch] = field(default_factory=list)

    @property
    def is_group(self) -> bool:
        return is_group(self.patch)

    @property
    def package(self) -> str:
        """The package that it is for, as far as it says."""
        module = self.module or getattr(self.patch, "target_module", "")
        if not module and self.held:
            module = self.held[0].unit.where
        return (module or self.name).partition(".")[0]

    @property
    def name(self) -> str:
        name: str = self.patch.name
        return name

    @property
    def is_early(self) -> bool:
        """Whether it comes before those whose patches have yet to be asked for."""
        return bool(getattr(self.patch, "apply_before_collect", False))

    @property
    def applies_itself(self) -> bool:
        """Whether it is of a class of the user's that does not go through the engine."""
        return isinstance(self.patch, BasePatch) and type(self.patch).units is BasePatch.units

    def patches(self) -> list[BasePatch]:
        """The patch, or those of the group; asked for once."""
        if not self._patches:
            self._patches = (
                list(self.patch.patches(self.options)) if self.is_group else [self.patch]
            )
        return self._patches

    def units(self, without: frozenset[str]) -> list[Unit]:
        """What to apply, less what is disabled by name."""
        if self.is_group:
            units: list[Unit] = self.patch.group(self.options, without, self.patches())
            return units
        return self._units_of(self.patch)

    def _units_of(self, patch: BasePatch) -> list[Unit]:
        return patch.units(self.module) if type(patch) is Patch else patch.units()

    def holds(self, names: set[str]) -> bool:
        """Whether something is held for a single patch of a group that has one of these names."""
        if not (self.held and self.is_group):
            return False
        return any(patch.name in names for patch in self.patches())

    def conflicts_with(self, other: Item) -> bool:
        """Whether one of the two names the other as what it cannot be on together with."""
        mine, theirs = (getattr(item.patch, "conflicts_with", None) or () for item in (self, other))
        return self.name != other.name and (other.name in mine or self.name in theirs)

    def describe(self, books: Ledger | None, disabled: set[str], diff: bool) -> list[str]:
        """Each of its patches in a line, with its state; with ``diff``, what it changes."""
        try:
            return [
                f"[{self._state(patch, books, disabled)}] {patch.get_info(show_diff=diff)}"
                for patch in self.patches()
            ]
        except Exception as error:
            return [f"[failed] {self.name}: {type(error).__name__}: {error}"]

    def _state(self, patch: BasePatch, books: Ledger | None, disabled: set[str]) -> str:
        if {self.name, patch.name} & disabled:
            return "disabled"
        if books is None or not self.held:
            return "pending"
        targets = frozenset(edit.target for unit in self._units_of(patch) for edit in unit.edits)
        held = [holding.unit for holding in self.held]
        return books.result(patch.name, "", held, targets).status.value


def is_group(item: Any) -> bool:
    """Whether it is a class that gives patches."""
    return isinstance(item, type) and issubclass(item, Patch) and item is not Patch


def advice(one: Item, other: Item) -> str:
    """What to do about two that conflict."""
    return (
        f"patches {one.name!r} and {other.name!r} conflict; disable one of them: "
        f"patcher.disable({other.name!r}), or patcher.disable({one.name!r})"
    )

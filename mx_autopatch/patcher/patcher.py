"""Patcher: a collection of patches, applied together and taken back together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from mx_autopatch import profiling
from mx_autopatch.errors import AutopatchError
from mx_autopatch.patcher._base import BasePatch, Patch
from mx_autopatch.patcher._importing import Importing
from mx_autopatch.patcher._items import Item, advice, is_group
from mx_autopatch.patcher._ledger import Holding, Ledger, ledger
from mx_autopatch.patcher._predefined import CatalogPatch, named
from mx_autopatch.patcher._substitutes import replace_with
from mx_autopatch.patcher._training import Training, internal_format
from mx_autopatch.patcher._units import Unit
from mx_autopatch.patcher.patcher_logger import patcher_logger
from mx_autopatch.patcher.reporting import PatchStatus

__all__ = ["Patch", "Patcher", "PatcherBuilder", "replace_with"]  # noqa: F822  see __getattr__


class Patcher(Importing, Training):
    """Applies patches in a ``with`` block, or from ``apply()`` on.

    A patch takes effect the moment its module has been imported, at once if that is so
    already; nothing is imported for it. What cannot be applied is told and is never the
    end of the run (unless :func:`configure_patcher_logging` says so). Leaving the block
    takes everything back that was not in force before.

    Args:
        module_patches: Patch functions by the module that they are for (API 1.0): one
            :class:`Patch`, or several, of which those of smaller priority come first.
        blacklist: Names of patches that stay off.
        allow_internal_format: Whether the NPU may lay tensors out in formats of its own.
    """

    def __init__(
        self,
        module_patches: Mapping[str, Patch | Iterable[Patch]] | None = None,
        blacklist: Iterable[str] | None = None,
        allow_internal_format: bool = False,
    ) -> None:
        super().__init__()
        self._items: list[Item] = []
        self._blacklist: set[str] = (
            {blacklist} if isinstance(blacklist, str) else set(blacklist or ())
        )
        self._internal_format = allow_internal_format
        self._own: list[Holding] = []
        self._switched_off: list[str] = []
        self._ledger: Ledger | None = None
        self._applied = False
        for module, patches in (module_patches or {}).items():
            given = [patches] if isinstance(patches, Patch) else patches
            for patch in sorted(given, key=lambda patch: patch.priority):
                self._items.append(Item(patch, module=module))

    # -- what to apply ---------------------------------------------------------

    def add(self, *items: Any, options: dict[str, Any] | None = None) -> Patcher:
        """Add patches: classes derived from Patch, or instances.

        After ``apply()`` they take effect at once.

        Raises:
            TypeError: something else.
        """
        for item in items:
            if not (is_group(item) or isinstance(item, BasePatch)):
                raise TypeError(f"expected a Patch class or a patch, got {item!r}")
        for item in items:
            added = Item(item, options)
            for other in self._enabled():
                if added.conflicts_with(other):
                    patcher_logger.warning(advice(added, other))
            self._items.append(added)
            if self._applied:
                self._apply_item(added)
        return self

    def disable(self, *names: Any) -> Patcher:
        """Keep patches off: by name, by class, by instance, or an AtomicPatch by its target.

        Raises:
            TypeError: something else.
        """
        for name in names:
            if not (isinstance(name, (str, BasePatch)) or is_group(name)):
                raise TypeError(f"expected a name, a Patch class or a patch, got {name!r}")
            self._blacklist.add(name if isinstance(name, str) else name.name)
        if self._applied:
            for item in self._items:
                if item.name in self._blacklist:
                    self._take_back(item)
                elif item.holds(self._blacklist):
                    self._take_back(item)
                    self._apply_item(item)
            self._switch_off()
        return self

    # -- how to run ------------------------------------------------------------

    def allow_internal_format(self, allow: bool = True) -> Patcher:
        """Let the NPU lay tensors out in formats of its own, or not."""
        self._internal_format = allow
        if self._applied:
            self._hold_format()
        return self

    def disallow_internal_format(self) -> Patcher:
        """The opposite of :meth:`allow_internal_format`."""
        return self.allow_internal_format(False)

    # -- on and off ------------------------------------------------------------

    def apply(self, allow_internal_format: bool | None = None) -> Patcher:
        """Put the patches into force; what is in force already stays as it is.

        Raises:
            ValueError: two groups are enabled that name each other in ``conflicts_with``.
            PatchError: as :func:`configure_patcher_logging` says; nothing is in force then.
        """
        enabled = self._enabled()
        for one, other in itertools.combinations(enabled, 2):
            if one.conflicts_with(other):
                raise ValueError(advice(one, other))
        if allow_internal_format is not None:
            self.allow_internal_format(allow_internal_format)
        self._books()  # which may find that nothing of ours is in force any more
        was_applied, self._applied = self._applied, True
        try:
            if not was_applied:
                self._prepare()
            self._apply_items()
        except BaseException:
            if not was_applied:
                self.revert()
            raise
        return self

    def _prepare(self) -> None:
        """What there is to do beside the patches."""
        self._switch_off()
        held = [holding.unit for holding in self._own]
        for unit in self._imports:
            if unit not in held:
                self._hold_own(unit)
        self._hold_own(CatalogPatch("torch.transfer_to_npu", quiet=True).units()[0])
        self._hold_format()
        for name in profiling.PATCHES if self._profile or self._brake is not None else ():
            self._hold_own(CatalogPatch(name, quiet=True).units()[0])
        self._configure_training()

    def _apply_items(self) -> None:
        waiting = [item for item in self._items if not item.done]
        for item in sorted(waiting, key=lambda item: not item.is_early):
            self._apply_item(item)
        books = self._books()
        statuses = [books.status(holding.unit) for item in waiting for holding in item.held]
        patcher_logger.flush_summary(statuses.count(PatchStatus.PENDING))

    def revert(self) -> Patcher:
        """Take back what this patcher has put into force."""
        if self._ledger is not None and not self._ledger.session.closed:
            if self._applied:
                self._forget_training()
            self._ledger.give_back(self._switched_off)
            own = [*(holding for item in self._items for holding in item.held), *self._own]
            for holding in reversed(own):
                self._ledger.let_go(holding)
        self._forget()
        return self

    def _forget(self) -> None:
        """Begin anew, with nothing in force."""
        self._applied = False
        self._own, self._switched_off = [], []
        for item in self._items:
            item.held, item.done = [], False

    @property
    def is_applied(self) -> bool:
        """Whether ``apply()`` has been called and not been taken back."""
        return self._applied

    def __enter__(self) -> Patcher:
        return self.apply()

    def __exit__(self, *error: object) -> None:
        self.revert()

    def _books(self) -> Ledger:
        current = ledger()
        if self._ledger is not current:  # the engine was started anew: nothing of ours holds
            self._ledger = current
            self._forget()
        return current

    def _hold_format(self) -> None:
        unit = internal_format(self._internal_format)
        for holding in [held for held in self._own if held.unit.label == unit.label]:
            self._own.remove(holding)
            self._books().let_go(holding)
        self._hold_own(unit)

    def _hold_own(self, unit: Unit) -> None:
        holding = self._books().hold(unit)  # which may begin a new list
        self._own.append(holding)

    def _apply_item(self, item: Item) -> None:
        if item.done:
            return
        item.done = True
        if item.name in self._blacklist:
            patcher_logger.skipped(f"patch {item.name}", "disabled")
            return
        books = self._books()
        if item.applies_itself:
            item.patch.apply()
            return
        try:
            units = item.units(frozenset(self._blacklist))
        except AutopatchError as error:
            patcher_logger.failed(f"patch {item.name}", str(error))
        except Exception as error:
            patcher_logger.failed(f"patch {item.name}", f"{type(error).__name__}: {error}")
        else:
            for unit in units:
                item.held.append(books.hold(unit))

    def _take_back(self, item: Item) -> None:
        for holding in reversed(item.held):
            if self._ledger is not None:
                self._ledger.let_go(holding)
        item.held, item.done = [], False

    def _switch_off(self) -> None:
        """Turn off the built-in patches behind the names that are disabled."""
        self._switched_off += self._books().switch_off(named(frozenset(self._blacklist)))

    def _enabled(self) -> list[Item]:
        return [item for item in self._items if item.name not in self._blacklist]

    # -- information -----------------------------------------------------------

    def print_info(self, diff: bool = False) -> Patcher:
        """Log the patches by package, with their state; with ``diff``, what they change."""
        by_package: dict[str, list[str]] = {}
        for item in self._items:
            lines = item.describe(self._ledger, self._blacklist, diff)
            by_package.setdefault(item.package, []).extend(lines)
        for package, lines in by_package.items():
            text = "".join("\n  " + line.replace("\n", "\n    ") for line in lines)
            patcher_logger.info(f"{package}: {len(lines)} patches{text}")
        return self


def __getattr__(name: str) -> Any:
    # The builder is made of the Patcher; early releases had it in this module.
    if name == "PatcherBuilder":
        from mx_autopatch.patcher.legacy import PatcherBuilder

        return PatcherBuilder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

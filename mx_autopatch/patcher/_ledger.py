"""Which units are in force in the running engine, and for how many patchers.

The engine resolves, applies, reports and takes back; this hands it the patches, tells
what became of each of them, and starts the engine where nobody has.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from mx_autopatch import bootstrap
from mx_autopatch.engine.entries import PatchEntry
from mx_autopatch.engine.session import Session
from mx_autopatch.errors import PatchError
from mx_autopatch.model import Outcome, Patch
from mx_autopatch.patcher._carried import export
from mx_autopatch.patcher._telling import tell, tell_failed
from mx_autopatch.patcher._units import Unit
from mx_autopatch.patcher.patcher_logger import patcher_logger
from mx_autopatch.patcher.reporting import OF_STATUS, ORDER, PatchResult, PatchStatus

_ledger: Ledger | None = None


def ledger() -> Ledger:
    """The ledger of the running engine. The engine is started if it is not running.

    Started here it does what patchers ask for and no more: the patches that
    ``MX_AUTOPATCH=1`` would turn on by default stay off.

    Raises:
        PatchError: the engine cannot be started; ConfigError, if its configuration is why.
    """
    global _ledger
    finder = bootstrap.active()
    started = finder is None
    if finder is None:
        bootstrap.activate(overrides={"patches.disable": ["*"]})
        finder = bootstrap.active()
    if finder is None or not finder.prepared() or finder.session is None:
        raise PatchError("mx_autopatch could not be started; it has said why on stderr")
    if _ledger is None or _ledger.session is not finder.session:
        _ledger = Ledger(finder.session, started)
    return _ledger


def current() -> Ledger | None:
    """The ledger of the running engine, if there is one; starts nothing."""
    finder = bootstrap.active()
    if _ledger is None or finder is None or finder.session is not _ledger.session:
        return None
    return _ledger


@dataclass(eq=False)
class Holding:
    """A unit in the engine, under the names of its patches there."""

    unit: Unit
    names: list[str] = field(default_factory=list)
    users: int = 0
    #: Built-in patches that were off, and are on for this unit.
    switched: list[str] = field(default_factory=list)


class _Entry(PatchEntry):
    """An entry whose place among those of equal priority is that of its making."""

    def __init__(self, patch: Patch, number: int) -> None:
        super().__init__(patch.name, "", patch.triggers, patch.default, patch, order=0)
        self._number = number

    @property
    def key(self) -> tuple[int, int, str]:
        return (self.load().priority, self.order, f"{self._number:09}")


class Ledger:
    """The units of one session.

    Args:
        session: The running one.
        is_ours: Whether the engine was started for the Patcher API.
    """

    def __init__(self, session: Session, is_ours: bool) -> None:
        self.session, self._is_ours = session, is_ours
        self._held: dict[Hashable, Holding] = {}
        self._by_name: dict[str, Holding] = {}
        self._count = 0
        #: Names that were given, and what to.
        self._names: dict[str, Hashable] = {}
        self._left_out: set[str] = set()
        session.observers.append(self.settled)

    # -- on and off ------------------------------------------------------------

    def apply(self, units: Iterable[Unit]) -> None:
        """Hold each of the units that is not held."""
        for unit in units:
            if unit.identity not in self._held:
                self.hold(unit)

    def hold(self, unit: Unit) -> Holding:
        """Have ``unit`` in force from now on, for one more user."""
        holding = self._held.get(unit.identity)
        if holding is None:
            holding = self._held[unit.identity] = Holding(unit)
            try:
                if unit.catalog:
                    self._switch_on(holding)
                else:
                    self._add(holding)
            except BaseException:
                self._take_away(holding)
                raise
            self._export()
        holding.users += 1
        return holding

    def hold_at(self, unit: Unit, trigger: str, module: Any) -> None:
        """Hold ``unit``, and apply it to a trigger of its that has executed just now."""
        holding = self.hold(unit)
        for name in holding.names if unit.edits else ():
            met = {o.trigger for o in self.session.report().of(name) if o.kind}
            if self.session.is_on(name) and trigger not in met:
                self.session.workshop.apply(self.session.entries[name], trigger, module)

    def _export(self) -> None:
        """Have the processes that are started from now on do the same."""
        if self._is_ours or not bootstrap.is_wanted():
            return  # the children would not be active
        units = [held.unit for held in self._held.values() if held.unit.edits]
        for label in export(units, self.session.switched):
            if label not in self._left_out:
                self._left_out.add(label)
                patcher_logger.info(
                    f"patch {label} stays in this process: a spawned worker could not find it by "
                    "name; define it in a module of its own, outside other functions"
                )

    def let_go(self, holding: Holding) -> None:
        """Take a unit back when nobody holds it any more."""
        if self.session.closed or holding.users <= 0:
            return
        holding.users -= 1
        if holding.users == 0:
            self._take_away(holding)
            if self._is_ours and not self._held:
                bootstrap.deactivate()

    def _take_away(self, holding: Holding) -> None:
        self._held.pop(holding.unit.identity, None)
        for name in holding.names:
            self._by_name.pop(name, None)
            if not holding.unit.catalog and name in self.session.entries:
                self.session.revert_patch(name)
        for name in holding.switched:
            self.session.switch(name, None)
        self._export()

    def _add(self, holding: Holding) -> None:
        unit = holding.unit
        self._count += 1
        name = base = "patcher." + (re.sub(r"[^\w.]", "_", unit.label).strip("_.") or "patch")
        number = 1
        while name in self._by_name or self._names.get(name, unit.identity) != unit.identity:
            number += 1
            name = f"{base}_{number}"
        self._names[name] = unit.identity
        patch = Patch(name, unit.edits, priority=unit.priority, doc=unit.label)
        object.__setattr__(patch, "origin", unit.home)
        holding.names.append(name)
        self._by_name[name] = holding
        if self._is_ours:
            self.session.switch(name, True)
        if self._is_for_here(unit):
            self.session.add([_Entry(patch, self._count)])
            if not self.session.is_on(name):
                patcher_logger.skipped(f"patch {unit.label}", self.session.why_off(name))

    def _is_for_here(self, unit: Unit) -> bool:
        """Say of modules that cannot be found that they cannot, unless they need not."""
        if unit.missing:
            try:
                wanted = all(check() for check in unit.checks)
            except PatchError as error:
                tell_failed(unit, str(error))
                return False
            if not wanted:
                patcher_logger.skipped(f"patch {unit.label}", "its precheck is false")
                return False
        for module, why in unit.missing.items():
            tell_failed(
                unit, f"module {module} cannot be imported: {why} (if it turns up, it is patched)"
            )
        return True

    # -- built-in patches ------------------------------------------------------

    def _switch_on(self, holding: Holding) -> None:
        unit = holding.unit
        for name in unit.catalog:
            if name not in self.session.entries:
                tell_failed(unit, f"mx_autopatch has no patch {name!r}")
                continue
            holding.names.append(name)
            self._by_name[name] = holding
            if self.session.is_on(name):
                tell(unit, self.session.report().of(name))
            else:
                holding.switched.append(name)
                self.session.switch(name, True)

    def switch_off(self, names: Iterable[str]) -> list[str]:
        """Turn built-in patches off; the names of those that were on."""
        on = [name for name in names if name in self.session.entries and self.session.is_on(name)]
        for name in on:
            self.session.switch(name, False)
        self._export()
        return on

    def give_back(self, names: Iterable[str]) -> None:
        """Leave built-in patches to the configuration again."""
        if not self.session.closed:
            for name in names:
                self.session.switch(name, None)
            self._export()

    # -- what became of them ---------------------------------------------------

    def outcomes(self, unit: Unit) -> list[Outcome]:
        """The outcomes of a unit's edits so far."""
        holding = self._held.get(unit.identity)
        names = holding.names if holding is not None else ()
        report = self.session.report()
        return [outcome for name in names for outcome in report.of(name)]

    def is_in_force(self, units: Iterable[Unit]) -> bool:
        """Whether an edit of these units is in force."""
        return any(outcome.status.in_force for unit in units for outcome in self.outcomes(unit))

    def status(self, unit: Unit) -> PatchStatus:
        """The state of a unit as a whole."""
        return self.result("", "", [unit]).status

    def result(
        self, name: str, module: str, units: list[Unit], targets: frozenset[str] = frozenset()
    ) -> PatchResult:
        """Hold ``units`` and sum up what became of them, or of these ``targets`` of theirs."""
        self.apply(units)
        among = targets and targets | {target.partition(":")[0] for target in targets}
        found = [
            (OF_STATUS[outcome.status], outcome)
            for unit in units
            for outcome in self.outcomes(unit)
            # What is pending is known by its trigger alone.
            if not among or outcome.target in (targets if outcome.kind else among)
        ]
        for status in ORDER:
            reasons = [o.reason for s, o in found if s is status]
            if reasons:
                said = status is not PatchStatus.APPLIED and "; ".join(filter(None, reasons))
                return PatchResult(status, name, module, said or None)
        return PatchResult(PatchStatus.SKIPPED, name, module, "it changes nothing")

    def settled(self, name: str, trigger: str) -> None:
        """Tell what became of a patch that has met a trigger of its."""
        holding = self._by_name.get(name)
        if holding is not None:
            met = [o for o in self.session.report().of(name) if o.trigger == trigger]
            tell(holding.unit, met)

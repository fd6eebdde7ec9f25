"""Carries out a session's patches, trigger by trigger."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable

from mx_autopatch.engine import during, late, plugins
from mx_autopatch.engine.apply import PLANNERS, reason_and_end
from mx_autopatch.engine.binding import Bindings
from mx_autopatch.engine.done import Done, Plan, status_of
from mx_autopatch.engine.loader import hook
from mx_autopatch.engine.requires import Requirements
from mx_autopatch.engine.substitutes import SUBSTITUTING, Substitutes
from mx_autopatch.engine.words import words
from mx_autopatch.engine.workbench import Workbench
from mx_autopatch.errors import PatchError
from mx_autopatch.model import (
    Before,
    Context,
    During,
    Edit,
    NotNeeded,
    Patch,
    Provide,
    Status,
    parse_target,
    pattern_of,
)

if TYPE_CHECKING:
    from mx_autopatch.engine.entries import PatchEntry
    from mx_autopatch.engine.session import Session

# These act while a module is found or executed, not once it has been.
_BEFORE = (Before, During, *SUBSTITUTING)


@dataclass(eq=False)
class Change:
    """An edit that is in force, and the copies that were rebound for it."""

    patch: str
    edit: Edit
    number: int
    done: Done
    copies: list[late.Copy] = field(default_factory=list)
    is_late: bool = False


class Workshop:
    """The working part of a session, imported with the first trigger."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._bindings = Bindings()
        self._changes: list[Change] = []
        # Modules that are patched, and those being reloaded, by trigger and id.
        self._fired: dict[tuple[str, int], Any] = {}
        self._reloading: dict[tuple[str, int], Any] = {}
        self._verdicts: dict[str, str] = {}
        self._complained: set[str] = set()
        self._requirements = Requirements(session.capabilities, _true_version)
        self._substitutes = Substitutes(self)

    # -- finding ---------------------------------------------------------------

    def find_spec(
        self, name: str, ask: Callable[[], ModuleSpec | None], inner: bool = False
    ) -> ModuleSpec | None:
        """The spec of ``name`` after stubs, redirects and provided modules had their say.

        Not so with ``inner``: see :meth:`Finder._trigger`.
        """
        if name in plugins.FILES:
            return spec_from_file_location(name, plugins.FILES[name])
        spec = ask() if inner else self._substitutes.find_spec(name, ask)
        if spec is not None and self.session.index.get(name):
            hook(spec, Firing(self, name))
        return spec

    def edits(
        self, trigger: str, kinds: tuple[type[Edit], ...]
    ) -> Iterator[tuple[Patch, int, Edit]]:
        """The edits of these kinds that the trigger fires, with their number in the patch."""
        for entry in self._ordered(trigger):
            patch = entry.load()
            for number, edit in enumerate(patch.edits):
                if edit.trigger == trigger and isinstance(edit, kinds):
                    yield patch, number, edit

    def provided_by_pattern(self, name: str) -> Iterator[tuple[Patch, int, Edit]]:
        """The edits that provide a module of this last name, made out to ``name``."""
        for patch, number, edit in self.edits(pattern_of(name), (Provide,)):
            yield patch, number, replace(edit, target=name)

    # -- round the execution of a module ---------------------------------------

    def before(self, trigger: str, module: ModuleType) -> Callable[[], None]:
        """Carry out what comes before the module; the result ends what is for that time alone."""
        if self._fired.pop((trigger, id(module)), None) is not None:
            # A reload: its code meets no patches of ours.
            self._reloading[trigger, id(module)] = module
            self.revert(module)
        ends: list[tuple[Patch, Callable[[], None]]] = []
        for patch, number, edit in self.edits(trigger, (Before, During)):
            end = self._begin(patch, number, edit, module)
            if end is not None:
                ends.append((patch, end))

        def finish() -> None:
            for patch, end in reversed(ends):
                try:
                    end()
                except Exception as error:
                    self.session.note(f"{patch.name}: {trigger}: {words(error)}")

        return finish

    def _begin(
        self, patch: Patch, number: int, edit: Edit, module: ModuleType
    ) -> Callable[[], None] | None:
        """Carry out one edit before its module executes; returns what ends it, if anything."""
        end: Callable[[], None] | None
        try:
            if why := self.unmet(patch):
                raise NotNeeded(why)
            context = self._context(patch, module)
            if isinstance(edit, During):
                end, reason = self._show(edit, context)
            else:
                assert isinstance(edit, Before)
                reason, end = reason_and_end(edit.function(context))
        except NotNeeded as error:
            self.record(patch, number, Status.UNMET, str(error))
        except LookupError as error:
            self.record(patch, number, Status.MISSING, words(error))
        except Exception as error:
            self.record(patch, number, Status.FAILED, words(error))
            if self.session.config.strict:
                self._raise_for_faults(patch.name)
        else:
            self.record(patch, number, Status.APPLIED, reason)
            return end
        return None

    def _show(self, edit: During, context: Context) -> tuple[Callable[[], None], str]:
        name, ((_, key),) = parse_target(edit.target)
        from importlib import import_module

        try:
            target = import_module(name)
        except ImportError as error:
            raise LookupError(f"{name} cannot be imported: {error}") from error
        value = edit.factory(context) if edit.factory is not None else edit.value
        during.show(target, str(key), edit.trigger, value)

        def hide() -> None:
            during.hide(target, str(key), edit.trigger)

        return hide, f"read as {value!r}"

    def fire(self, trigger: str, module: Any, is_late: bool = False) -> None:
        """Apply all patches of ``trigger`` to its module."""
        if self.session.closed:
            return
        if (trigger, id(module)) in self._fired:
            return  # by a hook within this one, or by another thread meanwhile
        for entry in self._ordered(trigger):
            try:
                self.apply(entry, trigger, module, is_late)
            except PatchError:  # strict mode
                raise
            except Exception as error:
                self.session.note(f"{entry.name}: {trigger}: {words(error)}")
        self._reloading.pop((trigger, id(module)), None)
        self._fired[trigger, id(module)] = module

    def failed(self, trigger: str, module: Any) -> None:
        """Patch a module again whose reload has failed: it stays, with what it had."""
        if (trigger, id(module)) in self._reloading:
            self.fire(trigger, module)

    def apply(self, entry: PatchEntry, trigger: str, module: Any, is_late: bool = False) -> None:
        """Apply the edits of one patch that share this trigger: all, or none."""
        try:
            patch = entry.load()
        except Exception as error:
            self.session.note(f"patch {entry.name!r} cannot be loaded: {words(error)}")
            return
        edits = [
            (number, edit)
            for number, edit in enumerate(patch.edits)
            if edit.trigger == trigger and not isinstance(edit, _BEFORE)
        ]
        if is_late:
            self._say_missed(patch, trigger)
        if edits:
            self._apply(patch, edits, module, is_late)
            self.session.tell(patch.name, trigger)
            if self.session.config.strict:
                self._raise_for_faults(patch.name)

    def _say_missed(self, patch: Patch, trigger: str) -> None:
        """Say of what should have come before a loaded module that it did not."""
        for number, edit in enumerate(patch.edits):
            if edit.trigger == trigger and isinstance(edit, Before):
                reason = self.unmet(patch) or (
                    f"{trigger} had executed before mx_autopatch was active; start it with the "
                    "interpreter, by MX_AUTOPATCH=1 or python -m mx_autopatch"
                )
                self.record(patch, number, Status.UNMET, reason)

    def _apply(
        self, patch: Patch, edits: list[tuple[int, Edit]], module: Any, is_late: bool
    ) -> None:
        if why := self.unmet(patch):
            for number, _ in edits:
                self.record(patch, number, Status.UNMET, why)
            return
        bench = Workbench(
            patch, self._context(patch, module), self._bindings, self._complain, PLANNERS
        )
        plans: list[tuple[int, Edit, Plan]] = []
        changes: list[Change] = []
        current = edits[0][0]
        try:
            for current, edit in edits:
                try:
                    plans.append((current, edit, bench.plan(edit)))
                except NotNeeded as error:
                    self.record(patch, current, Status.UNMET, str(error))
            for current, edit, plan in plans:
                try:
                    changes.append(Change(patch.name, edit, current, plan()))
                except NotNeeded as error:
                    self.record(patch, current, Status.UNMET, str(error))
        except Exception as error:
            self._take_back(changes)
            status = status_of(error)
            for number, _ in edits:
                reason = words(error) if number == current else ""
                reason = reason or f"not applied, since {patch.edits[current].target} could not be"
                self.record(patch, number, status, reason)
            return
        self._changes.extend(changes)
        self._settle(changes, module, is_late)

    def _settle(self, changes: list[Change], module: Any, is_late: bool) -> None:
        """Rebind copies made before, and record the outcomes."""
        moves = [move for change in changes for move in change.done.moves]
        keep = [namespace for change in changes for namespace in change.done.keep]
        # A module that was just executed may have been copied from while it executed.
        where = None if is_late else late.modules_since(getattr(module, "__name__", ""))
        found = late.rebind(moves, where, keep)
        for change in changes:
            originals = [move.old for move in change.done.moves if move.owned]
            change.copies = [copy for old in originals for copy in found.get(id(old), ())]
            change.is_late = is_late
            unreachable = [w for old in originals for w in late.unreachable(old)] if is_late else []
            self._tell(change, tuple(unreachable))

    def _tell(self, change: Change, unreachable: tuple[str, ...] = ()) -> None:
        """Record the outcome of a change that is in force."""
        fault, note = change.done.state() if change.done.state else (None, change.done.note)
        status = fault or (Status.LATE if change.is_late else Status.APPLIED)
        copies = tuple(map(str, change.copies))
        self._outcome(change, status, note, rebound=copies, unreachable=unreachable)

    def refresh(self) -> None:
        """Record anew what has become of changes that go on."""
        for change in list(self._changes):
            if change.done.state is not None:
                self._tell(change)

    # -- reverting -------------------------------------------------------------

    def revert(self, module: Any = None, patch: str | None = None) -> None:
        """Take changes back, the last one first: all, or for a reload those of a module.

        What a reload makes anew is patched anew; the classes that it made before, and
        the copies that others hold, stay as they are, as they do without us. With
        ``patch`` only what that patch has done is taken back.
        """
        chosen = [
            change
            for change in self._changes
            if (module is None or change.done.owner is module) and patch in (None, change.patch)
        ]
        for change in reversed(chosen):
            self._changes.remove(change)  # in place: another thread may add to the list
            try:
                moves = change.done.undo()
            except Exception as error:
                self._outcome(change, Status.FAILED, f"could not be reverted: {words(error)}")
                continue
            if module is None:
                late.rebind(moves, None, change.done.keep)
                for move in moves:
                    late.rebind_copies(change.copies, move)
            self._outcome(change, Status.REVERTED)
        if module is None:
            self._substitutes.take_away(patch)
            if patch is None:
                self._fired.clear()
            else:
                self._verdicts.pop(patch, None)

    def _take_back(self, changes: list[Change]) -> None:
        for change in reversed(changes):
            try:
                change.done.undo()
            except Exception as error:
                self.session.note(f"{change.patch}: {change.edit.target}: {words(error)}")

    def _outcome(self, change: Change, status: Status, reason: str = "", **more: Any) -> None:
        self.session.record(change.patch, change.edit, change.number, status, reason=reason, **more)

    # -- small things ----------------------------------------------------------

    def _ordered(self, trigger: str) -> list[PatchEntry]:
        loadable = []
        for entry in self.session.index.get(trigger, ()):
            try:
                loadable.append((entry.key, entry))
            except Exception as error:
                self.session.note(f"patch {entry.name!r} cannot be loaded: {words(error)}")
        return [entry for _, entry in sorted(loadable, key=lambda pair: pair[0])]

    def unmet(self, patch: Patch) -> str:
        """Why the patch's requirements do not hold; decided once a process."""
        if patch.name not in self._verdicts:
            try:
                self._verdicts[patch.name] = self._requirements.unmet(patch.requires)
            except Exception as error:
                self._verdicts[patch.name] = f"its requirement failed: {words(error)}"
        return self._verdicts[patch.name]

    def forget_verdicts(self, names: Iterable[str]) -> None:
        """Have the requirements of these patches decided anew."""
        for name in names:
            self._verdicts.pop(name, None)

    def _context(self, patch: Patch, module: Any) -> Context:
        given = self.session.config.options.get(patch.name, {})
        for name in given:
            if name not in patch.options:
                known = ", ".join(patch.options) or "none"
                self.session.note(
                    f"{self.session.config.sources.get('patches.options', '')}: "
                    f"patches.options.{patch.name}: unknown option {name!r}; known: {known}"
                )
        return Context(module, {**patch.options, **given}, self.session.config)

    def _complain(self, text: str, error: BaseException) -> None:
        """Report what a guard or the like raised, once a text."""
        if text not in self._complained:
            self._complained.add(text)
            text = f"{text}: {words(error)}"
            self.session.note(text)
            with contextlib.suppress(OSError, ValueError):  # stderr is closed
                if sys.stderr is not None:
                    sys.stderr.write(f"mx_autopatch: {text}\n")

    def record(
        self, patch: Patch, number: int, status: Status, reason: str = "", **more: Any
    ) -> None:
        self.session.record(patch.name, patch.edits[number], number, status, reason=reason, **more)

    def _raise_for_faults(self, patch: str) -> None:
        from mx_autopatch.engine.report import describe

        faults = [o for o in self.session.report().of(patch) if o.status.is_fault]
        if faults:
            raise PatchError("; ".join(map(describe, faults)) + " (strict mode)")


class Firing:
    """What happens round one execution of one trigger."""

    def __init__(self, workshop: Workshop, trigger: str) -> None:
        self._workshop, self._trigger = workshop, trigger

    def before(self, module: ModuleType) -> Callable[[], None]:
        return self._workshop.before(self._trigger, module)

    def after(self, module: ModuleType) -> None:
        self._workshop.fire(self._trigger, module)

    def failed(self, module: ModuleType) -> None:
        self._workshop.failed(self._trigger, module)


def _true_version(name: str) -> str | None:
    module = sys.modules.get(name)
    version = during.true_value(module, "__version__") if module is not None else None
    return version if isinstance(version, str) else None

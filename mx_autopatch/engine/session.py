"""What one activation knows and has done: triggers, outcomes, changes.

The finder asks it for specs; a module's firing tells it when to apply. Nothing here
raises into the user's import, except in strict mode.
"""

from __future__ import annotations

import _thread
import os
import sys

from mx_autopatch.engine import plugins
from mx_autopatch.engine.entries import PatchEntry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, Callable

    from mx_autopatch.engine.config import Config
    from mx_autopatch.engine.firing import Workshop
    from mx_autopatch.engine.report import Report
    from mx_autopatch.model import Edit, Outcome, Status


class Session:
    """One activation.

    Args:
        config: The frozen configuration.
        entries: All known patches.
        problems: What went wrong so far, in words.
        capabilities: Decide ``device:npu`` and the like (see engine.requires).
        switched: Patches that are on or off whatever the configuration says.
    """

    def __init__(
        self,
        config: Config,
        entries: Iterable[PatchEntry],
        problems: Iterable[str] = (),
        capabilities: dict[str, Any] | None = None,
        switched: dict[str, bool] | None = None,
    ) -> None:
        self.config = config
        #: Absolute from the start, since the program may change its working directory.
        self.report_path = config.report_path and os.path.abspath(config.report_path)
        self.problems = list(problems)
        self.capabilities = capabilities or {}
        self.entries: dict[str, PatchEntry] = {}
        #: Trigger -> the enabled patches that it fires. Read by the finder without a lock.
        self.index: dict[str, list[PatchEntry]] = {}
        #: Beginnings of names that a stub or redirect of a whole package answers for.
        self.prefixes: tuple[str, ...] = ()
        #: Last names of the modules of any package that a trigger ``*.name`` stands for.
        self.last_names: set[str] = set()
        #: Called when index, prefixes or last names have changed.
        self.changed: Callable[[], None] = lambda: None
        #: Called with patch and trigger when a patch has met a trigger of its.
        self.observers: list[Callable[[str, str], None]] = []
        self._reverted: set[str] = set()
        #: Patches turned on or off at run time, over what the configuration says.
        self.switched: dict[str, bool] = dict(switched or {})
        self._outcomes: dict[tuple[str, str, int], Outcome] = {}
        self._lock = _thread.allocate_lock()
        self._workshop: Workshop | None = None
        self._waiting: frozenset[str] = frozenset()
        #: Whether it has been reverted. Modules may be in execution that know it still.
        self.closed = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew_lock)
        for name in [rule.name for rule in config.stub] + list(config.redirect):
            self.index[name] = []
            self.answer_below(name)
        for name in plugins.FILES:  # so that a worker can unpickle something of a plugin
            self.index[name] = []
        for entry in entries:
            self._enter(entry)

    def _renew_lock(self) -> None:
        # A thread that does not exist in the child may have held it.
        self._lock = _thread.allocate_lock()

    # -- patches ---------------------------------------------------------------

    def _enter(self, entry: PatchEntry) -> None:
        if entry.name in self._reverted:
            self._reverted.remove(entry.name)
        elif entry.name in self.entries and self.entries[entry.name].order <= entry.order:
            if self.entries[entry.name] is not entry:
                self.problems.append(f"patch {entry.name!r} is there twice; the first one is used")
            return
        self.entries[entry.name] = entry
        if self._selects(entry):
            for trigger in entry.triggers:
                self.index.setdefault(trigger, []).append(entry)
                if trigger[:2] == "*.":
                    self.last_names.add(trigger[2:])

    def _selects(self, entry: PatchEntry) -> bool:
        configured = self.config.selects(entry.name, entry.default)
        return self.switched.get(entry.name, configured)

    def why_off(self, name: str) -> str:
        """Why a known patch is not on."""
        if name in self.switched:
            return "switched off at run time"
        return self.config.reason(name, self.entries[name].default)

    def is_on(self, name: str) -> bool:
        """Whether a known patch is in force, or would be once its triggers are imported."""
        entry = self.entries[name]
        return any(entry in self.index.get(trigger, ()) for trigger in entry.triggers)

    def switch(self, name: str, on: bool | None) -> None:
        """Turn a patch on or off at run time, or (None) leave it to the configuration again.

        A name that is not known yet is remembered until it is.
        """
        if on is None:
            self.switched.pop(name, None)
        else:
            self.switched[name] = on
        entry = self.entries.get(name)
        if entry is None or self._selects(entry) is self.is_on(name):
            return
        if self.is_on(name):
            self.revert_patch(name)
        else:
            self._reverted.add(name)
            self.add([entry])

    def add(self, entries: Iterable[PatchEntry]) -> None:
        """Take in patches registered after activation; apply them where they are late."""
        for entry in entries:
            self._enter(entry)
            self.changed()
            for trigger in entry.triggers:
                module = self._loaded(trigger)
                if module is not None and entry in self.index.get(trigger, ()):
                    self.workshop.apply(entry, trigger, module, is_late=True)

    def reconsider(self, names: Iterable[str]) -> None:
        """Decide anew whether these patches' requirements hold, and apply those that now do.

        For when the configuration has changed, which is what it is meant for.
        """
        entries = [self.entries[name] for name in names if name in self.entries]
        if self._workshop is not None:
            self._workshop.forget_verdicts(entry.name for entry in entries)
        self.add(entries)

    def apply_to_loaded(self, waiting: frozenset[str] = frozenset()) -> None:
        """Apply what was too late for the import of its trigger, save for ``waiting``."""
        self._waiting = waiting
        for trigger in list(self.index):
            module = self._loaded(trigger) if trigger not in waiting else None
            if module is not None:
                self.fire(trigger, module, late=True)

    def _loaded(self, trigger: str) -> ModuleType | None:
        """The trigger's module if it has executed.

        One that is in execution is left alone: half of its names are not there yet. If
        it came through our finder it fires its patches itself, else it is reported.
        """
        module = sys.modules.get(trigger)
        if module is None:
            return None
        from mx_autopatch.engine.late import has_executed

        return module if has_executed(module) else None

    def answer_below(self, name: str) -> None:
        """Be asked for the submodules of ``name`` from now on, too."""
        if name + "." not in self.prefixes:
            self.prefixes += (name + ".",)
            self.changed()

    @property
    def workshop(self) -> Workshop:
        """Carries edits out. Made, and its modules imported, when the first one fires."""
        if self._workshop is None:
            from mx_autopatch.engine.firing import Workshop

            made = Workshop(self)
            with self._lock:  # several threads may have come this far
                if self._workshop is None:
                    self._workshop = made
        return self._workshop

    # -- imports ---------------------------------------------------------------

    def find_spec(
        self, name: str, ask: Callable[[], ModuleSpec | None], inner: bool = False
    ) -> ModuleSpec | None:
        """The spec of a trigger; ``ask`` gives what the other finders say."""
        return self.workshop.find_spec(name, ask, inner)

    def fire(self, trigger: str, module: ModuleType, late: bool = False) -> None:
        """Apply all patches of a trigger to its module, which has executed."""
        self.workshop.fire(trigger, module, late)

    def revert(self) -> None:
        """Take every change back, the last one first; no further one is made."""
        self.closed = True
        if self._workshop is not None:
            self._workshop.revert()

    def revert_patch(self, name: str) -> list[Outcome]:
        """Take back what one patch has done; what of it is still pending no longer fires.

        Layers that other patches have put on the same targets stay. What came before a
        module executed (Before, During) is over, and keeps its outcome. :meth:`add` with
        a patch of that name applies it again.

        Returns:
            The patch's outcomes.

        Raises:
            LookupError: no patch of that name is known.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise LookupError(f"no patch {name!r} is known")
        for trigger in entry.triggers:
            entries = self.index.get(trigger, [])
            self.index[trigger] = [other for other in entries if other.name != name]
        self._reverted.add(name)
        self.changed()
        if self._workshop is not None:
            self._workshop.revert(patch=name)
        return self.report().of(name)

    # -- outcomes --------------------------------------------------------------

    def record(self, patch: str, edit: Edit, number: int, status: Status, **more: Any) -> None:
        """Note what became of an edit; a later word on it replaces an earlier one."""
        from mx_autopatch.model import Outcome

        outcome = Outcome(patch, edit.kind, edit.target, edit.trigger, status, **more)
        with self._lock:
            self._outcomes[(patch, edit.trigger, number)] = outcome

    def tell(self, patch: str, trigger: str) -> None:
        """Let the observers know that a patch has met a trigger."""
        for observer in list(self.observers):
            observer(patch, trigger)

    def note(self, problem: str) -> None:
        """Add a problem that belongs to no edit."""
        with self._lock:
            if problem not in self.problems:
                self.problems.append(problem)

    def has_outcomes(self) -> bool:
        """Whether any patch has met its trigger."""
        return bool(self._outcomes)

    def report(self) -> Report:
        """All outcomes so far, those still pending and those switched off included."""
        from mx_autopatch.engine.report import Report
        from mx_autopatch.model import Outcome, Status, pattern_of

        if self._workshop is not None:
            self._workshop.refresh()
        with self._lock:
            outcomes = list(self._outcomes.values())
        settled = {(outcome.patch, outcome.trigger) for outcome in outcomes}
        settled |= {(patch, pattern_of(trigger)) for patch, trigger in settled}
        for entry in self.entries.values():
            on = self._selects(entry)
            status = Status.PENDING if on else Status.DISABLED
            if on and entry.name in self._reverted:
                on, status = False, Status.REVERTED
            for trigger in entry.triggers:
                if (entry.name, trigger) in settled:
                    continue
                disabled = status is Status.DISABLED
                reason = self.why_off(entry.name) if disabled else ""
                if on and sys.modules.get(trigger) is not None:
                    reason = self._why_pending(trigger, sys.modules[trigger])
                outcomes.append(Outcome(entry.name, "", trigger, trigger, status, reason))
        return Report(outcomes, list(self.problems))

    def _why_pending(self, trigger: str, module: ModuleType) -> str:
        """Why the patches of a module that is in sys.modules have not been applied."""
        from mx_autopatch.engine.late import has_executed, namespace_of

        if trigger in self._waiting:
            return f"{trigger} has not been asked for a name that it lacks"
        if not has_executed(module):
            return f"{trigger} has not executed yet"
        loader = type(namespace_of(module).get("__loader__")).__name__
        return f"{trigger} was imported past our finder, by {loader}"

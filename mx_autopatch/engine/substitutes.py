"""What answers for a module in place of a file: stubs, redirects, provided modules."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from itertools import chain
from typing import TYPE_CHECKING, Any, Callable

from mx_autopatch.engine import virtual
from mx_autopatch.model import Edit, Parent, Patch, Provide, Redirect, Status, Stub

if TYPE_CHECKING:
    from mx_autopatch.engine.firing import Workshop

Ask = Callable[[], "ModuleSpec | None"]

#: The edits that act while a module is looked for.
SUBSTITUTING = (Parent, Provide, Redirect, Stub)


class Substitutes:
    """Makes the specs of substitutes, and takes their modules away again."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._config = workshop.session.config
        #: Old name -> new one: the configuration's, and those of applied Redirect edits.
        self._redirects: dict[str, str] = dict(self._config.redirect)
        #: Name -> why, of applied Stub edits.
        self._stubs: dict[str, str] = {}
        self._made: list[str] = []
        self._applied: list[tuple[Patch, int, Edit]] = []

    def find_spec(self, name: str, ask: Ask) -> ModuleSpec | None:
        """The spec of ``name``; the other finders' (``ask``) where nothing replaces it."""
        spec = self._redirected(name) or self._stub(name)
        if spec is not None:
            self._made.append(name)
            return spec
        return self._edited(name, ask)

    def take_away(self, patch: str | None = None) -> None:
        """Forget every module made here, or by one patch, as if it had never been imported."""
        applied = [one for one in self._applied if patch in (None, one[0].name)]
        targets = [edit.target for _, _, edit in applied]
        made = [
            name
            for name in self._made
            if patch is None or any(f"{name}.".startswith(f"{target}.") for target in targets)
        ]
        for name in made:
            module = sys.modules.pop(name, None)
            parent, _, child = name.rpartition(".")
            holder = vars(sys.modules[parent]) if parent in sys.modules else {}
            # A redirect's module keeps its place under its own name.
            own_name = getattr(module, "__name__", None) == name
            if own_name and holder.get(child) is module:
                del holder[child]
        for one, number, edit in applied:
            if isinstance(edit, Redirect):
                self._redirects.pop(edit.target, None)
            self._stubs.pop(edit.target, None)
            self._record(one, number, edit, Status.REVERTED)
        self._made = [name for name in self._made if name not in made]
        self._applied = [one for one in self._applied if one not in applied]

    # -- the configuration's rules ---------------------------------------------

    def _redirected(self, name: str) -> ModuleSpec | None:
        for old, new in self._redirects.items():
            # An edit's own target goes through its edit each time, which tells of it.
            if (name == old and old in self._config.redirect) or name.startswith(old + "."):
                to = new + name[len(old) :]
                return virtual.virtual_spec(name, f"redirected to {to}", virtual.redirected(to))
        return None

    def _stub(self, name: str) -> ModuleSpec | None:
        for rule in self._config.stub:
            if name == rule.name or name.startswith(rule.name + "."):
                source = self._config.sources["modules.stub"]
                text = f"{source}: modules.stub names {rule.name!r}; install it, or drop the rule"
                if rule.probes == "absent":
                    from mx_autopatch.engine.probing import is_probe

                    if is_probe():
                        raise ModuleNotFoundError(f"No module named {name!r} ({text})", name=name)
                return virtual.stub_spec(name, text)
        return None

    # -- edits -----------------------------------------------------------------

    def _edited(self, name: str, ask: Ask) -> ModuleSpec | None:
        found: list[ModuleSpec | None] = []

        def real() -> ModuleSpec | None:
            if not found:
                found.append(ask())
            return found[0]

        stub: tuple[Patch, int, Stub] | None = None
        edits = self._workshop.edits(name, SUBSTITUTING)
        for patch, number, edit in chain(edits, self._workshop.provided_by_pattern(name)):
            if why := self._workshop.unmet(patch):
                self._record(patch, number, edit, Status.UNMET, why)
            elif isinstance(edit, Redirect) and not (edit.if_missing and real() is not None):
                self._redirects[name] = edit.to
                self._workshop.session.answer_below(name)
                tell = self._telling(name, patch, number, edit, f"{edit.to} answers")
                populate = virtual.redirected(edit.to)
                return virtual.virtual_spec(name, f"redirected to {edit.to}", populate, tell)
            elif isinstance(edit, Stub):
                stub = patch, number, edit  # what answers in earnest comes before it
                self._stubs[name] = edit.reason
                self._workshop.session.answer_below(name)
            elif isinstance(edit, Parent) and real() is None:
                from mx_autopatch.engine.probing import is_import_of

                if is_import_of(edit.child):
                    tell = self._telling(name, patch, number, edit, f"for {edit.child} alone")
                    populate = virtual.parent_only(edit.child)
                    return virtual.virtual_spec(name, f"the place of {edit.child}", populate, tell)
            elif isinstance(edit, Provide) and real() is None:
                tell = self._telling(name, patch, number, edit, f"from {edit.source}")
                populate = virtual.provided(edit.source)
                reason = self._stub_reason(name)
                if reason:
                    populate = virtual.filled_up(populate, reason)
                return virtual.virtual_spec(name, edit.source, populate, tell)
            else:
                self._record(patch, number, edit, Status.UNMET, f"{name} is installed")
                if isinstance(edit, Provide):
                    self._stand_by(real(), patch, number, edit)
        if stub is not None:
            patch, number, edit = stub
            tell = self._telling(name, patch, number, edit, "a stub answers")
            return virtual.stub_spec(name, edit.reason, tell)
        spec, reason = real(), self._stub_reason(name)
        if spec is not None or not reason:
            return spec
        self._made.append(name)
        return virtual.stub_spec(name, reason)

    def _stub_reason(self, name: str) -> str:
        """Why ``name`` may be imported without being there, if an edit says so."""
        found = [text for above, text in self._stubs.items() if f"{name}.".startswith(f"{above}.")]
        return found[0] if found else ""

    def _stand_by(self, spec: Any, patch: Patch, number: int, edit: Provide) -> None:
        """Provide the module after all if the real one turns out not to load."""

        def tell(error: BaseException) -> None:
            reason = f"the installed one does not load: {error}"
            self._telling(edit.target, patch, number, edit, reason)()

        populate = virtual.provided(edit.source)
        spec.loader = virtual.WithFallback(spec, populate, tell)

    def _telling(
        self, name: str, patch: Patch, number: int, edit: Edit, reason: str
    ) -> Callable[[], None]:
        """Records the outcome; called once the module has been made, not when it is looked for."""

        def tell() -> None:
            self._made.append(name)
            self._applied.append((patch, number, edit))
            self._record(patch, number, edit, Status.APPLIED, reason)
            self._workshop.session.tell(patch.name, edit.trigger)

        return tell

    def _record(
        self, patch: Patch, number: int, edit: Edit, status: Status, reason: str = ""
    ) -> None:
        # Not by the edit's number alone: one of a pattern has an outcome for each module.
        self._workshop.session.record(patch.name, edit, number, status, reason=reason)

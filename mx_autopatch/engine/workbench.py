"""What planning an edit needs to know, and how a layer is put on a site and taken off."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Callable

from mx_autopatch.engine import late
from mx_autopatch.engine.binding import Bindings, Layer, Site
from mx_autopatch.engine.done import Conflict, Done, Plan
from mx_autopatch.engine.late import Move
from mx_autopatch.engine.wrapping import Adoption
from mx_autopatch.model import Context, Edit, Patch


class InForce(Exception):
    """The edit being planned holds the target already."""


@dataclass
class Workbench:
    """What planning an edit needs to know."""

    patch: Patch
    context: Context
    bindings: Bindings
    complain: Callable[[str, BaseException], None]
    #: Kind of edit -> how one is planned.
    planners: Mapping[type, Callable[[Workbench, Any], Plan]]
    edit: Edit | None = None
    #: Whether a class is worked on that nothing of ours may keep from being collected.
    weakly: bool = False

    def within(self, cls: type, edit: Edit) -> Workbench:
        """A bench for an edit on a class, in the place of the module."""
        context = replace(self.context, module=cls)
        return replace(self, context=context, edit=edit, weakly=True)

    def plan(self, edit: Edit) -> Plan:
        """How to carry ``edit`` out.

        Raises:
            LookupError: the target is not there.
            Conflict: another patch holds it.
            NotNeeded: there is nothing to do.
        """
        self.edit = edit
        try:
            return self.planners[type(edit)](self, edit)
        except InForce:
            return lambda: Done(list)

    def fresh(self, site: Site) -> Site:
        """``site``, unless the edit is in force there.

        So it is where a module is executed anew as another object, but the target is
        something that it imports: a base class, a registry.
        """
        if self.bindings.holds(site, self.edit):
            raise InForce
        return site

    def given(self, edit: Any, name: str) -> Any:
        """The edit's object, made by its factory if it has one."""
        return edit.factory(self.context) if edit.factory is not None else getattr(edit, name)

    def complaint(self, edit: Edit) -> Callable[[BaseException], None]:
        """What is called with an exception that the edit's guard has raised."""
        text = f"the guard of {edit.target} raised, so the original ran"

        def complain(error: BaseException) -> None:  # dynamo traces no partial in a closure
            self.complain(text, error)

        return complain

    def refuse_conflict(self, site: Site, kind: str) -> None:
        """Raise Conflict if a patch has done to ``site`` what excludes a layer of this kind."""
        holder = self.bindings.excluding(site, kind)
        if holder is not None:
            done = "rewritten" if holder.kind == "rewrite" else "replaced"
            raise Conflict(f"{site.name} has been {done} by patch {holder.patch!r}")

    def layer(
        self, site: Site, kind: str, build: Callable[[Any], Any], source: Any, made: bool
    ) -> Plan:
        """Plan to put one layer on ``site``.

        ``source`` is the object behind it; ``made`` says that ``build`` makes a new one
        of it, which nobody else can hold.
        """
        layer = Layer(self.patch.name, kind, build, self.edit)
        assert self.edit is not None
        home = self.edit.trigger

        def do() -> Done:
            self.refuse_conflict(site, kind)  # two edits of one patch may have been planned
            below = site.visible()
            binding = self.bindings.at(site, self.weakly)
            try:
                before, after = binding.push(layer)
            finally:
                self.bindings.release(binding)
            private = made or is_private(source, self.patch)
            # One replacement may be that of many classes.
            adopts = private and not made and not self.weakly
            adoption = Adoption(source, below) if adopts else None
            self.bindings.remember(after, self.patch.name, source)

            def undo() -> list[Move]:
                try:
                    return [Move(*binding.remove(layer), owned=private)]
                finally:  # also where other code has changed the site since
                    if adoption is not None:
                        adoption.undo()
                    self.bindings.forget(after)
                    self.bindings.release(binding)

            move = Move(before, after, late.belongs_to(before, home))
            keep = [late.namespace_of(self.context.module), *homes(source)]
            return Done(undo, [move], keep, owner=site.container)

        return do


def is_private(value: Any, patch: Patch) -> bool:
    """Whether a function or class was written for this patch, and serves nothing else."""
    value = getattr(value, "__func__", value)
    if not isinstance(value, (types.FunctionType, type)):
        return False
    return "<" in value.__qualname__ or value.__module__ == patch.origin


def homes(source: Any) -> Iterable[Mapping[str, Any]]:
    """The namespace in which a function or class was written."""
    function = getattr(source, "__func__", source)
    if isinstance(function, types.FunctionType):
        return [function.__globals__]
    module = sys.modules.get(getattr(source, "__module__", None) or "")
    return [vars(module)] if module is not None else []

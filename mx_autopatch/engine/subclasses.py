"""Edits on every class derived from a base: those that are there, and those to come.

A layer on the base's ``__init_subclass__`` sees each class as its class statement ends.
A derived class that has an ``__init_subclass__`` of its own gets one there as well, since
that need not call ``super()``.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mx_autopatch.engine.binding import Site, find_site, held
from mx_autopatch.engine.done import Done, Plan, status_of
from mx_autopatch.engine.late import Move
from mx_autopatch.engine.transplant import is_python_class
from mx_autopatch.engine.words import words
from mx_autopatch.errors import PatchError
from mx_autopatch.model import NotNeeded, Status, Subclasses

if TYPE_CHECKING:
    from mx_autopatch.engine.workbench import Workbench

_HOOK = "__init_subclass__"


def plan_subclasses(bench: Workbench, edit: Subclasses) -> Plan:
    """How to carry a Subclasses edit out."""
    _, base = find_site(edit.target, bench.context.module)
    if not isinstance(base, type) or not is_python_class(base):
        raise PatchError(f"{edit.target} is no class made by a class statement")
    bench.fresh(Site(base, _HOOK, is_attribute=True))
    own = replace(bench, edit=edit)

    def do() -> Done:
        watch = _Watch(own, edit, base)
        try:
            watch.start()
        except BaseException:
            watch.undo()
            raise
        return Done(watch.undo, owner=base, state=watch.state)

    return do


class _Watch:
    """One Subclasses edit in force. Holds classes weakly: they may be defined in functions."""

    def __init__(self, bench: Workbench, edit: Subclasses, base: type) -> None:
        self._bench, self._edit, self._base = bench, edit, base
        self._on = True
        self._complained = False
        self._hooked: Done | None = None
        # By id, since a metaclass may have made its classes unhashable.
        self._seen: dict[int, weakref.ref[type]] = {}
        self._changed: dict[int, weakref.ref[type]] = {}
        # Name of a class -> why it matched, or why it has no edits.
        self._matched: dict[str, str] = {}
        self._refused: dict[str, tuple[Status, str]] = {}

    def start(self) -> None:
        self._hooked = self._listen(self._base, self._bench)
        for cls in self._existing():
            self.visit(cls)

    def _existing(self) -> list[type]:
        """All classes derived from the base, bases before those derived from them."""
        found: dict[int, type] = {}
        waiting = [self._base]
        while waiting:
            derived: list[type] = type.__subclasses__(waiting.pop())
            for cls in derived:
                if id(cls) not in found:
                    found[id(cls)] = cls
                    waiting.append(cls)
        return sorted(found.values(), key=lambda cls: len(cls.__mro__))

    # -- being told of classes -------------------------------------------------

    def _listen(self, cls: type, bench: Workbench) -> Done:
        """Be told of each class whose ``__init_subclass__`` is that of ``cls``."""
        site = Site(cls, _HOOK, is_attribute=True)
        return bench.layer(site, "wrap", lambda below: self._hook(cls, below), self, True)()

    def _hook(self, owner: Any, below: Any) -> Any:
        # What ``owner`` inherits is asked for by super(), which knows the later class's order.
        inherits = any(vars(base).get(_HOOK) is below for base in owner.__mro__[1:])

        def __init_subclass__(cls: Any, /, *args: Any, **kwargs: Any) -> None:
            if inherits:
                super(owner, cls).__init_subclass__(*args, **kwargs)
            else:
                below.__get__(None, cls)(*args, **kwargs)
            self.visit(cls)

        return classmethod(__init_subclass__)

    def visit(self, cls: type) -> None:
        """Look at a class, once. Raises nothing: a class statement of the user's is running."""
        if not self._on or not _add(self._seen, cls):
            return
        if _HOOK in vars(cls):
            try:
                self._keep(cls, self._listen(cls, self._bench.within(cls, self._edit)))
            except Exception as error:
                self._refuse(cls, error)
        why = self._why(cls)
        if why:
            self._change(cls, why)

    def _why(self, cls: type) -> Any:
        try:
            return self._edit.match(cls)
        except Exception as error:
            if not self._complained:
                self._complained = True  # it may fail of every class there is
                text = f"match of {self._edit.target} raised, so {_name(cls)} was left as it is"
                self._bench.complain(text, error)
            return False

    # -- changing one ----------------------------------------------------------

    def _change(self, cls: type, why: Any) -> None:
        name = _name(cls)
        said = [why] if isinstance(why, str) else []
        done: list[Done] = []
        try:
            plans = []
            for edit in self._edit.edits:
                try:
                    plans.append(self._bench.within(cls, edit).plan(edit))
                except NotNeeded as error:
                    said.append(str(error))
            done.extend(plan() for plan in plans)
        except Exception as error:
            for one in reversed(done):
                one.undo()
            self._refuse(cls, error)
            return
        for one in done:
            self._keep(cls, one)
        self._refused.pop(name, None)
        self._matched[name] = "; ".join(said)

    def _refuse(self, cls: type, error: Exception) -> None:
        self._refused[_name(cls)] = status_of(error), words(error)

    def _keep(self, cls: type, done: Done) -> None:
        # The class itself holds what was done to it, which in turn refers to the class.
        held(cls).done.setdefault(self, []).append(done)
        _add(self._changed, cls)

    # -- afterwards ------------------------------------------------------------

    def state(self) -> tuple[Status | None, str]:
        """What has become of the edit by now."""
        refused = dict(self._refused)
        for cls in self._existing():
            if id(cls) not in self._seen and self._why(cls):
                refused[_name(cls)] = (
                    Status.FAILED,
                    ("not seen: an __init_subclass__ among its bases does not call super()"),
                )
        matched = [f"{name} ({why})" if why else name for name, why in self._matched.items()]
        text = "in " + ", ".join(matched) if matched else "no class has matched"
        if refused:
            text += "; not in " + ", ".join(f"{n} ({why})" for n, (_, why) in refused.items())
        return next(iter(refused.values()))[0] if refused else None, text

    def undo(self) -> list[Move]:
        """Take everything back in every class that still exists."""
        self._on = False
        errors = []
        classes = [ref() for ref in list(self._changed.values())]
        for cls in sorted((c for c in classes if c), key=lambda c: -len(c.__mro__)):
            for one in reversed(held(cls).done.pop(self, [])):
                try:
                    one.undo()
                except Exception as error:
                    errors.append(f"{_name(cls)}: {words(error)}")
            held(cls).let_go(cls)
        if self._hooked is not None:
            self._hooked.undo()
        if errors:
            raise PatchError("; ".join(errors))
        return []


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _add(classes: dict[int, weakref.ref[type]], cls: type) -> bool:
    """Note a class for as long as it exists; returns whether it is new."""
    key = id(cls)
    if key in classes:
        return False
    classes[key] = weakref.ref(cls, lambda _: classes.pop(key, None))
    return True

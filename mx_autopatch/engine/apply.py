"""Edits carried out on a module that has executed.

Every edit is planned first and done afterwards: planning resolves targets and runs
factories but changes nothing, so a patch of which one edit cannot apply has not
half applied.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

from mx_autopatch.engine import late
from mx_autopatch.engine.below import Below
from mx_autopatch.engine.binding import Site, find_site
from mx_autopatch.engine.done import Conflict, Done, Plan
from mx_autopatch.engine.late import Move
from mx_autopatch.engine.rewriting import rewriting
from mx_autopatch.engine.snapshot import Changes, changes_since, restore, snapshot
from mx_autopatch.engine.subclasses import plan_subclasses
from mx_autopatch.engine.transplant import NOT_TAKEN, is_python_class, transplanted
from mx_autopatch.engine.workbench import Workbench, homes, is_private
from mx_autopatch.engine.wrapping import (
    decorating,
    replacing,
    wrapping,
    wrapping_construction,
)
from mx_autopatch.errors import PatchError
from mx_autopatch.model import (
    MISSING,
    Call,
    Context,
    Define,
    Edit,
    NotNeeded,
    Register,
    Replace,
    Rewrite,
    Subclasses,
    When,
    Wrap,
)


def reason_and_end(result: Any) -> tuple[str, Callable[[], None] | None]:
    """What the function of a Call or a Before has returned: a reason, an end, or a pair."""
    parts = result if isinstance(result, tuple) else (result,)
    said = next((part for part in parts if isinstance(part, str)), "")
    return said, next((part for part in parts if callable(part)), None)


def _plan_replace(bench: Workbench, edit: Replace) -> Plan:
    site, current = find_site(edit.target, bench.context.module)
    bench.fresh(site)
    new = bench.given(edit, "replacement")
    classes = isinstance(current, type) and isinstance(new, type) and edit.guard is None
    if classes and is_python_class(new) and not issubclass(new, current):
        return _in_place(bench, current, new)
    kind = "replace" if edit.guard is None else "guarded"
    bench.refuse_conflict(site, kind)
    _refuse_twice(bench, current, new, edit)
    build = replacing(new, edit.guard, bench.complaint(edit))
    return bench.layer(site, kind, build, new, made=edit.guard is not None)


def _plan_rewrite(bench: Workbench, edit: Rewrite) -> Plan:
    site, current = find_site(edit.target, bench.context.module)
    bench.fresh(site)
    bench.refuse_conflict(site, "rewrite")
    _refuse_twice(bench, current, edit, edit)
    build = rewriting(edit, bench.patch.name, str(site.key))
    # One that goes on with what an earlier edit of this patch makes can only be tried then.
    edits = [each.edit if isinstance(each, When) else each for each in bench.patch.edits]
    for each in bench.patch.edits:
        if isinstance(each, Subclasses) and edit in each.edits:
            edits = list(each.edits)
    earlier = edits[: edits.index(edit)] if edit in edits else []
    if not any(isinstance(e, Rewrite) and e.target == edit.target for e in earlier):
        build(bench.bindings.below(site, "rewrite"))
    return bench.layer(site, "rewrite", build, edit, made=True)


def _plan_wrap(bench: Workbench, edit: Wrap) -> Plan:
    site, current = find_site(edit.target, bench.context.module)
    bench.fresh(site)
    if edit.decorator is not None:
        _refuse_twice(bench, current, edit.decorator, edit)
        build = decorating(edit.decorator, edit.guard, bench.complaint(edit))
        return bench.layer(site, "wrap", build, edit.decorator, made=True)
    _refuse_twice(bench, current, edit.wrapper, edit)
    if isinstance(current, type) and is_python_class(current):
        site = bench.fresh(Site(current, "__init__", is_attribute=True))
        build = wrapping_construction(current, edit.wrapper)
        return bench.layer(site, "wrap", build, edit.wrapper, made=True)
    build = wrapping(edit.wrapper, in_class=isinstance(site.container, type))
    return bench.layer(site, "wrap", build, edit.wrapper, made=True)


def _plan_define(bench: Workbench, edit: Define) -> Plan:
    site, current = find_site(edit.target, bench.context.module, may_miss=True)
    bench.fresh(site)
    if current is not MISSING:
        raise NotNeeded(f"{edit.target} is there already")
    value = bench.given(edit, "value")
    return bench.layer(site, "define", lambda below: value, value, made=False)


def _plan_register(bench: Workbench, edit: Register) -> Plan:
    _, registry = find_site(edit.target, bench.context.module)
    obj = bench.given(edit, "obj")
    name = edit.name or getattr(obj, "__name__", None)
    entries = getattr(registry, "_module_dict", None)
    if not isinstance(entries, dict) or not callable(getattr(registry, "register_module", None)):
        raise PatchError(f"{edit.target} is a {type(registry).__name__}, not an mm* Registry")
    if not isinstance(name, str):
        raise PatchError(f"Register({edit.target!r}): {obj!r} has no name; give name=...")
    known = entries.get(name, MISSING)
    if known is not MISSING and known is not obj and not edit.force:
        raise Conflict(f"{edit.target}: {name!r} is registered already: {known!r}")

    def do() -> Done:
        registry.register_module(name=name, module=obj, force=True)

        def undo() -> list[Move]:
            if entries.get(name) is not obj:
                raise PatchError(f"{edit.target}[{name!r}] was changed by other code since")
            Site(entries, name, is_attribute=False).put(known)
            return []

        return Done(undo, note=f"as {name!r}")

    return do


def _plan_call(bench: Workbench, edit: Call) -> Plan:
    def do() -> Done:
        changes, result = _run(edit, bench.context)
        said, end = reason_and_end(result)
        note = said or ", ".join(site.name for site, _, _ in changes)
        pairs = [(was, is_) for site, was, is_ in changes if site.is_attribute and edit.copies]
        home = edit.trigger
        moves = [Move(was, is_, late.belongs_to(was, home)) for was, is_ in pairs]

        def undo() -> list[Move]:
            restore(changes)
            if end is not None:
                end()
            return [Move(is_, was, is_private(is_, bench.patch)) for was, is_ in pairs]

        module = bench.context.module
        keep = [late.namespace_of(module), *homes(edit.function)]
        return Done(undo, moves, keep, note, owner=module)

    return do


def _run(edit: Call, context: Context) -> tuple[Changes, Any]:
    """Call the edit's function; what it changed, and what it returned."""
    if edit.below:
        with Below(context.module) as below:
            try:
                result = edit.function(context)
            except BaseException:
                below.take_back()
                raise
        return below.changes, result
    before = snapshot(context.module)
    try:
        result = edit.function(context)
    except BaseException:
        restore(changes_since(before))
        raise
    return changes_since(before), result


def _plan_when(bench: Workbench, edit: When) -> Plan:
    verdict = edit.condition(bench.context)
    if verdict is not True and (isinstance(verdict, str) or not verdict):
        raise NotNeeded(verdict or "its condition does not hold")
    return bench.plan(edit.edit)


#: How an edit of each kind is planned.
PLANNERS: dict[type, Callable[[Workbench, Any], Plan]] = {
    Replace: _plan_replace,
    Wrap: _plan_wrap,
    Define: _plan_define,
    Register: _plan_register,
    Call: _plan_call,
    When: _plan_when,
    Rewrite: _plan_rewrite,
    Subclasses: plan_subclasses,
}


def _refuse_twice(bench: Workbench, current: Any, source: Any, edit: Edit) -> None:
    """An alias of what this patch has bound elsewhere needs no second wrapper."""
    if bench.bindings.is_made_by(current, bench.patch.name, source):
        raise NotNeeded(f"{edit.target} is another name for what this patch has bound already")


def _in_place(bench: Workbench, cls: type, new: type) -> Plan:
    plans = []
    for name, value in list(vars(new).items()):
        if name in NOT_TAKEN or (name == "__doc__" and value is None):
            continue
        site = Site(cls, name, is_attribute=True)
        bench.refuse_conflict(site, "replace")
        moved = transplanted(value, new, cls)
        build = functools.partial(_anyway, moved)
        plans.append(bench.layer(site, "replace", build, moved, made=moved is not value))

    def do() -> Done:
        done: list[Done] = []
        try:
            done.extend(plan() for plan in plans)
        except BaseException:
            for one in reversed(done):
                one.undo()
            raise
        return Done(lambda: [move for one in reversed(done) for move in one.undo()])

    return do


def _anyway(value: Any, below: Any) -> Any:
    return value

"""What a free function changed, found by comparing before and after."""

from __future__ import annotations

from typing import Any

from mx_autopatch.engine.binding import Site
from mx_autopatch.engine.late import namespace_of
from mx_autopatch.model import MISSING

#: Site, what was there and what is; MISSING for nothing.
Changes = list[tuple[Site, Any, Any]]
#: Container, whether its names are attributes, and what they were bound to.
Snapshot = list[tuple[Any, bool, dict[Any, Any]]]


def snapshot(module: Any, seen: set[int] | None = None) -> Snapshot:
    """The module's names, and those of its classes and registries, as they are now.

    Classes and registries of which the id is in ``seen`` are passed over; those that are
    not are added to it.
    """
    places: Snapshot = [(module, True, dict(vars(module)))]
    for value in list(vars(module).values()):
        if seen is not None:
            if id(value) in seen:
                continue
            seen.add(id(value))
        # Asking the value itself may run its code: torch.distributed.reduce_op warns.
        if issubclass(type(value), type):
            places.append((value, True, dict(vars(value))))
        entries = namespace_of(value).get("_module_dict")
        if isinstance(entries, dict):
            places.append((entries, False, dict(entries)))
    return places


def changes_since(before: Snapshot) -> Changes:
    """What has been bound, rebound or deleted since ``before``."""
    found: Changes = []
    for container, is_attribute, old in before:
        now = dict(vars(container)) if is_attribute else dict(container)
        for key in {**old, **now}:
            was, is_ = old.get(key, MISSING), now.get(key, MISSING)
            if was is not is_ and key not in ("__dict__", "__weakref__", "__abstractmethods__"):
                found.append((Site(container, key, is_attribute), was, is_))
    return found


def restore(changes: Changes) -> None:
    """Take changes back, save where other code has changed the place since."""
    for site, was, is_ in reversed(changes):
        if site.own() is is_:
            site.put(was)

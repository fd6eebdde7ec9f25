"""What a library's names stand for before and after code that changes it at will."""

from __future__ import annotations

import operator
import sys
import types
from collections.abc import Iterable
from typing import Any, NamedTuple

from mx_autopatch.model import MISSING

__all__ = ["Change", "Names", "listed"]

# What reading alone may add.
_INCIDENTAL = ("__annotations__", "__annotate_cache__", "__warningregistry__")


class Change(NamedTuple):
    """An attribute of a module or class that was bound, or bound anew; MISSING for none."""

    owner: Any
    owner_name: str
    attribute: str
    was: Any
    now: Any

    def take_back(self) -> None:
        """Bind the former value, unless other code has bound a third one since."""
        if vars(self.owner).get(self.attribute, MISSING) is not self.now:
            return
        if self.was is MISSING:
            delattr(self.owner, self.attribute)
        else:
            setattr(self.owner, self.attribute, self.was)


class Names:
    """What the names in these packages' modules, and in their classes, stand for now.

    Args:
        packages: Top-level names, ``("torch", "torch_npu")``. Modules of a class of their
            own (``torch.ops``) are passed over: they make up names as they are asked.
    """

    def __init__(self, packages: Iterable[str]) -> None:
        self._packages = frozenset(packages)
        self._modules = self._loaded()
        # By id, since a module or class may have many names.
        self._namespaces: dict[int, tuple[Any, str, dict[str, Any]]] = {}
        for name, module in self._modules.items():
            if type(module) is types.ModuleType:
                self._add(module, name)
        for _, name, namespace in list(self._namespaces.values()):
            for key, value in namespace.items():
                if issubclass(type(value), type):  # without a look at its __class__
                    self._add(value, f"{name}.{key}")

    def _loaded(self) -> dict[str, types.ModuleType]:
        return {
            name: module
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] in self._packages and isinstance(module, types.ModuleType)
        }

    def _add(self, owner: Any, name: str) -> None:
        if id(owner) not in self._namespaces:
            self._namespaces[id(owner)] = (owner, name, dict(vars(owner)))

    def changes(self) -> list[Change]:
        """What has been bound, bound anew or deleted since."""
        found = []
        for owner, name, before in self._namespaces.values():
            now = vars(owner)
            if len(now) == len(before) and all(map(operator.is_, now.values(), before.values())):
                continue
            for key in {**before, **now}:
                was, is_ = before.get(key, MISSING), now.get(key, MISSING)
                if was is not is_ and key not in _INCIDENTAL:
                    found.append(Change(owner, name, key, was, is_))
        return found

    def modules_replaced(self) -> dict[str, types.ModuleType]:
        """The former module of each name in ``sys.modules`` that stands for another now."""
        return {
            name: self._modules[name]
            for name, module in self._loaded().items()
            if self._modules.get(name, module) is not module
        }


def listed(changes: Iterable[Change]) -> str:
    """The names, one line for each owner: ``torch.cuda: Event, Stream``."""
    owners: dict[str, list[str]] = {}
    for change in changes:
        owners.setdefault(change.owner_name, []).append(change.attribute)
    return "\n".join(f"{name}: {', '.join(names)}" for name, names in owners.items())

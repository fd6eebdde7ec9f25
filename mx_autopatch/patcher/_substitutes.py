"""Units that change what an import finds: stubs, replaced modules, names that are added."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, Callable

from mx_autopatch.model import Call, Context, NotNeeded, Parent, Redirect, Stub
from mx_autopatch.patcher import _targets
from mx_autopatch.patcher._units import NO_MODULE, Unit, frozen


@dataclass(frozen=True)
class Replacement:
    """What answers for a module: another one, names of its own, or both."""

    base: str | None = None
    exports: dict[str, Any] = field(default_factory=dict)


class _ReplaceWith:
    @staticmethod
    def module(base: str | None = None, **exports: Any) -> Replacement:
        """For ``replace_import``: the module ``base``, or none, with these names in it."""
        return Replacement(base, exports)


replace_with = _ReplaceWith()


def stub(module: str) -> Unit:
    """Let ``module`` and what is below it be imported without being there."""
    reason = f"skip_import({module!r}) let it be imported; install it, or replace what uses it"
    return Unit(
        label=f"skip_import({module})",
        where=module,
        identity=("stub", module),
        edits=(*(Stub(name, reason) for name in _missing_parents(module)), Stub(module, reason)),
        reference=(units_of, {"make": stub, "arguments": [module]}),
    )


def replaced(module: str, base: str | None, exports: dict[str, Any]) -> Unit:
    """Let the module ``base`` answer for ``module``, with ``exports`` over what it has."""
    to = base if base and not exports else _made(module, base, exports)
    return Unit(
        label=f"replace_import({module})",
        where=module,
        identity=("replaced", module, base, frozen(exports)),
        edits=(
            *(Parent(name, child=module) for name in _missing_parents(module)),
            Redirect(module, to=to),
        ),
        reference=(units_of, {"make": replaced, "arguments": [module, base, exports]}),
    )


def injected(source: str, name: str, target: str) -> Unit:
    """Give the module ``target`` the ``name`` of the module ``source``, if it lacks it."""

    def inject(context: Context) -> None:
        namespace = vars(context.module)
        if name in namespace:
            raise NotNeeded(f"{target}.{name} is there already")
        try:
            found = getattr(import_module(source), name)
        except ImportError as error:
            raise LookupError(f"{NO_MODULE}: {error}") from error
        except AttributeError:
            raise LookupError(f"{source} has no {name!r}") from None
        if name in namespace:  # importing the source has put it there
            raise NotNeeded(f"{target}.{name} is there already")
        setattr(context.module, name, found)
        exported = namespace.get("__all__")
        if isinstance(exported, (list, tuple)) and name not in exported:
            context.module.__all__ = type(exported)([*exported, name])

    missing = _targets.missing_module(target)
    return Unit(
        label=f"inject_import({source}, {name}, {target})",
        where=target,
        identity=("injected", source, name, target),
        edits=(Call(target, inject, below=True),),
        missing={target: missing} if missing else {},
        reference=(units_of, {"make": injected, "arguments": [source, name, target]}),
    )


def units_of(make: Callable[..., Unit], arguments: list[Any]) -> list[Unit]:
    """One of these units, made in another process."""
    return [make(*arguments)]


def _missing_parents(module: str) -> list[str]:
    """The packages above ``module`` that are not there."""
    parts = module.split(".")
    names = [".".join(parts[:count]) for count in range(1, len(parts))]
    return [name for name in names if _targets.missing_module(name)]


def _made(module: str, base: str | None, exports: dict[str, Any]) -> str:
    """Register a module with these exports under a name of ours; return that name."""
    made = ModuleType(module, f"Put here by replace_import({module!r}).")
    vars(made).update(exports)
    vars(made)["__path__"] = []

    def __getattr__(name: str) -> Any:
        if base is not None and not (name.startswith("__") and name != "__all__"):
            return getattr(import_module(base), name)
        raise AttributeError(
            f"module {module!r} has no attribute {name!r}: it was put in the original's place "
            "by replace_import"
        )

    vars(made)["__getattr__"] = __getattr__
    name = f"{__name__}.made_{id(made):x}"
    sys.modules[name] = made
    return name

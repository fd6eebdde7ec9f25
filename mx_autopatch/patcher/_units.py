"""What the Patcher API hands to the engine: units, each of which is on or off as a whole."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Callable

from mx_autopatch.engine.binding import find_site
from mx_autopatch.errors import PatchError
from mx_autopatch.model import Call, Context, Edit, When
from mx_autopatch.patcher._targets import Target

#: How the reason begins where it is a module that is missing, not something in it.
NO_MODULE = "module cannot be imported"


@dataclass(frozen=True)
class Unit:
    """One patch, in the terms of the engine.

    Attributes:
        label: The name that messages and ``disable`` use.
        where: The module or package that it is for.
        identity: Units of equal identity are one: it is applied once.
        edits: What to change; empty if ``catalog`` names built-in patches instead.
        catalog: Built-in patches, looked up when the unit is applied.
        priority: Smaller is earlier, among what one module fires.
        warns: Whether a failure is told.
        quiet: Whether anything else is not.
        home: The module that the patch was written in.
        missing: Modules that cannot be found now -> why, of those that should be.
        checks: Tell before anything is imported that it is not for here.
        aliases: Targets of which it is no news that they need nothing.
        reference: A function and its arguments by which another process can make it again.
    """

    label: str
    where: str
    identity: Hashable
    edits: tuple[Edit, ...] = ()
    catalog: tuple[str, ...] = ()
    priority: int = 0
    warns: bool = True
    quiet: bool = False
    home: str = ""
    missing: dict[str, str] = field(default_factory=dict, hash=False)
    checks: tuple[Callable[[], bool], ...] = ()
    aliases: frozenset[str] = frozenset()
    reference: tuple[Callable[..., Any], dict[str, Any]] | None = field(
        default=None, hash=False, compare=False
    )


def frozen(value: Any) -> Hashable:
    """A stand-in for ``value`` that is equal for equal options."""
    if isinstance(value, dict):
        return tuple(sorted((str(key), frozen(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple, set)):
        return (type(value).__name__, *map(frozen, value))
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value  # type: ignore[no-any-return]


def calling(module: str, function: Callable[..., Any], options: dict[str, Any]) -> Call:
    """The edit of ``function(module, options)``, the form of a patch of the API 1.0."""

    def call(context: Context) -> None:
        try:
            function(context.module, options)
        except AttributeError as error:
            # How a patch function says that its target is not there.
            raise LookupError(str(error)) from error
        except ImportError as error:
            raise LookupError(f"{NO_MODULE}: {error}") from error
        except LookupError as error:
            raise PatchError(in_words(error)) from error  # a mistake, not a missing target

    return Call(module, call, below=True)


def called_with(check: Callable[..., Any], available: dict[str, Any]) -> Callable[[], bool]:
    """``check`` with those of the available arguments that it has parameters for."""

    def call() -> bool:
        wanted = inspect.signature(check).parameters
        try:
            return bool(check(**{name: available[name] for name in wanted if name in available}))
        except Exception as error:
            raise PatchError(f"its precheck failed: {in_words(error)}") from error

    return call


def in_words(error: BaseException) -> str:
    """An error of the user's code, with the line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({os.path.basename(f.filename)}:{f.lineno})" for f in last)
    return f"{type(error).__name__}: {error}{where}"


def conditional(edit: Edit, check: Callable[[], bool] | None) -> Edit:
    """``edit``, unless ``check`` says that it is not for here."""
    if check is None:
        return edit
    return When(edit=edit, condition=lambda context: check() or "its precheck is false")


def as_alias(edit: Edit, target: Target, check: Callable[[], bool] | None) -> Edit:
    """``edit``, made for another name of ``target``: only where that is another place."""

    def another_place(context: Context) -> Any:
        if check is not None and not check():
            return "its precheck is false"
        try:
            here, _ = find_site(edit.target, context.module)
        except LookupError as error:
            return f"no such alias: {error.args[0]}"
        module = sys.modules.get(target.module)
        if module is not None:
            try:
                there, _ = find_site(target.text, module)
            except LookupError:
                return True
            if here.container is there.container and here.key == there.key:
                return f"another name for {target.text}"
        return True

    return When(edit=edit, condition=another_place)

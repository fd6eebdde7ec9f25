"""Patches of single attributes and of registry entries."""

from __future__ import annotations

import contextlib
import difflib
import inspect
from typing import Any, Callable

from mx_autopatch.engine.binding import find_site
from mx_autopatch.errors import PatchError
from mx_autopatch.model import Context, Edit, Register, Replace, Wrap
from mx_autopatch.patcher import _targets
from mx_autopatch.patcher._base import BasePatch, Check, shown
from mx_autopatch.patcher._units import Unit, as_alias, called_with, conditional, frozen, in_words


class AtomicPatch(BasePatch):
    """One attribute, replaced or wrapped.

    Args:
        target: Its dotted path; where a mapping lies on the path, its key.
        replacement: What to put there, or the dotted path of that, looked up when it is
            needed. None: ``target_wrapper`` makes it.
        aliases: Other paths under which the target may have been copied. Copies in other
            modules are found without them; one that is no place of its own, or is not
            there, is no fault.
        precheck: Whether to apply it. Called when it would apply, with those of ``target``,
            ``replacement``, ``replacement_wrapper``, ``target_wrapper`` and ``aliases``
            that it has parameters for.
        runtime_check: Decides on the arguments of each call whether the replacement gets
            it, else the original. What the replacement raises is the caller's.
        replacement_wrapper: Makes what is bound of the replacement.
        target_wrapper: Makes what is bound of the original; not used beside a replacement.

    Raises:
        ValueError: neither replacement nor target_wrapper.
    """

    def __init__(
        self,
        target: str,
        replacement: Any = None,
        *,
        aliases: list[str] | None = None,
        precheck: Check | None = None,
        runtime_check: Check | None = None,
        replacement_wrapper: Callable[[Any], Any] | None = None,
        target_wrapper: Callable[[Any], Any] | None = None,
    ) -> None:
        if replacement is None and target_wrapper is None:
            raise ValueError(f"AtomicPatch({target!r}): give a replacement or a target_wrapper")
        self.target = target
        self.aliases = list(aliases or ())
        self.precheck, self.runtime_check = precheck, runtime_check
        self._replacement, self._target_wrapper = replacement, target_wrapper
        self._replacement_wrapper = replacement_wrapper
        #: What stood there, once it has been met.
        self.original: Any = None
        self._made: list[Any] = []
        self._units: list[Unit] = []
        self._decorator = self._decorate  # one object, by which the engine knows it

    @property
    def name(self) -> str:
        return self.target

    @property
    def replacement(self) -> Any:
        """The replacement; imported, if it was given as a path. None for a target_wrapper."""
        if isinstance(self._replacement, str):
            return _targets.resolve(self._replacement)
        return self._replacement

    def units(self) -> list[Unit]:
        """As of BasePatch. One and the same at each call, so that it applies once."""
        if not self._units:
            self._units = [self._unit()]
        return self._units

    def _unit(self) -> Unit:
        target = _targets.split(self.target)
        check = None if self.precheck is None else called_with(self.precheck, self._arguments())
        edits = [conditional(self._edit(target.text), check)]
        others = [_targets.split(alias).text for alias in self.aliases]
        edits += [as_alias(self._edit(other), target, check) for other in others]
        return Unit(
            label=self.target,
            where=target.module,
            identity=(
                *(self.target, frozen(self._replacement), self._replacement_wrapper),
                *(self._target_wrapper, self.runtime_check, self.precheck, tuple(self.aliases)),
            ),
            edits=tuple(edits),
            missing={target.module: target.missing} if target.missing else {},
            checks=(check,) if check is not None else (),
            aliases=frozenset(others),
            reference=(
                units_of_attribute,
                {
                    "runtime_check": self.runtime_check,
                    "precheck": self.precheck,
                    **self._arguments(),
                },
            ),
        )

    def _arguments(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "replacement": self._replacement,
            "replacement_wrapper": self._replacement_wrapper,
            "target_wrapper": self._target_wrapper,
            "aliases": self.aliases,
        }

    def _edit(self, target: str) -> Edit:
        if self._replacement is None:
            return Wrap(target, decorator=self._decorator, guard=self.runtime_check)
        return Replace(target, factory=self._make, guard=self.runtime_check)

    def _make(self, context: Context) -> Any:
        # Once, so that the target and its aliases hold one object.
        if not self._made:
            made = self.replacement
            if self._replacement_wrapper is not None:
                made = _carried_out("replacement_wrapper", self._replacement_wrapper, made)
            self._made.append(made)
            self._meet(context)
        return self._made[0]

    def _meet(self, context: Context) -> None:
        with contextlib.suppress(LookupError):
            self.original = find_site(_targets.split(self.target).text, context.module)[1]

    def _decorate(self, original: Any) -> Any:
        assert self._target_wrapper is not None
        if self.original is None:
            self.original = original
        return _carried_out("target_wrapper", self._target_wrapper, original)

    def get_info(self, show_diff: bool = False) -> str:
        original = self.original
        what = self._replacement if self._replacement is not None else self._target_wrapper
        text = f"{self.target}: {shown(original) or '(not seen yet)'} -> {shown(what)}"
        if show_diff and original is not None and not isinstance(what, str):
            text += _difference(original, what)
        return text


class RegistryPatch(BasePatch):
    """An entry of an mmcv or mmengine Registry.

    Args:
        registry: The registry's dotted path.
        module_cls: The class or function to register.
        name: The entry's name; by default the class's.
        force: Whether an entry that is there already gives way.
        precheck: As of AtomicPatch, with ``registry``, ``module_cls``, ``name``, ``force``
            and ``module_factory``.
        module_factory: Makes the class, when the registry is there; in place of module_cls.

    Raises:
        ValueError: neither a class nor a factory, or a factory without a name.
    """

    def __init__(
        self,
        registry: str,
        module_cls: Any = None,
        *,
        name: str | None = None,
        force: bool = True,
        precheck: Check | None = None,
        module_factory: Callable[[], Any] | None = None,
    ) -> None:
        if module_cls is None and module_factory is None:
            raise ValueError(f"RegistryPatch({registry!r}): give module_cls or module_factory")
        if module_cls is None and name is None:
            raise ValueError(f"RegistryPatch({registry!r}): a module_factory needs a name")
        self.registry, self.module_cls, self.module_factory = registry, module_cls, module_factory
        self.register_name = name or module_cls.__name__
        self.force, self.precheck = force, precheck
        self._units: list[Unit] = []

    @property
    def name(self) -> str:
        return f"{self.registry}.{self.register_name}"

    def units(self) -> list[Unit]:
        if not self._units:
            self._units = [self._unit()]
        return self._units

    def _unit(self) -> Unit:
        target = _targets.split(self.registry)
        available = {
            "registry": self.registry,
            "module_cls": self.module_cls,
            "name": self.register_name,
            "force": self.force,
            "module_factory": self.module_factory,
        }
        check = None if self.precheck is None else called_with(self.precheck, available)
        edit = Register(target.text, factory=self._make, name=self.register_name, force=self.force)
        return Unit(
            label=self.name,
            where=target.module,
            identity=(self.name, self.module_cls, self.module_factory, self.force, self.precheck),
            edits=(conditional(edit, check),),
            missing={target.module: target.missing} if target.missing else {},
            checks=(check,) if check is not None else (),
            reference=(units_of_entry, {"precheck": self.precheck, **available}),
        )

    def _make(self, context: Context) -> Any:
        if self.module_factory is None:
            return self.module_cls
        return _carried_out("module_factory", self.module_factory)

    def get_info(self, show_diff: bool = False) -> str:
        return f"{self.registry} <- {self.register_name} ({shown(self.module_cls) or 'a factory'})"


def _carried_out(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the user's function; what it raises is a failure, not a missing target."""
    try:
        return function(*arguments)
    except Exception as error:
        raise PatchError(f"its {name} failed: {in_words(error)}") from error


def units_of_attribute(**arguments: Any) -> list[Unit]:
    """The units of an AtomicPatch, made in another process."""
    return AtomicPatch(**arguments).units()


def units_of_entry(**arguments: Any) -> list[Unit]:
    """The units of a RegistryPatch, made in another process."""
    return RegistryPatch(**arguments).units()


def _difference(original: Any, new: Any) -> str:
    try:
        was, is_ = (inspect.getsource(inspect.unwrap(f)).splitlines() for f in (original, new))
    except (OSError, TypeError):
        return ""
    names = f"original {shown(original)}", f"replacement {shown(new)}"
    return "".join(f"\n{line}" for line in difflib.unified_diff(was, is_, *names, lineterm=""))

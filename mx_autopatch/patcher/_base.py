"""What every patch of the Patcher API is, patch functions and groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Callable

from mx_autopatch.errors import PatchError
from mx_autopatch.patcher import _targets
from mx_autopatch.patcher._ledger import current, ledger
from mx_autopatch.patcher._units import Unit, calling, frozen
from mx_autopatch.patcher.reporting import PatchResult

Options = dict[str, Any]
Check = Callable[..., bool]


class BasePatch(ABC):
    """What every patch has. Instances apply by themselves, or through a Patcher."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that messages and ``disable`` use."""

    @property
    def module(self) -> str:
        """The package that is patched."""
        return self.name.partition(".")[0] if "." in self.name else ""

    def units(self) -> list[Unit]:
        """What to apply. A class that has none of these overrides :meth:`apply`."""
        raise NotImplementedError(f"{type(self).__name__} defines neither units() nor apply()")

    def apply(self) -> PatchResult:
        """Apply the patch: now where its module is loaded, else when it is imported."""
        return ledger().result(self.name, self.module, self.units())

    @property
    def is_applied(self) -> bool:
        """Whether something of it is in force."""
        books = current()
        return books is not None and books.is_in_force(self.units())

    def get_info(self, show_diff: bool = False) -> str:
        """The patch in a line, with the difference in source below it if asked for."""
        return self.name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


class Patch(BasePatch):
    """A patch function (API 1.0), or the base of groups of patches (API 2.0).

    ``Patch(function, options)`` is the patch that ``function(module, options)`` carries
    out on the module that it is added for. Everything that the function assigns, in the
    module and below it, is found and can be taken back.

    A subclass defines ``patches(options)``, which returns the patches of a group; those
    that one module fires apply whole or not at all. Its ``name`` is the class's by
    default; ``conflicts_with`` names groups that cannot be on at the same time, and with
    ``apply_before_collect`` it is applied before ``patches`` of the later ones is called.

    Args:
        func: The patch function.
        options: Passed to it.
        priority: Smaller is earlier, within a module.
        patch_failure_warning: Whether to say that the patch could not be applied.
    """

    name: Any = None
    apply_before_collect: bool = False
    conflicts_with: Any = ()

    def __init__(
        self,
        func: Callable[..., Any] | None = None,
        options: Options | None = None,
        priority: int = 0,
        patch_failure_warning: bool = True,
    ) -> None:
        self.func: Any = func
        self.options = {} if options is None else options
        self.priority = priority
        self.patch_failure_warning = patch_failure_warning
        self._units: dict[str, list[Unit]] = {}
        #: The module it has been added for (API 1.0).
        self.target_module = getattr(type(self), "target_module", "")
        if type(self) is Patch:
            if not callable(func):
                raise TypeError(f"Patch(func): expected a function, got {func!r}")
            self.name = name_of(func)
        elif func is not None and not isinstance(func, dict):
            raise TypeError(f"{type(self).__name__}() takes no patch function")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("name") is None:
            cls.name = cls.__name__

    @classmethod
    def patches(cls, options: Options | None = None) -> list[BasePatch]:
        """The patches of the group. Called when it is applied."""
        raise NotImplementedError(f"{cls.__name__} has to define patches(options)")

    @classmethod
    def apply_all(cls, options: Options | None = None) -> list[PatchResult]:
        """Apply the group; one result a patch."""
        units = cls.group(options)
        ledger().apply(units)
        results = []
        for patch in cls.patches(options):
            own = frozenset(edit.target for unit in patch.units() for edit in unit.edits)
            among = units if own else patch.units()
            results.append(ledger().result(patch.name, patch.module, among, own))
        return results

    @classmethod
    def group(
        cls,
        options: Options | None = None,
        without: frozenset[str] = frozenset(),
        patches: list[BasePatch] | None = None,
    ) -> list[Unit]:
        """The units of the group.

        Args:
            without: Names; patches that have one of them are left out.
            patches: What ``patches(options)`` has returned, if it has been called.
        """
        all_of_it = list(cls.patches(options)) if patches is None else patches
        without = without & {patch.name for patch in all_of_it}
        units = [u for patch in all_of_it if patch.name not in without for u in patch.units()]
        own = [unit for unit in units if unit.edits]
        if not own:
            return units
        reference = {"group": cls, "options": options, "without": sorted(without)}
        whole = Unit(
            label=cls.name,
            where=getattr(cls, "target_module", "") or own[0].where,
            identity=(cls, frozen(options or {}), without),
            edits=tuple(edit for unit in own for edit in unit.edits),
            home=cls.__module__,
            missing={name: why for unit in own for name, why in unit.missing.items()},
            checks=tuple(check for unit in own for check in unit.checks),
            aliases=frozenset().union(*(unit.aliases for unit in own)),
            reference=(units_of_group, reference),
        )
        return [whole, *(unit for unit in units if not unit.edits)]

    def units(self, module: str = "") -> list[Unit]:
        """As of BasePatch; ``module`` is what a patch function is added for."""
        if type(self) is not Patch:
            return self.group(self.options or None)
        predefined = getattr(self.func, "predefined", None)
        if predefined is not None:
            found: list[Unit] = predefined.units_of(self.name, self.options)
            return found
        module = module or self.target_module
        if not module:
            raise PatchError(
                f"Patch({self.name}) has not been added for a module: use "
                f"add_module_patch(module, patch), or LegacyPatch({self.name}, target_module=...)"
            )
        # Once for a module: what the function does to its options makes it no other patch.
        if module not in self._units:
            self._units[module] = [self._unit(module)]
        return self._units[module]

    def _unit(self, module: str) -> Unit:
        missing = _targets.missing_module(module)
        return Unit(
            label=self.name,
            where=module,
            identity=(self.func, module, frozen(self.options)),
            edits=(calling(module, self.func, self.options),),
            priority=self.priority,
            warns=self.patch_failure_warning,
            home=getattr(self.func, "__module__", ""),
            missing={module: missing} if missing else {},
            reference=(
                units_of_function,
                {"func": self.func, "options": self.options, "module": module},
            ),
        )

    @property
    def is_applied(self) -> bool:
        """Whether something of it is in force, in any module that it has been added for."""
        books, units = current(), [unit for made in self._units.values() for unit in made]
        if type(self) is not Patch or hasattr(self.func, "predefined"):
            units = self.units()
        return books is not None and books.is_in_force(units)

    @property
    def module(self) -> str:
        return self.target_module

    def __lt__(self, other: Patch) -> bool:
        return self.priority < other.priority

    def __iter__(self) -> Iterator[BasePatch]:
        return iter(self.patches(self.options or None))


class LegacyPatch(BasePatch):
    """A patch function together with the module that it is for.

    Raises:
        ValueError: no target_module.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        options: Options | None = None,
        target_module: str | None = None,
    ) -> None:
        if target_module is None:
            raise ValueError(f"LegacyPatch({name_of(func)}): give target_module='package.module'")
        self.func, self.options, self.target_module = func, options or {}, target_module
        self._patch = Patch(func, self.options)
        self._patch.name = getattr(func, "__patch_name__", None) or self._patch.name

    @property
    def name(self) -> str:
        name: str = self._patch.name
        return name

    @property
    def module(self) -> str:
        return self.target_module

    def units(self) -> list[Unit]:
        return self._patch.units(self.target_module)


def name_of(function: Any) -> str:
    return getattr(function, "__name__", None) or type(function).__name__


def shown(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return getattr(value, "__qualname__", None) or type(value).__name__


def units_of_group(group: type[Patch], options: Options | None, without: list[str]) -> list[Unit]:
    """The units of a group, made in another process."""
    return group.group(options, frozenset(without))


def units_of_function(func: Callable[..., Any], options: Options, module: str) -> list[Unit]:
    """The units of a patch function, made in another process."""
    return Patch(func, options).units(module)

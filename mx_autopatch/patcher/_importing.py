"""What a patcher does to imports. It takes effect at the call, before ``apply()``."""

from __future__ import annotations

import sys
from typing import Any, TypeVar

from mx_autopatch.patcher import _substitutes
from mx_autopatch.patcher._substitutes import Replacement
from mx_autopatch.patcher._units import Unit
from mx_autopatch.patcher.patcher_logger import patcher_logger

_Self = TypeVar("_Self", bound="Importing")


class Importing:
    """The part of :class:`Patcher` that is about imports."""

    def __init__(self) -> None:
        self._imports: list[Unit] = []

    def _hold_own(self, unit: Unit) -> None:
        """Have ``unit`` in force until the patcher is taken back."""
        raise NotImplementedError

    def skip_import(self: _Self, *module_paths: str) -> _Self:
        """Let modules be imported that are not there; using something of theirs raises."""
        for module in module_paths:
            self._hold_import(_substitutes.stub(module))
        return self

    def replace_import(
        self: _Self,
        module_path: str,
        replacement: Any = None,
        *,
        base_module: str | None = None,
        exports: dict[str, Any] | None = None,
        **attrs: Any,
    ) -> _Self:
        """Let another module answer for ``module_path`` when that is imported.

        Args:
            replacement: The other module's name, or what ``replace_with.module`` returned.
            base_module: The other module's name, in another spelling.
            exports: Names to put over those of the other module, or in an empty one.
            attrs: More of them.

        Raises:
            ValueError: two modules, or one export twice.
        """
        spec = replacement if isinstance(replacement, Replacement) else Replacement(replacement)
        if spec.base is not None and base_module is not None:
            raise ValueError(f"replace_import({module_path!r}): two modules are given to answer")
        twice = set(exports or ()) & set(attrs)
        if twice:
            raise ValueError(f"replace_import({module_path!r}): given twice: {sorted(twice)}")
        given = {**spec.exports, **(exports or {}), **attrs}
        base = spec.base or base_module
        self._hold_import(_substitutes.replaced(module_path, base, given))
        return self

    def inject_import(
        self: _Self, source_module: str, class_name: str, target_module: str
    ) -> _Self:
        """Give ``target_module`` a name of ``source_module`` that it should have imported."""
        self._hold_import(_substitutes.injected(source_module, class_name, target_module))
        return self

    def _hold_import(self, unit: Unit) -> None:
        if unit.identity[0] != "injected" and unit.where in sys.modules:  # type: ignore[index]
            patcher_logger.warning(
                f"{unit.label}: {unit.where} has been imported already; call this earlier"
            )
            return
        self._imports.append(unit)
        self._hold_own(unit)

"""Names that a replacement function needs, imported when it is first called."""

from __future__ import annotations

import functools
import types
from importlib import import_module
from typing import Any, Callable, Union

from mx_autopatch.errors import PatchError
from mx_autopatch.patcher._targets import resolve
from mx_autopatch.patcher.patcher_logger import patcher_logger

Spec = Union[str, tuple[str, ...]]
Decorators = list[tuple[str, dict[str, Any]]]


def with_imports(
    *import_specs: Spec, apply_decorators: Decorators | None = None
) -> Callable[[Any], Any]:
    """Let a function use names that are imported when it is first called.

    Args:
        import_specs: ``"math"``: the module, under the last part of its name.
            ``("torch", "sin", "cos")``: names of a module. ``("torch", "sin", "sine")``,
            where torch has no ``sine``: a name under an alias. ``"@expression"``: a
            decorator, evaluated among these names and put round the function.
        apply_decorators: Pairs of a decorator's dotted path and its keyword arguments;
            without arguments it is put round the function as it is.

    The names are the function's alone: those of the module that it stands in are not
    changed. A module or name that is not there is warned of, and is a NameError where the
    function uses it. It goes below ``@staticmethod`` and ``@classmethod`` or above.

    Raises:
        PatchError: at the first call, if a decorator cannot be had.
    """
    expressions = [s[1:] for s in import_specs if isinstance(s, str) and s.startswith("@")]
    specs = [s for s in import_specs if not (isinstance(s, str) and s.startswith("@"))]

    def decorate(given: Any) -> Any:
        if isinstance(given, (staticmethod, classmethod)):
            return type(given)(decorate(given.__func__))
        # A second with_imports on one function adds to the first.
        inner: _Imported = getattr(given, "_with_imports", None) or _Imported(given)
        imported = inner.plus(specs, expressions, apply_decorators or [])

        @functools.wraps(inner.function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return imported.get()(*args, **kwargs)

        wrapper._with_imports = imported  # type: ignore[attr-defined]
        wrapper._with_imports_decorated = True  # type: ignore[attr-defined]
        return wrapper

    return decorate


class _Imported:
    """A function and what it needs; made whole once."""

    def __init__(
        self,
        function: types.FunctionType,
        specs: tuple[Spec, ...] = (),
        expressions: tuple[str, ...] = (),
        decorators: tuple[Any, ...] = (),
    ) -> None:
        self.function, self._specs = function, specs
        self._expressions, self._decorators = expressions, decorators
        self._made: Callable[..., Any] | None = None

    def plus(self, specs: list[Spec], expressions: list[str], decorators: Decorators) -> _Imported:
        return _Imported(
            self.function,
            (*self._specs, *specs),
            (*expressions, *self._expressions),  # the upper decorator is the outer one
            (*self._decorators, *decorators),
        )

    def get(self) -> Callable[..., Any]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def _make(self) -> Callable[..., Any]:
        old = self.function
        names = dict(old.__globals__)
        for spec in self._specs:
            names.update(self._names(spec))
        made: Any = types.FunctionType(
            old.__code__, names, old.__name__, old.__defaults__, old.__closure__
        )
        made.__kwdefaults__ = old.__kwdefaults__
        functools.update_wrapper(made, old)
        del made.__wrapped__
        for expression in reversed(self._expressions):
            try:
                made = eval(expression, names)(made)
            except Exception as error:
                raise self._fault(f"@{expression}", error) from error
        for path, arguments in self._decorators:
            try:
                decorator = resolve(path)
                made = decorator(**arguments)(made) if arguments else decorator(made)
            except Exception as error:
                raise self._fault(path, error) from error
        return made  # type: ignore[no-any-return]

    def _names(self, spec: Spec) -> dict[str, Any]:
        path, names = (spec, ()) if isinstance(spec, str) else (spec[0], tuple(spec[1:]))
        try:
            module = import_module(path)
        except ImportError as error:
            self._warn(f"{path} cannot be imported: {error}")
            return {}
        if not names:
            return {path.rpartition(".")[2]: module}
        if len(names) == 2 and hasattr(module, names[0]) and not hasattr(module, names[1]):
            return {names[1]: getattr(module, names[0])}
        for name in names:
            if not hasattr(module, name):
                self._warn(f"{path} has no {name!r}")
        return {name: getattr(module, name) for name in names if hasattr(module, name)}

    def _warn(self, text: str) -> None:
        patcher_logger.warning(f"with_imports on {self.function.__qualname__}: {text}")

    def _fault(self, what: str, error: Exception) -> PatchError:
        return PatchError(
            f"with_imports on {self.function.__qualname__}: decorator {what}: "
            f"{type(error).__name__}: {error}"
        )

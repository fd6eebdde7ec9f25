"""What is bound in place of a target: replacements, guarded ones and wrappers.

A Python function is wrapped by another Python function, anything else by wrapt.
Measured with torch 2.13: dynamo looks through a wrapt proxy to ``__wrapped__`` and
compiles the *original* into the graph without a word, so a patch would be off in
compiled code; a plain function it traces.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
from typing import Any, Callable

from mx_autopatch.engine.dispatch import Complain, dispatching
from mx_autopatch.errors import PatchError
from mx_autopatch.model import MISSING


def replacing(
    new: Any, guard: Callable[..., bool] | None, complain: Complain
) -> Callable[[Any], Any]:
    """A layer that puts ``new`` in place of what lies below, or beside it with a guard."""
    if guard is None:
        return lambda below: in_descriptor(below, lambda function: new, new)
    if not callable(new):
        raise PatchError("a guard needs a callable replacement")
    return lambda below: in_descriptor(
        below, lambda function: _guarded(function, new, guard, complain)
    )


def wrapping(wrapper: Callable[..., Any], in_class: bool) -> Callable[[Any], Any]:
    """A layer that calls ``wrapper(wrapped, instance, args, kwargs)``."""

    def build(below: Any) -> Any:
        method = in_class and not isinstance(below, staticmethod)
        return in_descriptor(below, lambda function: _wrapped(function, wrapper, method))

    return build


def decorating(
    decorator: Callable[[Any], Any], guard: Callable[..., bool] | None, complain: Complain
) -> Callable[[Any], Any]:
    """A layer that is what ``decorator`` makes of what lies below; of each call, with a guard."""

    def make(function: Any) -> Any:
        made = decorator(function)
        return made if guard is None else _guarded(function, made, guard, complain)

    return lambda below: in_descriptor(below, make)


def wrapping_construction(cls: type, wrapper: Callable[..., Any]) -> Callable[[Any], Any]:
    """A layer for ``cls.__init__`` that calls ``wrapper`` where ``cls`` is called.

    A proxy in the place of the class would break the pickles of its objects (the class
    of a pickle must be a type) and be gone round by names copied earlier. Subclasses
    are constructed as before.
    """

    def build(below: Any) -> Any:
        def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:
            if type(self) is not cls:
                below(self, *args, **kwargs)
                return

            def construct(*args: Any, **kwargs: Any) -> Any:
                below(self, *args, **kwargs)
                return self

            if wrapper(construct, None, args, kwargs) is not self:
                raise TypeError(
                    f"the wrapper of class {cls.__qualname__} must return what wrapped(...) gave it"
                )

        return _resemble(__init__, below)

    return build


def in_descriptor(below: Any, make: Callable[[Any], Any], given: Any = MISSING) -> Any:
    """Make the new object and put it into the kind of descriptor that ``below`` is."""
    if isinstance(given, (staticmethod, classmethod, property, functools.cached_property)):
        return given
    if isinstance(below, (staticmethod, classmethod)):
        return type(below)(make(below.__func__))
    if isinstance(below, property):
        return type(below)(make(below.fget), below.fset, below.fdel, below.__doc__)
    if isinstance(below, functools.cached_property):
        new = functools.cached_property(make(below.func))
        if below.attrname is not None:
            # Python calls this only while a class body executes.
            new.__set_name__(object, below.attrname)
        return new
    return make(None if below is MISSING else below)


def _guarded(
    original: Any, replacement: Any, guard: Callable[..., bool], complain: Complain
) -> Any:
    if not callable(original):
        raise PatchError(f"a guard needs a callable target, not {type(original).__name__}")

    return _resemble(dispatching(original, replacement, guard, complain), original)


def _wrapped(original: Any, wrapper: Callable[..., Any], method: bool) -> Any:
    if not callable(original):
        raise PatchError(f"only a callable can be wrapped, not {type(original).__name__}")
    flags = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    code = getattr(original, "__code__", None)
    is_class = isinstance(original, type)
    routine = inspect.isroutine(original) and not is_class
    # Classes and callable objects keep their type, generators their flags, behind a proxy.
    if not routine or (code is not None and code.co_flags & flags):
        return _proxy(original, wrapper)
    if method:

        def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            # Bound by its descriptor: dynamo cannot trace the making of a MethodType.
            return wrapper(original.__get__(self, type(self)), self, args, kwargs)
    else:

        def call(*args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
            return wrapper(original, None, args, kwargs)

    return _resemble(call, original)


def _resemble(function: Any, original: Any) -> Any:
    """Give ``function`` the original's name, signature and attributes.

    Its pickle is then the original's. functools.update_wrapper would copy dynamo's
    markers too, by which compiled code bypasses the wrapper (pytorch#172732).
    """
    attributes = getattr(original, "__dict__", {})
    kept = {k: v for k, v in attributes.items() if not k.startswith("_torchdynamo")}
    function.__dict__.update(kept)
    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        value = getattr(original, name, None)
        if isinstance(value, str):
            setattr(function, name, value)
    function.__wrapped__ = original  # inspect.signature follows it
    return function


def _proxy(original: Any, wrapper: Callable[..., Any]) -> Any:
    import wrapt

    class Wrapper(wrapt.FunctionWrapper):  # type: ignore[type-arg]
        # Pickles and copies are those of the original: a function by name, an object by
        # its state (wrapt#158: proxies refuse both).
        def __reduce_ex__(self, protocol: Any) -> Any:
            name = getattr(self.__wrapped__, "__qualname__", None)
            return name or self.__wrapped__.__reduce_ex__(protocol)

        def __copy__(self) -> Any:
            made = copy.copy(self.__wrapped__)
            return self if made is self.__wrapped__ else made

        def __deepcopy__(self, memo: Any) -> Any:
            made = copy.deepcopy(self.__wrapped__, memo)
            return self if made is self.__wrapped__ else made

    return Wrapper(original, wrapper)


class Adoption:
    """A replacement function under the original's name, for as long as it is bound.

    Pickle stores a function as module and qualname; under its own it could be read
    only where the patch file can be imported.
    """

    def __init__(self, function: Any, original: Any) -> None:
        self._function: Any = None
        names = ("__module__", "__qualname__", "__name__")
        plain = isinstance(function, types.FunctionType) and not hasattr(
            function, "_mx_autopatch_adopted"
        )
        inner = getattr(original, "__func__", original)
        given = {name: getattr(inner, name, None) for name in names}
        if plain and all(isinstance(value, str) for value in given.values()):
            self._function = function
            self._own = {name: getattr(function, name) for name in names}
            for name, value in given.items():
                setattr(function, name, value)
            function._mx_autopatch_adopted = True

    def undo(self) -> None:
        """Give the function its own names back."""
        if self._function is not None:
            for name, value in self._own.items():
                setattr(self._function, name, value)
            del self._function._mx_autopatch_adopted
            self._function = None

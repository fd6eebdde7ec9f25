"""A guarded call with the original's own parameters.

``def dispatch(*args, **kwargs)`` packs and unpacks every argument three times, which costs
four times what the rest does. Where the parameters are known, a function with the same ones
is compiled, which passes each on by its name.
"""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Iterator
from typing import Any, Callable

from mx_autopatch.model import MISSING

Complain = Callable[[BaseException], None]

_SOURCE = """
def make(_mx_guard, _mx_new, _mx_old, _mx_complain, _mx_Exception):
    def {name}({parameters}):
        # Only the guard is inside the try: what the replacement raises is the caller's.
        try:
            _mx_chosen = _mx_guard({guard})
        except _mx_Exception as _mx_error:
            _mx_complain(_mx_error)
            _mx_chosen = False
        if _mx_chosen:
            return _mx_new({new})
        return _mx_old({old})
    return {name}
"""

# By these a function reads its variables without naming them.
_LOOKING = {"locals", "vars", "eval", "exec", "dir", "_getframe", "currentframe"}


def dispatching(
    original: Any, replacement: Any, guard: Callable[..., bool], complain: Complain
) -> Any:
    """A function that calls ``replacement`` where ``guard`` is true, else ``original``."""
    made = _with_parameters(original, replacement, guard, complain)
    if made is not None:
        return made

    def dispatch(*args: Any, **kwargs: Any) -> Any:
        # Only the guard is inside the try: what the replacement raises is the caller's.
        try:
            chosen = guard(*args, **kwargs)
        except Exception as error:
            complain(error)
            chosen = False
        return replacement(*args, **kwargs) if chosen else original(*args, **kwargs)

    return dispatch


class _Parameters:
    """The parameters of a Python function, as its code has them."""

    def __init__(self, function: types.FunctionType) -> None:
        code = function.__code__
        names = iter(code.co_varnames)
        self.positional = [next(names) for _ in range(code.co_argcount)]
        self.keyword = [next(names) for _ in range(code.co_kwonlyargcount)]
        self.rest = next(names) if code.co_flags & inspect.CO_VARARGS else ""
        self.more = next(names) if code.co_flags & inspect.CO_VARKEYWORDS else ""
        self.count_positional_only = code.co_posonlyargcount
        self.defaults = dict(function.__kwdefaults__ or {})
        defaults = function.__defaults__ or ()
        self.defaults.update(zip(self.positional[len(self.positional) - len(defaults) :], defaults))
        self.uses_rest = bool(self.rest) and _reads(code, self.rest)
        self.uses_more = bool(self.more) and _reads(code, self.more)

    def declared(self) -> str:
        """As written in a def statement; None stands for every default value."""

        def written(names: list[str]) -> list[str]:
            return [f"{name}=None" if name in self.defaults else name for name in names]

        parts = written(self.positional)
        if self.count_positional_only:
            parts.insert(self.count_positional_only, "/")
        if self.rest:
            parts.append(f"*{self.rest}")
        elif self.keyword:
            parts.append("*")
        parts += written(self.keyword)
        if self.more:
            parts.append(f"**{self.more}")
        return ", ".join(parts)


def _reads(code: types.CodeType, name: str) -> bool:
    if name in code.co_cellvars or _LOOKING & set(code.co_names):
        return True
    # An instruction of Python 3.13 may name two.
    return any(
        i.argval == name or (isinstance(i.argval, tuple) and name in i.argval)
        for i in dis.get_instructions(code)
    )


def _passed(own: _Parameters, to: _Parameters) -> str | None:
    """How a function with parameters ``own`` passes all of them on.

    None where that is not the same as passing on what the caller gave, as the caller gave
    it: where the one called would see defaults among its ``*args`` or ``**kwargs``, has
    other defaults or none, or has the parameters in another order.
    """
    if own is to:
        keywords = [f"{name}={name}" for name in own.keyword]
        tail = [f"*{own.rest}"] * bool(own.rest) + keywords + [f"**{own.more}"] * bool(own.more)
        return ", ".join([*own.positional, *tail])
    shared = set(own.defaults) & {*to.positional, *to.keyword}
    if any(not _equal(own.defaults.get(n, MISSING), to.defaults.get(n, MISSING)) for n in shared):
        return None
    by_place, by_name = [], []
    for index, name in enumerate(own.positional):
        if index < len(to.positional):
            if to.positional[index] != name and name in (*to.positional, *to.keyword):
                return None
            by_place.append(name)
        elif name in to.keyword:
            by_name.append(name)
        elif to.uses_rest or to.uses_more or not (to.rest and to.more):
            return None
    for name in own.keyword:
        if name in to.keyword or name in to.positional[len(by_place) :]:
            by_name.append(name)
        elif to.uses_more or not to.more:
            return None
    parts = list(by_place)
    if own.rest and (to.uses_rest or len(to.positional) > len(own.positional) or not to.rest):
        if len(by_place) < len(own.positional):
            return None
        parts.append(f"*{own.rest}")
    parts += [f"{name}={name}" for name in by_name]
    if own.more:
        parts.append(f"**{own.more}")
    return ", ".join(parts)


def _equal(one: Any, other: Any) -> bool:
    plain = isinstance(one, (bool, int, float, str, tuple)) and type(one) is type(other)
    return one is other or (plain and repr(one) == repr(other))


def _arguments(own: _Parameters, *called: Any) -> Iterator[str | None]:
    for function in called:
        plain = isinstance(function, types.FunctionType)
        yield _passed(own, _Parameters(function)) if plain else None


def _with_parameters(
    original: Any, replacement: Any, guard: Callable[..., bool], complain: Complain
) -> Any:
    if not isinstance(original, types.FunctionType):
        return None
    own = _Parameters(original)
    guards, new = _arguments(own, guard, replacement)
    names = [*own.positional, *own.keyword, own.rest, own.more]
    if guards is None or new is None or any(name.startswith("_mx_") for name in names):
        return None
    code = original.__code__
    name = code.co_name if code.co_name.isidentifier() else "_mx_dispatch"
    source = _SOURCE.format(
        name=name,
        parameters=own.declared(),
        guard=guards,
        new=new,
        old=_passed(own, own),
    )
    scope: dict[str, Any] = {}
    exec(compile(source, f"<guard of {code.co_name}>", "exec"), globals(), scope)
    made = scope["make"](guard, replacement, original, complain, Exception)
    # The names that Python 3.9 and later ones show in a TypeError.
    made.__code__ = made.__code__.replace(co_name=code.co_name)
    made.__qualname__ = original.__qualname__
    made.__defaults__ = original.__defaults__
    made.__kwdefaults__ = original.__kwdefaults__ and dict(original.__kwdefaults__)
    return made

"""Functions compiled anew from their own source, with some of it changed."""

from __future__ import annotations
import __future__

import ast
import builtins
import copy
import dis
import functools
import inspect
import re
import types
from typing import Any, Callable

from mx_autopatch.engine.sourcetext import SourceText, changed
from mx_autopatch.engine.syntax import Pattern
from mx_autopatch.engine.transplant import copy_function
from mx_autopatch.engine.wrapping import in_descriptor
from mx_autopatch.errors import PatchError
from mx_autopatch.model import MISSING, Rewrite

_FUTURE = 0
for _name in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _name).compiler_flag


def rewriting(edit: Rewrite, patch: str, name: str) -> Callable[[Any], Any]:
    """A layer that makes what lies below anew, with the function in it rewritten.

    Of the same object below it makes the same object: others may put their layers on top
    as often as they like.

    Raises:
        LookupError: (the layer) the pattern is not there as often as it should be.
        PatchError: (the layer) the function cannot be rewritten.
    """
    pattern = Pattern(edit.find, edit.replace)
    last: list[Any] = []

    def rewritten(function: Any) -> Any:
        return _rewritten(function, edit, pattern, patch)

    def build(below: Any) -> Any:
        if not last or last[0] is not below:
            last[:] = below, in_descriptor(below, lambda f: _remade(f, name, rewritten))
        return last[1]

    return build


# -- decorators --------------------------------------------------------------------


def _remade(value: Any, name: str, make: Callable[[Any], Any]) -> Any:
    """``value`` with the function below its decorators made anew; they do not run again."""
    if isinstance(value, (staticmethod, classmethod, property)):
        return in_descriptor(value, lambda function: _remade(function, name, make))
    if type(value) is type(functools.lru_cache(int)) and hasattr(value, "cache_parameters"):
        below = value.__wrapped__
        made = functools.lru_cache(**value.cache_parameters())(_remade(below, name, make))
        return _with_attributes(made, value, below, made.__wrapped__)
    if isinstance(value, functools.partial):
        return type(value)(_remade(value.func, name, make), *value.args, **value.keywords)
    if not isinstance(value, types.FunctionType):
        raise PatchError(f"a {type(value).__name__} has no Python function that can be rewritten")
    below = _below(value, name)
    if below is MISSING:
        return make(value)
    new = _remade(below, name, make)
    cells = tuple(
        types.CellType(new) if _content(cell) is below else cell for cell in value.__closure__ or ()
    )
    if cells == (value.__closure__ or ()):
        raise PatchError(
            f"the decorator {value.__code__.co_name!r} ({value.__code__.co_filename}:"
            f"{value.__code__.co_firstlineno}) does not hold the function in its closure, "
            "where it could be exchanged"
        )
    return _with_attributes(copy_function(value, closure=cells), value, below, new)


def _below(function: Any, name: str) -> Any:
    """What a decorator's function calls; MISSING if the function is no decorator's."""
    wrapped = vars(function).get("__wrapped__", MISSING)
    if wrapped is not MISSING or function.__code__.co_name == name:
        return wrapped
    # Without functools.wraps the function is known by the name it was defined under.
    held = [_content(cell) for cell in function.__closure__ or ()]
    named = [f for f in held if getattr(getattr(f, "__code__", None), "co_name", None) == name]
    return named[0] if len(named) == 1 else MISSING


def _with_attributes(made: Any, value: Any, below: Any, new: Any) -> Any:
    for key, kept in vars(value).items():
        vars(made)[key] = new if kept is below else kept
    return made


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # an empty cell
        return MISSING


# -- one function ------------------------------------------------------------------


def _rewritten(function: Any, edit: Rewrite, pattern: Pattern, patch: str) -> Any:
    code = function.__code__
    if code.co_name == "<lambda>":
        raise PatchError("a lambda cannot be rewritten, since a line may hold several")
    text = SourceText.of(function)
    tree, private = text.tree(code)
    plain = _compiled(copy.deepcopy(tree), private, function, text, code.co_freevars)
    if not _same_code(plain, code):
        raise PatchError(
            f"{text.filename} is not the source of the code that runs: it was changed since, "
            "or another import hook has compiled it"
        )
    below = len(text.lines) - tree.end_lineno
    meant = changed(edit, pattern, tree, text)
    written = text.again(tree, below)
    if _dump(written) != _dump(meant):
        raise PatchError("what replace makes cannot be written into the source as it stands there")
    _check_names(edit.names, function, tree)
    cells = dict(zip(code.co_freevars, function.__closure__ or ()))
    cells.update({name: types.CellType(value) for name, value in edit.names.items()})
    text.filename = _derived(code.co_filename, function.__qualname__, patch)
    try:
        new = _compiled(written, private, function, text, tuple(cells))
    except SyntaxError as error:
        raise PatchError(f"the rewritten function does not compile: {error.msg}") from None
    _check_globals(new, code, function.__globals__)
    text.publish(new)
    closure = tuple(cells[name] for name in new.co_freevars)
    return copy_function(function, code=new, closure=closure)


#: The function round the one that is compiled: a name that no source has.
_AROUND = "_mx_autopatch_closure"
#: A class that private names do not belong to: Python says that it is one of underscores.
_NO_CLASS = "_" * 20


def _compiled(
    tree: Any, private: str, function: Any, text: SourceText, free: tuple[str, ...]
) -> types.CodeType:
    """The code of a function's tree, compiled where ``free`` are variables of a closure."""
    old = function.__code__
    text.number(tree)
    body: list[ast.stmt] = [tree]
    # In a class of its own name for self.__names, for __class__ and super(); in any case in a
    # class, so that no name of ours hides the real one.
    for name in filter(None, (private, _NO_CLASS)):
        body = [ast.ClassDef(name, [], [], body, [], **_empty(ast.ClassDef))]
    names = [ast.arg(name) for name in free if not (private and name == "__class__")]
    arguments = ast.arguments([], names, None, [], [], None, [])
    around = ast.FunctionDef(_AROUND, arguments, body, [], None, **_empty(ast.FunctionDef))
    # CPython (seen in 3.11) calls functions of what a module imports by other instructions.
    imports: list[ast.stmt] = [ast.Import([ast.alias("f", name)]) for name in sorted(text.imported)]
    module = ast.fix_missing_locations(ast.Module([*imports, around], []))
    flags = old.co_flags & _FUTURE
    compiled = compile(module, text.filename, "exec", flags=flags, dont_inherit=True)
    waiting: list[types.CodeType] = [compiled]
    while waiting:
        new = waiting.pop(0)
        if new.co_name == old.co_name and new.co_firstlineno == old.co_firstlineno:
            return _settled(new, private, function)
        waiting += [part for part in new.co_consts if isinstance(part, types.CodeType)]
    raise PatchError(f"{old.co_name!r} cannot be compiled by itself")


def _settled(code: types.CodeType, private: str, function: Any) -> types.CodeType:
    """The code without what tells of the function that it was compiled in."""
    old = function.__code__
    ours = ".".join(filter(None, (_AROUND, "<locals>", _NO_CLASS, private, old.co_name)))
    # Before Python 3.11 the names of nested functions are constants.
    theirs = getattr(old, "co_qualname", function.__qualname__)

    def settled(part: Any) -> Any:
        if isinstance(part, str) and part.startswith(ours):
            return theirs + part[len(ours) :]
        if not isinstance(part, types.CodeType):
            return part
        more: dict[str, Any] = {"co_consts": tuple(map(settled, part.co_consts))}
        if hasattr(part, "co_qualname"):
            more["co_qualname"] = settled(part.co_qualname)
        return part.replace(**more)

    # Flags that are not of the text: where it stood, and what types.coroutine has added.
    given = inspect.CO_NESTED | inspect.CO_ITERABLE_COROUTINE
    flags = code.co_flags & ~given | old.co_flags & given
    made: types.CodeType = settled(code).replace(co_flags=flags)
    return made


def _empty(kind: type) -> dict[str, Any]:
    return {"type_params": []} if "type_params" in kind._fields else {}  # type: ignore[attr-defined]


def _same_code(one: Any, other: Any) -> bool:
    """Whether two pieces of code do the same, wherever they were written."""
    if not isinstance(one, types.CodeType) or not isinstance(other, types.CodeType):
        if isinstance(one, frozenset) and isinstance(other, frozenset):
            return sorted(map(repr, one)) == sorted(map(repr, other))
        return type(one) is type(other) and repr(one) == repr(other)
    names = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_flags")
    return (
        all(getattr(one, name) == getattr(other, name) for name in names)
        and len(one.co_consts) == len(other.co_consts)
        and all(map(_same_code, one.co_consts, other.co_consts))
    )


def _dump(tree: Any) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.kind = None  # u"" is written as ""
    return ast.dump(tree)


def _check_names(names: Any, function: Any, tree: Any) -> None:
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for name in names:
        if name in used:
            raise PatchError(
                f"names: {name!r} has a meaning in {function.__qualname__} already; take another"
            )


def _check_globals(new: Any, old: Any, namespace: dict[str, Any]) -> None:
    """Refuse a replacement that would end in a NameError when it is called."""
    for name in sorted(_globals(new) - _globals(old)):
        if name not in namespace and not hasattr(builtins, name):
            raise PatchError(
                f"replace: {name!r} is not known in {namespace.get('__name__', 'the module')}; "
                f"import it in replace, or give names={{{name!r}: ...}}"
            )


def _globals(code: types.CodeType) -> set[str]:
    names = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            names |= _globals(part)
    return names


_DERIVED = re.compile(r"(?P<file>.*) <(?P<name>.*) rewritten by (?P<patches>.*)>\Z", re.DOTALL)


def _derived(filename: str, name: str, patch: str) -> str:
    before = _DERIVED.match(filename)
    if before is not None and before["name"] == name:
        return f"{before['file']} <{name} rewritten by {before['patches']}, {patch}>"
    return f"{filename} <{name} rewritten by {patch}>"

"""The source of a function as lines that keep their numbers, whatever is written into them."""

from __future__ import annotations

import ast
import copy
import linecache
import re
import weakref
from bisect import bisect_left
from typing import Any

from mx_autopatch.engine.syntax import Match, Pattern
from mx_autopatch.errors import PatchError
from mx_autopatch.model import Rewrite

Function = (ast.FunctionDef, ast.AsyncFunctionDef)

# Of what these are, the source can stand where an expression can, without parentheses.
_CLOSED = (ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.List, ast.Dict, ast.Set)


class SourceText:
    """The text of the file in which a function was written.

    ``owner`` has for each line of text the line, counted from one, of the file that it
    counts as: several of ours may be one of the file.
    """

    def __init__(self, filename: str, entries: list[str]) -> None:
        self.filename = filename
        self.lines: list[bytes] = []
        self.owner: list[int] = []
        #: What the module itself imports, once :meth:`tree` was called.
        self.imported: set[str] = set()
        for number, entry in enumerate(entries, 1):
            parts = entry.encode().rstrip(b"\r\n").split(b"\n")
            self.lines += parts
            self.owner += [number] * len(parts)

    @classmethod
    def of(cls, function: Any) -> SourceText:
        """The text of the file in which ``function`` was written.

        Raises:
            PatchError: the source is not there.
        """
        filename: str = function.__code__.co_filename
        linecache.checkcache(filename)
        entries = linecache.getlines(filename, function.__globals__)
        if not entries:
            raise PatchError(f"its source is not there: {filename}")
        return cls(filename, entries)

    def tree(self, code: Any) -> tuple[Any, str]:
        """The function that ``code`` was compiled from, with the numbers of our lines.

        Returns:
            Its node, and the class that it is in, if any, to which its private names belong.
        """
        try:
            # As text, since a declaration of another encoding is no longer true.
            module = ast.parse(b"\n".join(self.lines).decode())
        except (SyntaxError, ValueError) as error:
            raise PatchError(f"its source cannot be parsed: {self.filename}: {error}") from None
        self.imported = _imported(module)
        found: list[tuple[Any, str]] = []
        line = bisect_left(self.owner, code.co_firstlineno) + 1

        def visit(node: ast.AST, private: str) -> None:
            for child in ast.iter_child_nodes(node):
                if getattr(child, "end_lineno", line) < line:
                    continue
                if isinstance(child, Function) and child.name == code.co_name:
                    first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                    if first == line:
                        found.append((child, private))
                visit(child, child.name if isinstance(child, ast.ClassDef) else private)

        visit(module, "")
        if len(found) != 1:
            raise PatchError(
                f"no function {code.co_name!r} begins in line {code.co_firstlineno} of "
                f"{self.filename}"
            )
        return found[0]

    def again(self, tree: Any, end: int) -> Any:
        """The function of which :meth:`tree` returned ``tree``, as its text is by now.

        ``end`` is how many lines of text follow it.
        """
        first = _start([tree])[0]
        block = self.lines[first : len(self.lines) - end]
        # A block of its own keeps its indentation, and strings of several lines are not ours.
        above = [b"if True:"] if tree.col_offset else []
        try:
            module: Any = ast.parse(b"\n".join([*above, *block]).decode())
        except SyntaxError as error:
            raise PatchError(f"what replace makes is not Python there: {error}") from None
        ast.increment_lineno(module, first - len(above))
        return module.body[0].body[0] if above else module.body[0]

    def write(self, matches: list[Match]) -> None:
        """Write what the matches put in the place of what they found."""
        written: dict[int, tuple[Any, list[Any]]] = {}
        for match in matches:
            whole = match.written if isinstance(match.written, list) else [match.written]
            new = match.new if whole is match.written else whole
            written[id(whole[0])] = (whole, new)
        for whole, new in sorted(written.values(), key=lambda pair: _start(pair[0]), reverse=True):
            self._write(whole, new)

    def _write(self, old: list[Any], new: list[Any]) -> None:
        first, begin = _start(old)
        last, end = old[-1].end_lineno - 1, old[-1].end_col_offset
        before, after = self.lines[first][:begin], self.lines[last][end:]
        top, bottom = self.owner[first], self.owner[last]
        try:
            parts = [ast.unparse(ast.fix_missing_locations(node)) for node in new]
        except ValueError as error:  # some strings within strings, before Python 3.12
            raise PatchError(f"what replace makes cannot be written: {error}") from None
        if isinstance(new[0], ast.expr):
            text = parts[0]
            if bottom > top:  # the lines that are not needed go within: what follows stays
                indent = before[: len(before) - len(before.lstrip())].decode()
                text = f"({text}" + "\n" * (bottom - top) + f"{indent})"
            elif not (_is_closed(new[0], text, before, after) or _is_alone(before, after)):
                text = f"({text})"
        elif before.strip():
            text = "; ".join(parts)
            if "\n" in text:
                raise PatchError(
                    f"what replace makes does not go on one line with {before.decode().strip()!r}"
                )
        else:
            text = ("\n" + before.decode()).join("\n".join(parts).split("\n"))
        lines = (before + text.encode() + after).split(b"\n")
        owner = [min(top + index, bottom) for index in range(len(lines))]
        blank = range(owner[-1] + 1, bottom + 1)
        self.lines[first : last + 1] = [*lines, *(b"" for _ in blank)]
        self.owner[first : last + 1] = [*owner, *blank]

    def number(self, tree: ast.AST) -> None:
        """Give the nodes of our text the numbers of the file's lines."""
        for node in ast.walk(tree):
            if not hasattr(node, "lineno"):
                continue
            given: Any = node
            given.lineno = self.owner[given.lineno - 1]
            given.end_lineno = self.owner[given.end_lineno - 1]
            if given.lineno == given.end_lineno and given.end_col_offset < given.col_offset:
                given.end_col_offset = given.col_offset

    def publish(self, code: Any) -> None:
        """Have linecache show the text under our filename for as long as ``code`` exists."""
        entries = [""] * self.owner[-1]
        for line, number in zip(self.lines, self.owner):
            entries[number - 1] += line.decode() + "\n"
        # Without a time of change, checkcache leaves it alone.
        name = self.filename
        entry = (sum(map(len, entries)), None, entries, name)
        linecache.cache[name] = entry
        weakref.finalize(code, _forget, name, entry).atexit = False


def _forget(name: str, entry: Any) -> None:
    """Take an entry of linecache's away, unless the name has been published anew since."""
    if linecache.cache.get(name) is entry:
        del linecache.cache[name]


def changed(edit: Rewrite, pattern: Pattern, tree: Any, text: SourceText) -> Any:
    """The tree of a function with the edit made in it, and written into the text.

    Raises:
        LookupError: the pattern is not there as often as it should be.
        PatchError: the result cannot be written into the text.
    """
    new = copy.deepcopy(tree)
    matches = pattern.substitute(new)
    if len(matches) != edit.count:
        often = "once" if edit.count == 1 else f"{edit.count} times"
        times = f"should be there {often}: " if edit.count > 1 or matches else ""
        raise LookupError(f"{edit.target}: {times}{_count(pattern, matches, tree, text)}")
    text.write(matches)
    return new


def preview(edit: Rewrite, source: str) -> str:
    """A function's source, not indented, with the edit made in it.

    Raises:
        LookupError: the pattern is not there as often as it should be.
        PatchError: it is no source of a function, or the result cannot be written into it.
    """
    text = SourceText("", source.splitlines())
    try:
        tree = ast.parse(source).body[0]
    except (SyntaxError, IndexError):
        raise PatchError("no source of a function") from None
    if not isinstance(tree, Function):
        raise PatchError("no source of a function")
    changed(edit, Pattern(edit.find, edit.replace), tree, text)
    return b"\n".join(text.lines).decode() + "\n"


def _count(pattern: Pattern, matches: list[Match], tree: Any, text: SourceText) -> str:
    """Why a pattern that was not found as often as it should be was not."""
    if matches:
        lines = ", ".join(str(text.owner[match.nodes[0].lineno - 1]) for match in matches)
        return f"found in line{'s' * (len(matches) > 1)} {lines}: {pattern.text!r}"
    nearest = pattern.nearest(tree)
    most = f"; most like it is line {text.owner[nearest[0] - 1]}: {nearest[1]!r}" if nearest else ""
    return f"not found: {pattern.text!r}{most}"


def _start(nodes: list[Any]) -> tuple[int, int]:
    """Line, counted from zero, and column where nodes begin."""
    node = nodes[0]
    decorators = getattr(node, "decorator_list", None)
    line = min(d.lineno for d in decorators) if decorators else node.lineno
    return line - 1, node.col_offset


def _is_closed(node: Any, text: str, before: bytes, after: bytes) -> bool:
    """Whether an expression can stand between the two wherever an expression can."""
    for neighbour in (before.decode()[-1:], after.decode()[:1]):
        if neighbour.isalnum() or neighbour in tuple("_\"'"):
            return False  # a name would run into it, or a string be joined to it
    return isinstance(node, _CLOSED) or (isinstance(node, ast.Tuple) and text[0] == "(")


_BEGINS = re.compile(rb"([(\[,]|(?<![=!<>:])=|\breturn )\s*\Z")
_ENDS = re.compile(rb"\s*([)\],;#]|\Z)")


def _is_alone(before: bytes, after: bytes) -> bool:
    """Whether what is between the two is an argument, an element or a value by itself."""
    return _BEGINS.search(before) is not None and _ENDS.match(after) is not None


def _imported(module: ast.Module) -> set[str]:
    """The names that a module binds by import statements of its own, at any depth."""
    names: set[str] = set()
    waiting: list[ast.AST] = [module]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update(a.asname or a.name.partition(".")[0] for a in node.names)
        elif not isinstance(node, (*Function, ast.ClassDef, ast.expr)):
            waiting += ast.iter_child_nodes(node)
    return names - {"*"}

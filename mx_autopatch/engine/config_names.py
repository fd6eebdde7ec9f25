"""Names in messages: what was meant, and how a value is shown."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["did_you_mean", "is_dotted", "nearest", "printable", "quoted", "seen", "trust_command"]

_LONGEST = 100  # characters of a value in a message

_KINDS = {
    "bool": "a boolean",
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "list": "a list",
    "tuple": "a list",
    "dict": "a table",
    "date": "a date",
    "time": "a time",
    "datetime": "a date",
}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, letter case apart; None if none is near."""
    from difflib import SequenceMatcher, get_close_matches

    folded = {each.lower(): each for each in sorted(known)}
    wanted = name[:_LONGEST].lower()  # the comparison is quadratic
    word = wanted.rpartition(".")[2]
    words = {each: each.rpartition(".")[2] for each in folded}
    # The right word without its section, or in another one.
    same = [each for each in folded if words[each] == word != "*"]
    close = get_close_matches(wanted, same, 1, 0.0) or [
        each
        for each in get_close_matches(wanted, folded, 3, 0.65)
        # A long section in common makes any two names alike.
        if SequenceMatcher(None, word, words[each]).ratio() > 0.5
    ]
    return folded[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message: ``; did you mean 'x'?``, or nothing."""
    near = nearest(name, known)
    return "" if near is None else f"; did you mean {near!r}?"


def is_dotted(name: str) -> bool:
    """Whether it could be the name of a module."""
    return all(part.isidentifier() for part in name.split("."))


def printable(name: str) -> str:
    """A key as it stands in the file, unless it would garble the terminal."""
    return name if name.isprintable() and len(name) <= _LONGEST else quoted(name)


def quoted(text: str) -> str:
    """Quoted, escaped and not too long."""
    return repr(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...")


def trust_command(path: str) -> str:
    """The remedy for a file that is not trusted; safe to copy whatever a folder is called."""
    from shlex import quote

    return f"`mx-autopatch trust {quote(path)}`"


def seen(value: object) -> str:
    """A value of the wrong type: itself if it is short, and what it is."""
    kind = _KINDS.get(type(value).__name__, type(value).__name__)
    if isinstance(value, str):
        return f"{quoted(value)} ({kind})"
    if isinstance(value, bool):
        return f"{str(value).lower()} ({kind})"
    # Not of tables, which may be deep, nor of huge integers, which refuse to be printed.
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**18):
        return f"{value} ({kind})"
    return kind

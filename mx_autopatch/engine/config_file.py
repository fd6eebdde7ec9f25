"""Finding and reading the one configuration file.

Order: the explicit file; else upward from the folder of the script; else the file
that a parent process found; else upward from the working directory. In each folder
``autopatch.toml`` comes before ``pyproject.toml``, and a ``pyproject.toml`` without
``[tool.mx_autopatch]`` is nobody's business of ours, whatever state it is in.

The file is read once: the bytes returned are those that were parsed and those that
the trust store hashes. Nothing of the file is believed here; see ``Found.unsafe``.
"""

from __future__ import annotations

import os
import sys
from stat import S_IMODE, S_ISREG, S_IWOTH

from mx_autopatch.engine.config_keys import PREFIX
from mx_autopatch.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

__all__ = ["Found", "examine", "find", "foreign", "parse_toml", "read_bytes", "reason_of"]

FILE = "autopatch.toml"
PYPROJECT = "pyproject.toml"
_LIMIT = 1 << 20  # a configuration is a few hundred bytes; what is larger is no configuration


class Found:
    """A configuration file as it was read."""

    __slots__ = ("data", "explicit", "path", "problem", "table", "unsafe")

    def __init__(self, path: str, explicit: bool) -> None:
        self.path = path
        self.explicit = explicit
        self.data = b""
        self.table: dict[str, Any] = {}
        self.problem: str | None = None  # why the table is empty: unreadable, not TOML
        self.unsafe: str | None = None  # why its content may be somebody else's


def find(
    environ: Mapping[str, str],
    script: str | None,
    cwd: str,
    explicit: str | None,
    problems: list[str],
) -> Found | None:
    """The configuration file, if there is one. ``cwd`` may be empty (it was deleted)."""
    named = explicit or environ.get(f"{PREFIX}_CONFIG")
    if named:
        label = "command line --config" if explicit else f"environment {PREFIX}_CONFIG"
        return _named(named, label, cwd, problems)
    for path in _candidates(environ, script, cwd):
        found = examine(path)
        if found is not None:
            return found
    return None


def _named(named: str, label: str, cwd: str, problems: list[str]) -> Found | None:
    if named == os.devnull:  # "no file at all", though everybody may write to it
        return None
    path = os.path.normpath(os.path.join(cwd, named))
    found = examine(path, explicit=True)
    if found is None:
        # Only now, because a file that cannot be reached is not "missing".
        why = "has no [tool.mx_autopatch] section" if os.path.exists(path) else "does not exist"
        problems.append(f"{label}: {path!r} {why}; name an {FILE}, or leave it out")
    return found


def _candidates(environ: Mapping[str, str], script: str | None, cwd: str) -> Iterator[str]:
    seen: set[str] = set()
    yield from _upward(_script_folder(script, cwd), seen)
    discovered = environ.get(f"{PREFIX}_DISCOVERED")
    if discovered:
        yield discovered
    yield from _upward(cwd, seen)


def _upward(folder: str, seen: set[str]) -> Iterator[str]:
    # A folder seen has had its parents seen too.
    while folder and folder not in seen:
        seen.add(folder)
        yield os.path.join(folder, FILE)
        yield os.path.join(folder, PYPROJECT)
        folder = os.path.dirname(folder)


def _script_folder(script: str | None, cwd: str) -> str:
    """The folder of the script, links followed as Python does for ``sys.path[0]``."""
    if script is None:
        script = (getattr(sys, "argv", None) or [""])[0]  # no argv: embedded, or too early
    if script in ("", "-c", "-m"):
        return ""
    try:
        path = os.path.realpath(os.path.join(cwd, script))
        if os.path.isdir(path):  # python FOLDER
            return path
        return os.path.dirname(path) if os.path.isfile(path) else ""
    except (OSError, ValueError):  # a NUL, or a relative name in a deleted folder
        return ""


def examine(path: str, explicit: bool = False) -> Found | None:
    """The file as configuration; None if it is not there or is not meant for us."""
    shared = os.path.basename(path) == PYPROJECT
    found = Found(path, explicit)
    try:
        found.data, status = read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as exc:
        # A folder that must not be searched says "permission denied" of every name.
        if not explicit and (shared or not os.path.exists(path)):
            return None
        found.problem = f"{path}: cannot be read: {reason_of(exc)}"
        return found
    if shared and b"mx_autopatch" not in found.data:
        return None
    found.unsafe = _refusal(path, status)
    try:
        table = parse_toml(found.data)
    except ConfigError as exc:
        if shared and not explicit and b"tool.mx_autopatch" not in found.data:
            return None
        found.problem = f"{path}: {exc}"
        return found
    if shared:
        return _section(found, table)
    found.table = table
    return found


def _section(found: Found, table: dict[str, Any]) -> Found | None:
    tool = table.get("tool")
    if not isinstance(tool, dict) or "mx_autopatch" not in tool:
        return None
    if isinstance(tool["mx_autopatch"], dict):
        found.table = tool["mx_autopatch"]
    else:
        found.problem = f"{found.path}: tool.mx_autopatch: expected a table"
    return found


def read_bytes(path: str) -> tuple[bytes, os.stat_result]:
    """Content and status of one regular file, from the same open file."""
    if "\0" in path:  # each version of Python has words of its own for it
        raise OSError("its name holds a null character")
    # O_NONBLOCK: a FIFO of that name must not hang the interpreter.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    try:
        status = os.fstat(handle)
        if not S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        data = b""
        while len(data) <= _LIMIT:
            chunk = os.read(handle, _LIMIT + 1 - len(data))
            if not chunk:
                return data, status
            data += chunk
        raise OSError("it is larger than 1 MiB")
    finally:
        os.close(handle)


def _refusal(path: str, status: os.stat_result) -> str | None:
    why = foreign(status)
    if why is None:
        return None
    from mx_autopatch.engine.config_names import trust_command

    cure = "chown it" if "uid" in why else "chmod o-w"
    return f"{path}: refused: {why}; {cure}, or read it and run {trust_command(path)}"


def foreign(status: os.stat_result) -> str | None:
    """Why somebody else may have written the file; None if only you and root can have."""
    if not hasattr(os, "geteuid"):  # Windows has other means, and no such bits
        return None
    user = os.geteuid()
    if status.st_uid not in (user, 0):
        return f"it belongs to uid {status.st_uid}, not to you (uid {user})"
    if status.st_mode & S_IWOTH:
        return f"everybody may write to it (mode {S_IMODE(status.st_mode):o})"
    return None


def parse_toml(data: bytes) -> dict[str, Any]:
    """The TOML document; ConfigError says what is wrong and in which line."""
    try:
        text = data.decode("utf-8-sig")  # Windows editors put a byte order mark first
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"not UTF-8 (at line {line}); save it as UTF-8") from None
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise ConfigError("TOML needs tomli on this Python; pip install tomli") from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError("invalid TOML: nested too deeply") from None
    except ValueError as exc:
        raise ConfigError(f"invalid TOML: {exc}") from None


def reason_of(exc: Exception) -> str:
    """What the system says, without the number and the path that surround it."""
    return getattr(exc, "strerror", None) or str(exc)

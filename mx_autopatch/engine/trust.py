"""Which configuration files may name code, after the model of direnv.

The store maps the real path of a file to a hash over its bytes and those of every
file that its ``plugins.files`` names, so that a change of either ends the trust.
(What these plugins import in turn, and ``plugins.modules``, is installed code or lies
on ``sys.path``; it is not hashed.)

A change of the store reads it, writes a new one and moves that into place. There is
no lock: readers always see a whole store, and of two writers at the same instant one
may lose its entry, which is seen at once, since the file then is not trusted.
"""

from __future__ import annotations

import os

from mx_autopatch.engine.config_file import Found, examine, foreign, read_bytes, reason_of
from mx_autopatch.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["digest", "forget", "is_trusted", "record", "store_path", "trusted_plugins"]


def store_path(environ: Mapping[str, str] = os.environ) -> str:
    """``$XDG_DATA_HOME/mx_autopatch/trust.json``; ConfigError without a home folder."""
    home = environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(home):  # the specification says to ignore a relative one
        own = environ.get("HOME") or os.path.expanduser("~")
        home = os.path.join(own, ".local", "share")
    if not os.path.isabs(home):  # never in the working directory: anybody may lay one there
        raise ConfigError("there is no home folder for the trust store; set XDG_DATA_HOME")
    return os.path.join(home, "mx_autopatch", "trust.json")


def digest(content: bytes, plugins: Iterable[bytes]) -> str:
    """The hash of a configuration and its plugins, in the order it names them."""
    from hashlib import sha256

    total = sha256()
    for data in (content, *plugins):
        total.update(b"%d:" % len(data))  # else bytes could move from one file to the next
        total.update(data)
    return total.hexdigest()


def trusted_plugins(
    path: str,
    content: bytes,
    plugin_files: Iterable[str],
    *,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, bytes] | None:
    """The bytes of the plugins as they were trusted; None if they, or the file, are not."""
    try:
        wanted = _read(store_path(environ)).get(os.path.realpath(path))
        if wanted is None:
            return None
        plugins = {name: read_bytes(name)[0] for name in plugin_files}
    except (ConfigError, OSError, ValueError):  # a broken store trusts nothing
        return None
    return plugins if digest(content, plugins.values()) == wanted else None


def is_trusted(
    path: str,
    content: bytes,
    plugin_files: Iterable[str],
    *,
    environ: Mapping[str, str] = os.environ,
) -> bool:
    """Whether ``path`` was recorded with just this content and these plugins."""
    return trusted_plugins(path, content, plugin_files, environ=environ) is not None


def record(path: str, *, environ: Mapping[str, str] = os.environ) -> str:
    """Trust the file and its plugins as they are now; returns the digest."""
    found = _examined(path)
    value = digest(found.data, _plugins_of(found))
    store = store_path(environ)
    entries = _read(store)
    entries[os.path.realpath(path)] = value
    _write(store, entries)
    return value


def forget(path: str, *, environ: Mapping[str, str] = os.environ) -> bool:
    """End the trust; returns whether there was any. The file itself may be gone."""
    store = store_path(environ)
    entries = _read(store)
    if entries.pop(os.path.realpath(path), None) is None:
        return False
    _write(store, entries)
    return True


def _examined(path: str) -> Found:
    found = examine(os.path.abspath(path), explicit=True)
    if found is None:
        raise ConfigError(f"{path}: there is no such file, or no [tool.mx_autopatch] in it")
    if found.problem:
        raise ConfigError(found.problem)
    return found


def _plugins_of(found: Found) -> list[bytes]:
    from mx_autopatch.engine.config_read import read_file

    layer, _ = read_file(found)
    files = layer["plugins.files"][0] if "plugins.files" in layer else ()
    # The same dict as in trusted_plugins: a file named twice counts once.
    return list({name: _plugin(found.path, name) for name in files}.values())


def _plugin(path: str, name: str) -> bytes:
    try:
        return read_bytes(name)[0]
    except (OSError, ValueError) as exc:
        why = reason_of(exc)
        raise ConfigError(f"{path}: plugins.files: {name!r} cannot be read: {why}") from None


def _read(store: str) -> dict[str, str]:
    try:
        data, status = read_bytes(store)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{store}: cannot be read: {reason_of(exc)}") from None
    unsafe = foreign(status)
    if unsafe:
        raise ConfigError(f"{store}: {unsafe}; nothing is trusted until you remove it")
    import json

    try:
        entries = json.loads(data)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict) or not all(isinstance(v, str) for v in entries.values()):
        raise ConfigError(
            f"{store}: this is not a trust store; nothing is trusted until you remove it"
        )
    return entries


def _write(store: str, entries: dict[str, str]) -> None:
    import json
    from tempfile import mkstemp

    folder = os.path.dirname(store)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
        handle, temporary = mkstemp(dir=folder, prefix="trust.")  # of mode 0600
        try:
            with open(handle, "w", encoding="ascii") as file:
                json.dump(entries, file, indent=1, sort_keys=True)
            os.replace(temporary, store)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as exc:
        raise ConfigError(f"{store}: cannot be written: {reason_of(exc)}") from None

"""The names of patches in the configuration, against those that exist."""

from __future__ import annotations

from fnmatch import fnmatchcase

from mx_autopatch.engine.config_keys import FrozenDict
from mx_autopatch.engine.config_names import did_you_mean, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from mx_autopatch.engine.config import Config

__all__ = ["unknown_names"]


def unknown_names(config: Config, known: Iterable[str]) -> Iterator[str]:
    """One sentence for each name that no patch has, and each glob that no patch fits."""
    names = frozenset(known)
    scopes = {f"{name.rpartition('.')[0]}.*" for name in names if "." in name}
    for key, patterns in (
        ("patches.enable", config.enable),
        ("patches.disable", config.disable),
        ("patches.only", config.only),
    ):
        for pattern in dict.fromkeys(patterns):
            if pattern in names or any(fnmatchcase(name, pattern) for name in names):
                continue
            what = f"unknown patch {quoted(pattern)}"
            if any(character in pattern for character in "*?["):
                what = f"no patch fits {quoted(pattern)}"
            yield f"{_label(config, key)}: {what}{_remedy(pattern, names, scopes)}"
    for name in _unclaimed(config.options.tables, names):
        what = f"unknown patch {quoted(name)}{_remedy(name, names, scopes)}"
        yield f"{_label(config, 'patches.options')}: {what}"


def _label(config: Config, key: str) -> str:
    source = config.sources[key]
    return f"{source}: {key}" if source == config.path else source


def _remedy(name: str, names: frozenset[str], scopes: set[str]) -> str:
    hint = did_you_mean(name, names) or did_you_mean(name, scopes)
    return hint or f"; there are patches in {', '.join(sorted(scopes)) or 'no library at all'}"


def _unclaimed(tables: Mapping[str, Any], names: frozenset[str], prefix: str = "") -> Iterator[str]:
    """The tables of options that belong to no patch, by the name they seem to mean."""
    for part, value in tables.items():
        name = f"{prefix}{part}"
        if name in names:
            continue
        if isinstance(value, FrozenDict) and any(n.startswith(f"{name}.") for n in names):
            yield from _unclaimed(value, names, f"{name}.")
        else:
            yield _spelt_out(name, value)


def _spelt_out(name: str, value: Any) -> str:
    """``mmvc`` of ``[patches.options.mmvc.version_gate]`` as ``mmvc.version_gate``."""
    while isinstance(value, FrozenDict) and len(value) == 1:
        ((part, value),) = value.items()
        name = f"{name}.{part}" if isinstance(value, FrozenDict) else name
    return name

"""The table of ``modules.redirect``: flat, and free of cycles."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["drop_cycles", "leaves"]

_DEPTH = 32  # parts of a module name


def leaves(
    table: Mapping[str, object], prefix: str = "", depth: int = 1
) -> Iterator[tuple[str, object]]:
    """``mmcv.runner = "x"`` without quotes is a table in a table; it means the same."""
    if depth > _DEPTH:
        raise ValueError("tables are nested too deeply")
    for name, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", value


def drop_cycles(table: dict[str, str]) -> Iterator[str]:
    """Takes every redirect that leads back to itself out of ``table``; says which."""
    for old in list(table):
        cycle = _cycle(table, old) if old in table else []
        if len(cycle) > 1:
            way = " -> ".join(map(repr, [*cycle, old]))
            yield f"{way} is a cycle; remove one of them"
        elif cycle and table[old] == old:
            yield f"{old!r} is redirected to itself; remove it"
        elif cycle:
            yield f"{old!r} is redirected into itself ({table[old]!r}); remove it"
        for name in cycle:
            del table[name]


def _cycle(table: Mapping[str, str], start: str) -> list[str]:
    """The redirects that lead from ``start`` back to it, if they do.

    Importing ``a.b`` imports ``a`` first, so a redirect of a parent counts as well.
    """
    ways, visited = [[start]], {start}
    while ways:
        way = ways.pop()
        parts = table[way[-1]].split(".")
        for size in range(1, len(parts) + 1):
            name = ".".join(parts[:size])
            if name == start:
                return way
            if name in table and name not in visited:
                visited.add(name)
                ways.append([*way, name])
    return []

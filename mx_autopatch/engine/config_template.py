"""The commented ``autopatch.toml`` that ``mx-autopatch init`` writes."""

from __future__ import annotations

from mx_autopatch.engine.config_keys import KEYS, Key

__all__ = ["template"]

_HEAD = """\
# Configuration of mx_autopatch. Every key is shown with its default; take the '#'
# that stands before a key away to change it. The same keys may stand in
# pyproject.toml under [tool.mx_autopatch], and in the environment as shown.
"""


def template() -> str:
    """A configuration file that changes nothing, as written or with each key uncommented."""
    parts, section = [_HEAD], ""
    for key in KEYS:
        head, _, name = key.name.rpartition(".")
        if head != section:
            parts.append(f"[{head}]\n")
            section = head
        parts.append(_entry(key, name))
    return "\n".join(parts)


def _entry(key: Key, name: str) -> str:
    prose = key.doc.split("\n")
    if key.choices:
        prose.append(f"One of {', '.join(key.choices)}.")
    prose.append(f"Environment: {' or '.join(reversed(key.variables))}.")
    # Prose has a space after its '#' and a key has none, so that they can be told apart.
    return "".join(f"# {line}\n" for line in prose) + f"#{name} = {_toml(key)}\n"


def _toml(key: Key) -> str:
    if key.default is None:
        return '""'
    if isinstance(key.default, bool):
        return str(key.default).lower()
    if isinstance(key.default, int):
        return str(key.default)
    if isinstance(key.default, str):
        return f'"{key.default}"'
    return "[]" if key.default == () else "{}"

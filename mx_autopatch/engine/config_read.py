"""The three sources: what a file, the environment and the command line say.

Nothing here raises for bad content: whatever is wrong becomes one sentence in a list
of problems, and the part that is right is used. Imported only when there is something
to read.
"""

from __future__ import annotations

import os

from mx_autopatch.engine.config_keys import KEYS, PREFIX, RESERVED
from mx_autopatch.engine.config_names import did_you_mean, nearest, printable, quoted, seen
from mx_autopatch.engine.config_values import UNSET, Reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from mx_autopatch.engine.config_file import Found
    from mx_autopatch.engine.config_keys import Key

    Layer = dict[str, tuple[Any, str]]  # dotted key -> value, source

__all__ = ["read_environment", "read_file", "read_overrides"]

_BY_NAME = {key.name: key for key in KEYS}
_BY_VARIABLE = {variable: key for key in KEYS for variable in key.variables}


def read_file(found: Found) -> tuple[Layer, list[str]]:
    """The values of the file, and what is wrong with it."""
    problems: list[str] = [found.problem] if found.problem else []
    base = os.path.dirname(found.path)
    layer: Layer = {}
    for key, raw in _rows(found.table, found.path, problems):
        reading = Reading(key, f"{found.path}: {key.name}", base, problems)
        value = reading.value(raw, text=False)
        if value is not UNSET:
            layer[key.name] = value, found.path
    return layer, problems


def _rows(
    table: Mapping[str, object], source: str, problems: list[str], prefix: str = ""
) -> Iterator[tuple[Key, object]]:
    """Each key of a file with its raw value; unknown keys and sections are problems."""
    for name, value in table.items():
        dotted = f"{prefix}{name}"
        label = f"{source}: {printable(dotted)}"
        keys = [key for key in _BY_NAME if key.startswith(f"{dotted}.")]
        if dotted in _BY_NAME:
            yield _BY_NAME[dotted], value
        elif keys and isinstance(value, dict):
            yield from _rows(value, source, problems, f"{dotted}.")
        elif keys:
            names = ", ".join(key[len(dotted) + 1 :] for key in keys)
            problems.append(f"{label}: expected a table with {names}; got {seen(value)}")
        else:
            problems.append(f"{label}: {_unknown(dotted, prefix, value)}")


def _unknown(dotted: str, prefix: str, value: object) -> str:
    if dotted == "tool":
        return "unknown section; leave [tool.mx_autopatch] out, its keys stand here by themselves"
    if not prefix and isinstance(value, dict):
        sections = {key.rpartition(".")[0] for key in _BY_NAME} - {""}
        hint = did_you_mean(dotted, sections) or f"; the sections are {', '.join(sorted(sections))}"
        return f"unknown section{hint}"
    inside = [key for key in _BY_NAME if key.startswith(prefix)]
    hint = did_you_mean(dotted, _BY_NAME) or f"; the keys are {', '.join(inside)}"
    return f"unknown key{hint}"


def read_environment(
    environ: Mapping[str, str], variables: Iterable[str], cwd: str, problems: list[str]
) -> Layer:
    """The values of ``variables``, all of which carry our prefix."""
    layer: Layer = {}
    for variable in sorted(variables):
        key = _BY_VARIABLE.get(variable)
        if key is None:
            problems.append(f"environment {printable(variable)}: {_unknown_variable(variable)}")
            continue
        source = f"environment {variable}"
        value = Reading(key, source, cwd, problems).value(environ[variable], text=True)
        if value is UNSET:
            continue
        other, said = layer.setdefault(key.name, (value, source))
        if other != value:
            texts = f"{quoted(environ[said.split()[1]])} and {quoted(environ[variable])}"
            problems.append(f"{said} and {variable} differ ({texts}); keep one of them")
    return layer


def _unknown_variable(variable: str) -> str:
    # Compared without the prefix, which makes any two of them alike.
    right = {name[len(PREFIX) + 1 :]: name for name in (*_BY_VARIABLE, *RESERVED)}
    near = nearest(variable[len(PREFIX) + 1 :], right)
    if near is None:
        return "unknown variable; the template of `mx-autopatch init` names them all"
    return f"unknown variable; did you mean {right[near]!r}?"


def read_overrides(
    overrides: Mapping[str, object], cwd: str, problems: list[str], who: str = "command line"
) -> Layer:
    """The values of the command line, as text or as TOML has them; None is not given.

    ``who`` gives them, if it is not the command line.
    """
    layer: Layer = {}
    for name, raw in overrides.items():
        key = _BY_NAME.get(name)
        options = who == "command line" and key is not None and key.option
        source = f"{who} {options or printable(name)}"
        if key is None:
            problems.append(f"{source}: unknown key{did_you_mean(name, _BY_NAME)}")
        elif raw is not None:
            value = Reading(key, source, cwd, problems).value(raw, text=isinstance(raw, str))
            if value is not UNSET:
                layer[name] = value, source
    return layer

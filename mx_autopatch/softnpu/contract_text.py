"""The result of a contract check, for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from mx_autopatch.softnpu.contract import ContractResult, OperatorCall

__all__ = ["text"]

_WHERE = {
    "native": "NPU",
    "composite": "composite",
    "cpu": "CPU: falls back",
    "nothing": "nowhere",
}
#: At most so much of the arguments of a call.
_WIDTH = 60


def text(result: ContractResult) -> str:
    """A table of the operators, then what was refused, and what was returned."""
    calls = sorted(result.calls, key=lambda call: (call.refused_by is None, -call.count))
    rows = [("count", "operator", "runs on", "verdict", "first call")]
    rows += [(str(c.count), c.name, _WHERE[c.where], _brief(c), _arguments(c)) for c in calls]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]).rstrip()
        for row in rows
    ]
    for call in result.refused:
        lines += ["", f"{call.name} was refused ({call.refused_by}):"]
        lines += [f"    {line}" for line in call.error.splitlines()]
    lines.append("")
    if result.error is not None:
        reason = str(result.error).partition("\n")[0]
        lines.append(f"the function raised {type(result.error).__name__}: {reason}")
    else:
        lines.append(f"the function returned {described(result.output)}")
    return "\n".join(lines)


def _brief(call: OperatorCall) -> str:
    if call.refused_by is None:
        return "accepted" if call.has_meta else "accepted (schema alone)"
    return f"refused ({call.refused_by})"


def _arguments(call: OperatorCall) -> str:
    texts = [described(value) for value in call.arguments]
    texts += [f"{name}={described(value)}" for name, value in call.keywords.items()]
    return textwrap.shorten(", ".join(texts), _WIDTH, placeholder=" ...")


def described(value: Any) -> str:
    """A value of ``ContractResult.output``, or an argument, in a few words."""
    if isinstance(value, dict):
        return f"{{{_joined(f'{key!r}: {described(item)}' for key, item in value.items())}}}"
    if type(value) in (list, tuple):
        opening, closing = ("[", "]") if isinstance(value, list) else ("(", ")")
        return f"{opening}{_joined(map(described, value))}{closing}"
    return str(value)


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(texts)

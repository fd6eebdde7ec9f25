"""A rehearsal: the run of a script on the soft NPU, and what came to light in it.

torch is not imported here, since the script is to import it.
"""

from __future__ import annotations

import json
import linecache
import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mx_autopatch.softnpu.origin import Line, Origin
    from mx_autopatch.softnpu.recorder import Recorder

__all__ = ["FORMAT", "Rehearsal", "save"]

#: Half of what torch_npu differentiates in one piece, by a kernel of its own; the soft NPU
#: follows torch's derivative, and comes by these, for which there is no kernel.
_OF_ONE_PIECE = frozenset(
    (
        *("aten::_weight_norm_interface_backward", "aten::_thnn_fused_gru_cell_backward"),
        *("aten::_pdist_backward", "aten::multilabel_margin_loss_backward"),
        "aten::multilabel_margin_loss_backward.grad_input",
    )
)

#: Of the JSON form.
FORMAT = 1


class Rehearsal:
    """One run, from before its script starts.

    Args:
        device: ``soft``, or ``npu`` for a real one.
        own: Folders of the user's own code.
    """

    def __init__(self, device: str, own: Iterable[str]) -> None:
        self.device = device
        self._own = tuple(own)
        self._recorder: Recorder | None = None

    def begin(self) -> str:
        """Start to record. torch_npu has been imported. Returns how, in words."""
        from mx_autopatch.softnpu.recorder import Recorder

        self._recorder = Recorder(self._own)
        return self._recorder.attach()

    def result(self) -> dict[str, Any]:
        """What was recorded so far, in JSON's types; each list with the most frequent first."""
        found: dict[str, Any] = {
            "format": FORMAT,
            "argv": list(sys.argv),
            "device": self.device,
            "pid": os.getpid(),
            "versions": _versions(),
            "recorded": self._recorder is not None,
            "ended_by": _ended_by(),
        }
        names = ("operators", "waits", "copies", "casts", "computed", "refused", "failed")
        found.update({name: [] for name in names})
        if self._recorder is not None:
            found.update(_lists(self._recorder))
        return found


def _versions() -> dict[str, str]:
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in ("torch", "torch_npu"):
        module = sys.modules.get(name)
        if module is not None:
            versions[name] = str(getattr(module, "__version__", ""))
    return versions


def _ended_by() -> str | None:
    """The exception that ended the script, as the interpreter has noted it."""
    error = getattr(sys, "last_value", None)
    return None if error is None else f"{type(error).__name__}: {error}".rstrip(": ")


def _lists(recorder: Recorder) -> dict[str, Any]:
    from mx_autopatch.softnpu.operators import where

    operators = []
    refused = {name for name, _ in recorder.refused}
    for name, count in recorder.operators().items():
        runs_on = "native" if name in _OF_ONE_PIECE else str(where(name))
        runs_on = "refused" if name in refused else runs_on
        operators.append({"name": name, "count": count, "where": runs_on})
    waits = [{"what": what, "count": n, **_place(at)} for (what, at), n in recorder.waits.items()]
    copies = [
        {"count": count, "bytes": size, "blocking": blocking, **_place(at)}
        for at, (count, size, blocking) in recorder.copies.items()
    ]
    casts = [{"what": what, "count": n, **_place(at)} for (what, at), n in recorder.casts.items()]
    by_line: dict[tuple[str, Origin], dict[str, int]] = {}
    for (dtype, name, at), n in recorder.computed.items():
        by_line.setdefault((dtype, at), {})[name] = n
    computed = [
        {"dtype": dtype, "count": sum(names.values()), "operators": names, **_place(at)}
        for (dtype, at), names in by_line.items()
    ]
    lists: dict[str, list[dict[str, Any]]] = {
        "operators": operators,
        "waits": waits,
        "copies": copies,
        "casts": casts,
        "computed": computed,
        "refused": _errors(recorder.refused),
        "failed": _errors(recorder.failed),
    }
    for rows in lists.values():
        rows.sort(key=lambda row: -row["count"])
    return lists


def _errors(errors: Mapping[tuple[str, Origin], list[Any]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "count": count, "message": message, **_place(at)}
        for (name, at), (count, message) in errors.items()
    ]


def _place(at: Origin) -> dict[str, Any]:
    return {
        **_line(at.line),
        "own": at.is_own,
        "called_from": _line(at.called_from) if at.called_from is not None else None,
        "through": _line(at.through) if at.through is not None else None,
        "backward": at.in_backward,
    }


def _line(line: Line | None) -> dict[str, Any]:
    if line is None:
        return {"file": None, "line": None, "function": None, "source": ""}
    source = linecache.getline(line.file, line.line).strip()
    return {"file": line.file, "line": line.line, "function": line.function, "source": source}


def save(found: Mapping[str, Any], path: str) -> None:
    """Write it as JSON. The file appears whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    unfinished = f"{path}.{os.getpid()}.tmp"
    with open(unfinished, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)
        file.write("\n")
    os.replace(unfinished, path)

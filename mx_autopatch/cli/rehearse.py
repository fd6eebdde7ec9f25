"""``rehearse``: run a script on the soft NPU, and say what an NPU would have made of it."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any

import click

from mx_autopatch import bootstrap
from mx_autopatch.cli import rehearsed
from mx_autopatch.cli.plan import Given, Plan
from mx_autopatch.cli.terminal import Fault, print_json
from mx_autopatch.engine.config_file import reason_of
from mx_autopatch.engine.report import rank
from mx_autopatch.engine.requires import installed
from mx_autopatch.model import Call, Patch
from mx_autopatch.softnpu import runtime
from mx_autopatch.softnpu.rehearse import Rehearsal, save

__all__ = ["command"]

_NAME = "rehearse.recorder"
_DEVICES = ("soft", "npu")


@click.command(
    "rehearse",
    short_help="Run on the soft NPU, then say what waits, falls back or is refused.",
    help="Run SCRIPT or MODULE on the soft NPU, as `--device soft SCRIPT` does. At its end, on"
    " stderr: which operators it used and where the installed torch_npu runs them; the lines"
    " that make the host wait for the device, copy to it, or compute in 64 bits.\n\nThe device"
    " may be a real one: --device npu. In a job of torchrun each rank records, and rank 0"
    " prints: torchrun ... -m mx_autopatch rehearse SCRIPT.",
    context_settings={"allow_interspersed_args": False},
)
@click.option("-m", "module", is_flag=True, help="Run a module, as `python -m` does.")
@click.option("--device", type=click.Choice(_DEVICES), help="soft if not said otherwise.")
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    help="Write all of it as JSON; {rank} and {pid} are filled in. - is standard output.",
)
@click.option("--output", metavar="FILE", help="Write the text here, not to stderr.")
@click.option(
    "--top", type=click.IntRange(min=0), default=15, help="Lines in each table (15); 0: all."
)
@click.argument("target", metavar="SCRIPT")
@click.argument("args", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def command(
    given: Given,
    module: bool,
    device: str | None,
    json_path: str | None,
    output: str | None,
    top: int,
    target: str,
    args: tuple[str, ...],
) -> Plan:
    device = device or given.overrides.get("device") or "soft"
    if device not in _DEVICES:
        raise Fault(f"rehearse: --device {device}: expected {' or '.join(_DEVICES)}")
    _check(device)
    overrides = {**given.overrides, "device": device}
    if overrides.get("patches.only"):
        overrides["patches.only"] = [*overrides["patches.only"], _NAME]
    rehearsal = Rehearsal(device, _own_folders(target, module))
    # The first to be registered is the last to be called: after the script's own, and
    # after the traceback of an exception.
    atexit.register(_Finish(rehearsal, _full(json_path), _full(output), top or sys.maxsize).finish)
    return Plan(target, args, module, Given(given.config, overrides), (_patch(rehearsal),))


def _check(device: str) -> None:
    """Whether there is such a device.

    Raises:
        Fault: there is not, and what to do about it.
        SoftNpuError: the same of the soft one.
    """
    if device == "soft":
        runtime.load()
        return
    from mx_autopatch.device import has_cann

    if installed("torch-npu") is None:
        raise Fault("rehearse: --device npu: torch-npu is not installed: pip install torch-npu")
    if not has_cann():
        raise Fault(
            "rehearse: --device npu: CANN cannot be loaded; source its set_env.sh, "
            "or rehearse without the hardware: --device soft"
        )


def _own_folders(target: str, module: bool) -> list[str]:
    try:
        folders = [os.getcwd()]
    except OSError:  # the working directory was deleted
        folders = []
    return folders if module else [*folders, os.path.dirname(os.path.realpath(target))]


def _full(path: str | None) -> str | None:
    """As it is now; the script may change its folder."""
    return path if path in (None, "-") else os.path.abspath(path)


def _patch(rehearsal: Rehearsal) -> Patch:
    return Patch(
        name=_NAME,
        edits=(Call("torch_npu", lambda context: rehearsal.begin()),),
        doc="Records what a rehearsal reports.",
        priority=100,  # after the soft NPU's kernels are there
    )


class _Finish:
    """What is done at the end of the run."""

    def __init__(
        self, rehearsal: Rehearsal, json_path: str | None, output: str | None, top: int
    ) -> None:
        self._rehearsal, self._json, self._output, self._top = rehearsal, json_path, output, top
        self._pid = os.getpid()
        # A module of this name beside the script is the script's affair.
        self._rich = {
            name: module
            for name, module in sys.modules.items()
            if name.partition(".")[0] in ("click", "rich")
        }

    def finish(self) -> None:
        if os.getpid() != self._pid:
            return  # a fork of the script's, which ends like any program
        sys.modules.update(self._rich)
        found = self._rehearsal.result()
        report = bootstrap.report()
        found["rank"] = rank()
        found["patches"] = [outcome.to_dict() for outcome in report]
        found["problems"] = list(report.problems)
        try:
            self._write(found)
        except OSError as error:
            name = getattr(error, "filename", None) or "the report"
            print(f"mx-autopatch: {name}: cannot be written: {reason_of(error)}", file=sys.stderr)

    def _write(self, found: dict[str, Any]) -> None:
        number = str(found["rank"])
        if self._json is not None and ("{rank}" in self._json or number == "0"):
            if self._json == "-":
                print_json(found)
                return
            save(found, self._json.replace("{rank}", number).replace("{pid}", str(self._pid)))
        if number != "0":
            return
        if self._output is not None:
            with open(self._output, "w", encoding="utf-8") as file:
                rehearsed.show(found, file, self._top)
        elif sys.stderr is not None:
            rehearsed.show(found, sys.stderr, self._top)

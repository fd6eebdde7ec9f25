"""``verify``: the operators on this machine's device, beside float64 on the CPU."""

from __future__ import annotations

import fnmatch
import sys
from typing import TYPE_CHECKING, Any

import click

from mx_autopatch.cli import known
from mx_autopatch.cli.plan import Given
from mx_autopatch.cli.terminal import Fault, console, name_of, print_json, table
from mx_autopatch.device import detect
from mx_autopatch.engine.config_names import did_you_mean

if TYPE_CHECKING:
    import torch

    from mx_autopatch.verify.runner import Verdict

__all__ = ["command"]

_REHEARSED = ("soft", "contract")
_DTYPES = ("float32", "float16", "bfloat16")
_FAILURES = 6  # of one operator, in the text


@click.command(
    "verify",
    short_help="The operators on this device, beside float64 on the CPU.",
    help="Run the operators NAME (or a glob; all if none is given) on this machine's device in"
    " float32, float16 and bfloat16, results and gradients, and compare them with an independent"
    " formulation in float64 on the CPU: plain loops over boxes and pixels. The inputs: random,"
    " one, none, ties, NaN, huge, non-contiguous.\n\nThe exit status is 1 if anything is out of"
    " tolerance or raises.",
)
@click.option(
    "--device",
    metavar="DEVICE",
    help="cpu, cuda, npu, cuda:1, …; soft is npu on the soft NPU. Where it is not given, that of"
    " the configuration and of --device before the subcommand.",
)
@click.option("--seed", type=int, default=0, help="Of the random inputs (0).")
@click.option("--json", "as_json", is_flag=True, help="For programs; complete.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.pass_obj
def command(
    given: Given, device: str | None, seed: int, as_json: bool, names: tuple[str, ...]
) -> None:
    session = known.session_of(given)
    configured = session.config.device
    if device in _REHEARSED:
        configured = device
    if configured == "contract":
        raise Fault("verify: --device contract: it computes nothing; --device soft does")
    if configured == "soft":
        _start_soft_npu()
    chosen = "npu" if device == "soft" else device
    where = _device(chosen or {"soft": "npu", "auto": ""}.get(configured, configured))

    from mx_autopatch.verify.cases import CHECKS
    from mx_autopatch.verify.runner import verify

    checks = [CHECKS[name] for name in _chosen(names, CHECKS)]
    verdicts = []
    for number, check in enumerate(checks, 1):
        if sys.stderr.isatty():
            click.echo(f"\r\033[K{number}/{len(checks)} {check.name}", nl=False, err=True)
        verdicts.append(verify(check, where, seed))
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)
    if as_json:
        print_json(_json(verdicts, where, seed))
    else:
        _show(verdicts, where, seed)
    sys.exit(1 if any(verdict.failures for verdict in verdicts) else 0)


def _start_soft_npu() -> None:
    """Have the stand-in in this process, as a run with ``--device soft`` does.

    Raises:
        SoftNpuError: it cannot be had, and what to do about it.
    """
    from mx_autopatch.softnpu import runtime

    runtime.load()
    with runtime.as_installed():
        from mx_autopatch.softnpu.install import install
    install()


def _device(name: str) -> torch.device:
    """The device, once something was computed there.

    Raises:
        Fault: there is none of that name here.
    """
    try:
        import torch
    except ImportError as error:
        raise Fault(f"verify: torch cannot be imported: {error}") from None
    name = name or detect()
    try:
        device = torch.device(name)
        torch.ones(1, device=device).add(1).cpu()
    except Exception as error:  # each backend has exceptions of its own
        reason = str(error).strip().partition("\n")[0]
        raise Fault(f"verify: --device {name}: cannot be used here: {reason}") from None
    return device


def _chosen(names: tuple[str, ...], operators: Any) -> list[str]:
    """The operators that names and globs ask for, each once.

    Raises:
        Fault: there is none of that name; the message has the nearest.
    """
    chosen: dict[str, None] = {}
    for name in names or ("*",):
        plain = name.rpartition("::")[2]
        found = fnmatch.filter(operators, plain)
        if not found:
            near = did_you_mean(plain, operators)
            raise Fault(f"verify: unknown operator {name!r}{near or '; `verify` has them all'}")
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def _show(verdicts: list[Verdict], device: torch.device, seed: int) -> None:
    shown = table("operator", "cases", *_DTYPES, "kernel", "ms", "")
    for each in verdicts:
        errors = [_error(each.errors.get(dtype)) for dtype in _DTYPES]
        name = name_of(each.name)
        time = "-" if each.milliseconds is None else f"{each.milliseconds:.2f}"
        verdict = f"{len(each.failures)} failed" if each.failures else "ok"
        shown.add_row(name, str(each.cases), *errors, each.kernel or "-", time, verdict)
    out = console()
    out.print(shown)
    out.print()
    failed = [each for each in verdicts if each.failures]
    for operator, reason in _not_torchvisions(verdicts, device).items():
        out.print(f"{operator}: torchvision's kernel is not used: {reason}", soft_wrap=True)
    for each in failed:
        for failure in each.failures[:_FAILURES]:
            line = f"{each.name}, {failure.dtype}, {failure.case}: {failure.what}"
            out.print(line, soft_wrap=True)
        more = len(each.failures) - _FAILURES
        if more > 0:
            out.print(f"{each.name}: and {more} more (--json has all)", soft_wrap=True)
    cases = sum(each.cases for each in verdicts)
    said = f"{len(failed)} of them failed" if failed else "all within tolerance"
    out.print(f"{len(verdicts)} operators, {cases} cases on {device}, seed {seed}: {said}")
    out.print(
        "Errors are the largest of results and gradients, relative to the largest value, against"
        " plain loops in float64 on the CPU (mx_autopatch.verify.references; --json names each).",
        soft_wrap=True,
    )


def _not_torchvisions(verdicts: list[Verdict], device: torch.device) -> dict[str, str]:
    """Why not, by operator; none where no kernel of torchvision's was thought of."""
    from mx_autopatch.ops.torchvision_kernels import decisions

    names = {each.name for each in verdicts}
    return {
        name: reason
        for (name, kind), reason in decisions.items()
        if reason and kind == device.type and name.removesuffix("_backward") in names
    }


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}" if value else "0"


def _json(verdicts: list[Verdict], device: torch.device, seed: int) -> dict[str, Any]:
    return {
        "device": str(device),
        "seed": seed,
        "not_torchvisions": _not_torchvisions(verdicts, device),
        "operators": [
            {
                "name": each.name,
                "reference": each.reference,
                "cases": each.cases,
                "errors": each.errors,
                "kernel": each.kernel,
                "milliseconds": each.milliseconds,
                "failures": [vars(failure) for failure in each.failures],
            }
            for each in verdicts
        ],
    }

"""``status``: versions, activation, configuration, and which patches would fire here."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from rich.console import Console

import mx_autopatch
from mx_autopatch.cli import known, starters
from mx_autopatch.cli.plan import Given
from mx_autopatch.cli.source import find_spec, is_importable
from mx_autopatch.cli.terminal import console, name_of, print_json, table
from mx_autopatch.engine.config import KEYS, Config
from mx_autopatch.engine.config_keys import FrozenDict, Options
from mx_autopatch.engine.entries import PatchEntry
from mx_autopatch.engine.requires import installed
from mx_autopatch.engine.session import Session
from mx_autopatch.model import Patch, Provide, Redirect, is_pattern

__all__ = ["command"]

_DISTRIBUTIONS = (
    *("torch", "torch-npu", "torchvision", "numpy", "mmcv", "mmcv-full", "mmcv-lite", "mmengine"),
    *("mmdet", "mmsegmentation", "mmdet3d", "mmpose", "mmpretrain", "mmcls", "mx-driving"),
    *("wrapt", "importlib-metadata", "packaging", "click", "rich"),
)


@click.command(
    "status",
    short_help="Versions, activation, configuration, what would fire here.",
    help="Versions, how a process is activated, the configuration and where each value came"
    " from, and which patches would fire here.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def command(given: Given, as_json: bool) -> None:
    session = known.session_of(given)
    found: dict[str, Any] = {
        "versions": _versions(),
        "activation": _activation(),
        "config": _configuration(session.config),
        "patches": [_patch(session, *pair) for pair in known.loaded(session)],
        "problems": session.problems,
    }
    if as_json:
        print_json(found)
        return
    out = console()
    _print_versions(out, found["versions"])
    _print_activation(out, found["activation"])
    _print_configuration(out, found["config"])
    for problem in session.problems:
        out.print(f"problem: {problem}", style="yellow", soft_wrap=True)
    out.print()
    _print_patches(out, found["patches"])


# -- versions --------------------------------------------------------------------


def _versions() -> dict[str, Any]:
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "executable": sys.executable,
        "mx_autopatch": mx_autopatch.__version__,
        "location": starters.package_home(),
        **{name: installed(name) for name in _DISTRIBUTIONS},
    }


def _print_versions(out: Console, versions: dict[str, Any]) -> None:
    shown = table("", "version", "")
    shown.add_row("python", versions["python"], versions["executable"])
    shown.add_row("mx_autopatch", versions["mx_autopatch"], versions["location"])
    missing = [name for name in _DISTRIBUTIONS if versions[name] is None]
    for name in _DISTRIBUTIONS:
        if versions[name] is not None:
            shown.add_row(name, versions[name], "")
    out.print(shown)
    if missing:
        out.print(f"not installed: {', '.join(missing)}", style="dim")
    out.print()


# -- activation ------------------------------------------------------------------


def _activation() -> dict[str, Any]:
    value = os.environ.get("MX_AUTOPATCH")
    spec = find_spec("sitecustomize")
    sitecustomize = spec.origin if spec is not None else None
    ours = sitecustomize is not None and starters.is_ours(sitecustomize)
    starts = {name: starters.installed(name) for name in starters.FILES}
    return {
        "MX_AUTOPATCH": value,
        **starts,
        "sitecustomize": sitecustomize,
        "sitecustomize is ours": ours,
        "starts with python": bool(ours or any(starts.values())),
        "is set": (value or "").lower() not in ("", "0", "false", "no", "off"),
    }


def _print_activation(out: Console, found: dict[str, Any]) -> None:
    out.print("activation", style="bold")
    for name in starters.FILES:
        places = ", ".join(found[name]) or "not in this Python's site-packages"
        out.print(f"  {name}: {places}", soft_wrap=True)
    whose = " (ours)" if found["sitecustomize is ours"] else ""
    out.print(f"  sitecustomize: {found['sitecustomize'] or 'none'}{whose}", soft_wrap=True)
    value = found["MX_AUTOPATCH"]
    out.print(f"  MX_AUTOPATCH: {'not set' if value is None else value}")
    if not found["starts with python"]:
        plain = "is not patched, set or not: only `python -m mx_autopatch SCRIPT` is"
        plain += "; `mx-autopatch install` changes that"
    elif found["is set"]:
        plain = "is patched"
    else:
        plain = "is not patched; it is with MX_AUTOPATCH=1, or as `python -m mx_autopatch SCRIPT`"
    out.print(f"  so `python SCRIPT` {plain}", soft_wrap=True)
    out.print()


# -- configuration ---------------------------------------------------------------


def _configuration(config: Config) -> dict[str, Any]:
    values = {
        key.name: {
            "value": _plain(getattr(config, key.attribute)),
            "source": config.sources[key.name],
        }
        for key in KEYS
    }
    return {"path": config.path, "trusted": config.trusted, "values": values}


def _plain(value: Any) -> Any:
    """A value of the configuration in JSON's types."""
    if isinstance(value, Options):
        return _plain(value.tables)
    if isinstance(value, (dict, FrozenDict)):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)  # TOML has dates


def _print_configuration(out: Console, found: dict[str, Any]) -> None:
    path = found["path"] or "no file"
    out.print(f"configuration: {path}", style="bold", soft_wrap=True)
    shown = table("key", "value", "from")
    for name, row in found["values"].items():
        value = "" if row["value"] in (None, [], {}) else _text(row["value"])
        shown.add_row(name, value, row["source"])
    out.print(shown)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(
            " ".join(map(str, each)) if isinstance(each, list) else str(each) for each in value
        )
    return str(value)


# -- patches ---------------------------------------------------------------------


def _patch(session: Session, entry: PatchEntry, patch: Patch) -> dict[str, Any]:
    unmet = known.unmet(session, patch)
    triggers = {trigger: _fires_on(trigger, patch) for trigger in patch.triggers}
    on = session.config.selects(entry.name, entry.default)
    return {
        "name": patch.name,
        "on": on,
        "why": session.config.reason(entry.name, entry.default),
        "unmet": unmet,
        "undecided": [known.function_name(r) for r in patch.requires if not isinstance(r, str)],
        "triggers": triggers,
        "would fire": on and not unmet and any(triggers.values()),
    }


def _fires_on(trigger: str, patch: Patch) -> bool:
    """Whether an import of ``trigger`` here would get as far as the patch."""
    if is_pattern(trigger):
        return True  # any package may have such a module
    is_there = is_importable(trigger)
    edits = [edit for edit in patch.edits if edit.trigger == trigger]
    provided = [edit for edit in edits if isinstance(edit, (Provide, Redirect))]
    if not provided:
        return is_there
    # These answer for what is not there, where at least the package round it is.
    parent = trigger.rpartition(".")[0]
    always = any(isinstance(edit, Redirect) and not edit.if_missing for edit in provided)
    return (always or not is_there) and (not parent or is_importable(parent))


def _print_patches(out: Console, patches: list[dict[str, Any]]) -> None:
    shown = table("patch", "would fire", "why")
    for row in patches:
        fires = row["would fire"]
        shown.add_row(name_of(row["name"]), "yes" if fires else "no", _reason(row))
    out.print(shown)


def _reason(row: dict[str, Any]) -> str:
    if not row["on"]:
        return str(row["why"]).partition(" is ")[2]
    if row["unmet"]:
        return str(row["unmet"])
    there = [name for name, is_there in row["triggers"].items() if is_there]
    if not there:
        return f"nothing to patch here: {', '.join(row['triggers'])}"
    text = f"at the import of {', '.join(there)}"
    return text + "".join(f", if {name}" for name in row["undecided"])

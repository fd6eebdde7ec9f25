"""What the children of a run inherit: the options, the activation, a way to find us."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mx_autopatch.cli import starters
from mx_autopatch.cli.plan import Given
from mx_autopatch.engine.config_keys import KEYS

__all__ = ["clear", "inherit"]


def clear(overrides: Mapping[str, Any]) -> None:
    """Take away the variables that an option of the command line overrules."""
    for key in KEYS:
        if overrides.get(key.name) is not None:
            for variable in key.variables:
                os.environ.pop(variable, None)


def inherit(given: Given, path: str | None) -> None:
    """Put the activation and the options of the command line into the environment.

    ``path``: the configuration in force, named to the children wherever they look for
    theirs. The null device, which says "none", has no path.
    """
    os.environ["MX_AUTOPATCH"] = "1"
    if path is not None or given.config is not None:
        os.environ["MX_AUTOPATCH_CONFIG"] = path or os.devnull
    for key in KEYS:
        value = given.overrides.get(key.name)
        if value is not None:
            os.environ[key.variables[-1]] = _text(value)
    if not starters.installed():
        # It finds the package by itself, and runs the sitecustomize that it hides.
        ours, theirs = starters.sitecustomize_folder(), os.environ.get("PYTHONPATH")
        if theirs is None or ours not in theirs.split(os.pathsep):
            os.environ["PYTHONPATH"] = ours + (os.pathsep + theirs if theirs else "")


def _text(value: Any) -> str:
    if value is True:
        return "1"
    return value if isinstance(value, str) else ",".join(value)

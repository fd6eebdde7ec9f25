"""Profiles some steps of a training, and ends it cleanly after a given one.

A *step* is a training iteration of a runner (mmengine, mmcv 1.x), which may be one of
several that a gradient is accumulated over; in a plain loop it is a step of the outermost
optimizer. Steps are counted from 1, and from where this process began: a resumed run and
a new one stop after the same number of steps. Every rank counts for itself, and since all
of them take the same steps, all stop at the same one.

What is wanted comes from the keys ``profile.*`` and ``brake`` of the configuration, or
from :func:`configure`. Three patches, ``torch.training_steps``, ``mmengine.training_steps``
and ``mmcv.training_steps``, report the steps; they do nothing where neither is set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mx_autopatch.profiling.brake import Brake
from mx_autopatch.profiling.checks import PATCHES, without_effect

__all__ = ["PATCHES", "Brake", "configure"]


def configure(profile: Mapping[str, Any] | None = None, brake: int | None = None) -> None:
    """Say what to profile and where to stop, over what the configuration says.

    It takes effect at once, for runners and optimizers that are used from now on, and the
    count of steps begins anew. Processes that this one starts do not hear of it.

    Args:
        profile: Keys of ``profile.*`` without that prefix (``{"path": "traces", "level":
            1}``); those left out have their defaults. None: nothing is recorded.
        brake: The step after which the program ends, 0 for before the first one. None: it
            goes on.

    Raises:
        ConfigError: a key is unknown, or a value is not valid; nothing is changed then.
        PatchError: mx_autopatch is not active.
    """
    from mx_autopatch import bootstrap
    from mx_autopatch.errors import ConfigError
    from mx_autopatch.profiling import state
    from mx_autopatch.profiling.progress import complain
    from mx_autopatch.profiling.settings import Profile

    who = "profiling.configure()"
    if profile is not None and not profile.get("path"):
        raise ConfigError(f"{who}: profile: 'path' is missing: where shall the traces go?")
    # None, for keys that are not given: the default.
    given = {**dict.fromkeys(Profile.__annotations__), **(profile or {})}
    if isinstance(given["path"], os.PathLike):
        given["path"] = os.fspath(given["path"])
    values = {"brake": brake, **{f"profile.{name}": value for name, value in given.items()}}
    if profile is None and brake is None and bootstrap.active() is None:
        return  # nothing was going on
    config = bootstrap.reconfigure(values, who)
    state.follow(config, anew=True)
    if profile is not None or brake is not None:
        bootstrap.reconsider(PATCHES)
        for text in without_effect(config):
            complain(text)

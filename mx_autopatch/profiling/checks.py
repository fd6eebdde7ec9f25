"""What a configuration says of training steps, and what then has no effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mx_autopatch.profiling.settings import Profile

__all__ = ["PATCHES", "without_effect"]

#: The patches that report steps.
PATCHES = ("mmcv.training_steps", "mmengine.training_steps", "torch.training_steps")


def without_effect(config: Any) -> Iterator[str]:
    """One sentence, with its source, for each thing that was said in vain.

    Args:
        config: An ``mx_autopatch.engine.config.Config``.
    """
    given = [name for name in ("brake", "profile.path") if config.configures(name) is True]
    for name in Profile.__annotations__:
        source = config.sources[f"profile.{name}"]
        if source != "default" and "profile.path" not in given and name != "path":
            yield f"{source}: profile.{name} has no effect without profile.path"
    # To disable them is to say so; to list others may be an oversight.
    missing = [
        name for name in PATCHES if name not in config.disable and not config.selects(name, True)
    ]
    if given and config.only and missing:
        yield (
            f"{config.sources['patches.only']}: patches.only does not name {', '.join(missing)}, "
            f"by which {' and '.join(given)} would work; add '*.training_steps'"
        )

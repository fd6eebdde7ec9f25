"""What is to be recorded, and where to stop: the configuration's keys, made usable."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import Any

__all__ = ["Phase", "Profile", "Settings"]


class Phase(enum.Enum):
    """What the profiler does during one step."""

    IDLE = "idle"
    WARMUP = "warmup"  # it runs, and what it sees is thrown away
    RECORD = "record"
    SAVE = "save"  # recorded, and the last one of its trace

    @property
    def records(self) -> bool:
        return self in (Phase.RECORD, Phase.SAVE)


@dataclass(frozen=True)
class Profile:
    """``profile.*`` of the configuration, which documents each key."""

    path: str  # {pid} and {rank} are filled in when something is written
    level: int
    wait: int
    warmup: int
    active: int
    repeat: int
    skip_first: int
    with_memory: bool
    export: str

    def phase(self, step: int) -> Phase:
        """The phase of a step, counted from 1."""
        position = step - 1 - self.skip_first
        cycle = self.wait + self.warmup + self.active
        if position < 0 or (self.repeat and position >= self.repeat * cycle):
            return Phase.IDLE
        position %= cycle
        if position < self.wait:
            return Phase.IDLE
        if position < self.wait + self.warmup:
            return Phase.WARMUP
        return Phase.SAVE if position == cycle - 1 else Phase.RECORD

    @property
    def first(self) -> int:
        """The first step that is recorded."""
        return self.skip_first + self.wait + self.warmup + 1

    @property
    def last(self) -> int | None:
        """The last step that is recorded; None if there is no last one."""
        if not self.repeat:
            return None
        return self.skip_first + self.repeat * (self.wait + self.warmup + self.active)


@dataclass(frozen=True)
class Settings:
    """What is wanted of this run."""

    profile: Profile | None
    brake: int | None

    @classmethod
    def of(cls, config: Any) -> Settings:
        """Those of a configuration (``mx_autopatch.engine.config.Config``)."""
        if not config.profile_path:
            return cls(None, config.brake)
        # In full from the start, since the program may change its working directory.
        path = os.path.abspath(config.profile_path)
        fields = {name: getattr(config, f"profile_{name}") for name in Profile.__annotations__}
        return cls(Profile(**{**fields, "path": path}), config.brake)

    @property
    def end(self) -> int | None:
        """The step after which the run ends, None if that is not ours to say.

        With both a profile and a brake it is the step that completes the last trace, if
        that comes before the brake.
        """
        last = self.profile.last if self.profile is not None else None
        if self.brake is None or last is None:
            return self.brake
        return min(self.brake, last)

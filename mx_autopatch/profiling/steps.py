"""Counts the steps of a run."""

from __future__ import annotations

from typing import NoReturn

from mx_autopatch.profiling.brake import Brake, at_exit, end_workers, leave_group_at_exit
from mx_autopatch.profiling.progress import Progress
from mx_autopatch.profiling.recorder import Recorder
from mx_autopatch.profiling.settings import Profile, Settings

__all__ = ["Steps"]


class Steps:
    """The steps of one run: how many there were, what is recorded of them, when to stop.

    Whoever reports steps (a runner's hook, the hook of all optimizers) calls :meth:`begin`
    when training begins or goes on, and :meth:`end` when a step has ended.
    """

    def __init__(self, settings: Settings, progress: Progress | None = None) -> None:
        self.settings = settings
        self.count = 0
        #: Whether a runner reports steps, and optimizers do not.
        self.by_runner = False
        self._progress = progress or Progress()
        profile = settings.profile
        self._recorder = Recorder(profile, self._progress) if profile else None
        self._begun = False

    @property
    def over(self) -> bool:
        """Whether no further step is to be taken."""
        end = self.settings.end
        return end is not None and self.count >= end

    def begin(self) -> None:
        """What comes now belongs to the next step."""
        if not self._begun:
            self._begun = True
            self._progress.say(self._plan())
            if self._recorder is not None:
                at_exit(self.close)  # registered after torch_npu's own, hence called before it
        if self._recorder is not None:
            self._recorder.begin(self.count + 1)

    def hold(self) -> None:
        """What comes now belongs to no step."""
        if self._recorder is not None:
            self._recorder.hold()

    def end(self) -> None:
        """A step has ended."""
        self.count += 1
        if self._recorder is not None:
            self._recorder.end(self.count)
        if not self.over:
            target = self._target()
            if target:
                self._progress.step(self.count, target)

    def close(self) -> None:
        """No step follows: what is being recorded is written."""
        if self._recorder is not None and self._begun:
            self._recorder.close()

    def stop(self) -> NoReturn:
        """End the program here, with what belongs to it.

        Raises:
            Brake: always.
        """
        self.close()
        end_workers()
        leave_group_at_exit()
        brake = self.settings.brake
        where = f"after step {self.count}" if self.count else "before the first step"
        why = "" if self.count == brake else "the profile is written; "
        self._progress.say(f"stopped {where} ({why}brake = {brake})")
        raise Brake(self.count)

    def _target(self) -> str:
        """What the run is on its way to; empty if to nothing of ours."""
        profile, end = self.settings.profile, self.settings.end
        text = f" of {end}" if end is not None else ""
        if profile is not None and self.count < profile.first <= (end or profile.first):
            text += f"; step {profile.first} is the first to be recorded"
        return text

    def _plan(self) -> str:
        profile, brake, end = self.settings.profile, self.settings.brake, self.settings.end
        parts = []
        if profile is not None:
            parts.append(f"records {_recorded(profile)} into {profile.path}")
            if end is not None and end < profile.first:
                parts[0] += f", which brake = {brake} comes before"
        if end is not None:
            parts.append(f"stops after step {end}" if end else "stops before the first step")
        return "; ".join(parts)


def _recorded(profile: Profile) -> str:
    first, last = profile.first, profile.last
    if last is None:
        return f"steps from {first} on"
    traces = f" in {profile.repeat} traces" if profile.repeat > 1 else ""
    return f"step {first}" if first == last else f"steps {first} to {last}{traces}"

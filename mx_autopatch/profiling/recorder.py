"""Records the steps that a profile asks for, a trace for each of its cycles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mx_autopatch.profiling import tools
from mx_autopatch.profiling.progress import Progress, complain
from mx_autopatch.profiling.settings import Phase, Profile

__all__ = ["Recorder"]


class Recorder:
    """Follows the steps of a run, and has a profiler running during some of them.

    A profiler is there from the first step of its warm-up to the end of its last one. What
    goes wrong in it is said once, and ends the recording, never the run.
    """

    def __init__(self, profile: Profile, progress: Progress) -> None:
        self._profile = profile
        self._progress = progress
        self._tool: tools.Tool | None = None
        self._step = 1  # that is about to begin, or has begun
        self._recorded: list[int] = []  # in the trace that is being made
        self._written = 0
        self._broken = False
        self._remarked = False
        self._missed = False  # whether it was told that nothing was recorded

    def begin(self, step: int) -> None:
        """Whatever comes now belongs to this step."""
        self._step = step
        if self._tool is None and self._phase() is not Phase.IDLE:
            self._try(self._start)

    def end(self, step: int) -> None:
        """The step has ended; the next begins."""
        phase = self._phase()
        if self._tool is not None:
            if phase.records:
                self._recorded.append(step)
            self._step = step + 1
            self._try(self._save if phase is Phase.SAVE else self._tool.step)
        self.begin(step + 1)

    def hold(self) -> None:
        """What comes now belongs to no step, such as a validation, until one begins.

        A trace of which no step has been recorded yet begins after it; another one goes on.
        """
        tool = self._tool
        if tool is not None and not self._recorded:
            self._tool = None
            self._try(tool.discard)

    def close(self) -> None:
        """The run ends. Writes what there is of a trace, and says so if there is none."""
        tool = self._tool
        if tool is not None and self._recorded:
            self._tool = None
            self._try(lambda: self._cut_off(tool))
        self.hold()
        if not (self._written or self._broken or self._missed):
            self._missed = True
            self._progress.say(
                f"profile: nothing was recorded: the run ended after step {self._step - 1}, "
                f"and step {self._profile.first} is the first to be recorded"
            )

    def _phase(self) -> Phase:
        return Phase.IDLE if self._broken else self._profile.phase(self._step)

    def _start(self) -> None:
        self._recorded = []
        self._tool = tools.make(self._profile, self._phase, self._step)
        if self._tool.remark and not self._remarked:
            self._remarked = True
            complain(self._tool.remark)

    def _save(self) -> None:
        tool, self._tool = self._tool, None
        assert tool is not None
        tool.finish()
        self._say_written(tool)

    def _cut_off(self, tool: tools.Tool) -> None:
        tool.cut_off()
        self._say_written(tool, ", where the run ended")

    def _say_written(self, tool: tools.Tool, where: str = "") -> None:
        first, last = self._recorded[0], self._recorded[-1]
        steps = f"{first}" if first == last else f"{first}-{last}"
        path = tool.export(f"step{steps}")
        self._written += 1
        self._recorded = []
        self._progress.say(f"profile: step {steps} recorded{where}: {path}")

    def _try(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:
            self._broken, self._tool = True, None
            complain(f"profile: recording ended: {type(error).__name__}: {error}")

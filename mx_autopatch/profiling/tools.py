"""The profilers of torch and torch_npu, driven step by step."""

from __future__ import annotations

import os
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mx_autopatch.profiling.progress import rank
from mx_autopatch.profiling.settings import Phase, Profile

__all__ = ["Tool", "make"]


class Tool(ABC):
    """A profiler for one trace.

    Args:
        profile: What to record.
        phase: Answers what the step that is about to begin is for.
        step: The number of the first step that it sees.
    """

    #: The library's module.
    library: Any
    #: What a user should know of what it records.
    remark = ""

    def __init__(self, profile: Profile, phase: Callable[[], Phase], step: int) -> None:
        self.profile = profile
        self._over = False
        self._saving = True
        actions = {
            Phase.IDLE: self.library.ProfilerAction.NONE,
            Phase.WARMUP: self.library.ProfilerAction.WARMUP,
            Phase.RECORD: self.library.ProfilerAction.RECORD,
            Phase.SAVE: self.library.ProfilerAction.RECORD_AND_SAVE,
        }
        self._profiler = self.library.profile(
            activities=self._activities(),
            # Asked at each step; its own number for that step plays no part.
            schedule=lambda number: actions[Phase.IDLE if self._over else phase()],
            on_trace_ready=self._on_trace_ready(),
            record_shapes=profile.level >= 1,
            profile_memory=profile.with_memory,
            with_stack=profile.level >= 2,
            **self._more(),
        )
        self._profiler.step_num = step  # for the names of the marks in the trace
        self._profiler.__enter__()

    def step(self) -> None:
        """A step has ended, and the next one of the same trace begins."""
        self._profiler.step()

    def finish(self) -> None:
        """The last step of the trace has ended."""
        self._over = True
        self._profiler.step()
        self._stop()

    def cut_off(self) -> None:
        """Stop before the last step; what was recorded is kept."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that is for those who did not mean to
            self._stop()

    def discard(self) -> None:
        """Stop, and throw away what was recorded."""
        self._saving = False
        self.cut_off()

    def _stop(self) -> None:
        self._profiler.__exit__(None, None, None)

    @abstractmethod
    def export(self, name: str) -> str:
        """Make sure that the trace is written, and return where.

        Args:
            name: What to call a single file: ``step21``.
        """

    @abstractmethod
    def _activities(self) -> list[Any]: ...

    @abstractmethod
    def _on_trace_ready(self) -> Callable[[Any], None] | None: ...

    def _more(self) -> dict[str, Any]:
        return {}

    def _chrome(self, name: str) -> str:
        os.makedirs(self.profile.path, exist_ok=True)
        path = os.path.join(self.profile.path, f"rank{rank()}-{name}.json")
        self._profiler.export_chrome_trace(path)
        return path


class TorchTool(Tool):
    """torch.profiler: the CPU, CUDA, XPU, whatever it supports here."""

    def __init__(self, profile: Profile, phase: Callable[[], Phase], step: int) -> None:
        from torch import profiler

        self.library = profiler
        super().__init__(profile, phase, step)

    def _activities(self) -> list[Any]:
        host = self.library.ProfilerActivity.CPU
        supported = self.library.supported_activities()
        if self.profile.level >= 1:
            return list(supported)
        devices = [activity for activity in supported if activity != host]
        if not devices:
            self.remark = "profile.level = 0: there is no device here; the CPU is recorded instead"
        return devices or [host]

    def _on_trace_ready(self) -> None:
        # The trace stays available until another one begins.
        return None

    def export(self, name: str) -> str:
        if self.profile.export == "chrome":
            return self._chrome(name)
        before = _listing(self.profile.path)
        handler = self.library.tensorboard_trace_handler(self.profile.path, f"rank{rank()}")
        handler(self._profiler)
        return _new(self.profile.path, before, f"rank{rank()}.")


class NpuTool(Tool):
    """torch_npu.profiler, which knows the CPU and the NPU."""

    def __init__(self, profile: Profile, phase: Callable[[], Phase], step: int) -> None:
        from torch_npu import profiler

        self.library = profiler
        super().__init__(profile, phase, step)

    def _activities(self) -> list[Any]:
        kind = self.library.ProfilerActivity
        if self.profile.level >= 1:
            return [kind.CPU, kind.NPU]
        if "mx_autopatch.softnpu.install" in sys.modules:
            self.remark = "profile.level = 0: the soft NPU's work is the CPU's, which is recorded"
            return [kind.CPU, kind.NPU]
        return [kind.NPU]

    def _more(self) -> dict[str, Any]:
        level, metrics = self.library.ProfilerLevel, self.library.AiCMetrics
        if self.profile.level == 0:  # at that level it knows no metrics
            config = self.library._ExperimentalConfig(level.Level0, metrics.AiCoreNone)
        else:
            config = self.library._ExperimentalConfig(level.Level1)
        return {"experimental_config": config}

    def _on_trace_ready(self) -> Callable[[Any], None] | None:
        if self.profile.export == "chrome":
            return None  # where there is none, the raw data go to a temporary folder
        # It has to be there before the profiler starts: it says where the raw data go.
        handler = self.library.tensorboard_trace_handler(self.profile.path, f"rank{rank()}")

        def ready(profiler: Any) -> None:
            if self._saving:
                handler(profiler)

        return ready

    def discard(self) -> None:
        super().discard()
        if os.path.isdir(self._profiler.prof_if.prof_path):  # not while it was warming up
            self._profiler.prof_if.delete_prof_dir()

    def export(self, name: str) -> str:
        if self.profile.export == "chrome":
            path = self._chrome(name)
        else:
            folder = self._profiler.prof_if.prof_path
            path = os.path.join(folder, "ASCEND_PROFILER_OUTPUT", "trace_view.json")
        if not os.path.exists(path):  # it reports its errors as text alone
            raise OSError(f"torch_npu.profiler wrote no {path}")
        return path


def make(profile: Profile, phase: Callable[[], Phase], step: int) -> Tool:
    """A running profiler, of torch_npu where there is an NPU, else of torch."""
    # Not before: a process may learn its rank late.
    path = profile.path.replace("{pid}", str(os.getpid())).replace("{rank}", str(rank()))
    profile = replace(profile, path=path)
    npu = getattr(sys.modules.get("torch"), "npu", None)
    if "torch_npu" in sys.modules and npu is not None and npu.is_available():
        return NpuTool(profile, phase, step)
    return TorchTool(profile, phase, step)


def _listing(folder: str) -> set[str]:
    return set(os.listdir(folder)) if os.path.isdir(folder) else set()


def _new(folder: str, before: set[str], prefix: str) -> str:
    """The file that has come into ``folder``; other ranks may write there too."""
    new = [name for name in _listing(folder) - before if name.startswith(prefix)]
    return os.path.join(folder, new[0] if new else "")

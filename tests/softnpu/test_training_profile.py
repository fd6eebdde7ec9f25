"""Profiles of training steps on the soft NPU, by torch_npu's own profiler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
import torch_npu
from torch.autograd.profiler import record_function

from mx_autopatch.profiling.progress import Progress
from mx_autopatch.profiling.recorder import Recorder
from mx_autopatch.profiling.settings import Profile

Start = Callable[..., Any]


@pytest.fixture
def train(engine: Start, tmp_path: Path) -> Callable[..., list[Path]]:
    """Train with these keys of ``profile``; what was written below its path."""

    def run(**options: Any) -> list[Path]:
        torch.set_num_threads(1)
        folder = tmp_path / "traces"
        settings = {f"profile__{name}": value for name, value in options.items()}
        engine(patches__only=["*.training_steps"], profile__path=str(folder), **settings)
        weight = torch.nn.Parameter(torch.ones(3, device="npu"))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for iteration in range(1, 9):
            with record_function(f"iteration {iteration}"):
                (weight * 2).sum().backward()
            optimizer.step()
        return sorted(folder.iterdir())

    return run


def events(trace: Path) -> list[dict[str, Any]]:
    content: Any = json.loads(trace.read_text())
    found: list[dict[str, Any]] = content if isinstance(content, list) else content["traceEvents"]
    return found


def marks(trace: Path) -> set[str]:
    names = {event["name"] for event in events(trace)}
    return {name for name in names if name.startswith(("iteration", "ProfilerStep"))}


@pytest.mark.parametrize("level", [1, 2])
def test_the_recorded_steps_alone(train: Any, tmp_path: Path, level: int) -> None:
    (folder,) = train(skip_first=2, active=2, level=level, with_memory=True)
    assert folder.name.startswith("rank0_")
    assert folder.name.endswith("_ascend_pt")
    output = folder / "ASCEND_PROFILER_OUTPUT"
    assert {"iteration 5", "iteration 6"} <= marks(output / "trace_view.json")
    assert not {"iteration 4", "iteration 7"} & marks(output / "trace_view.json")
    assert len((output / "memory_record.csv").read_text().splitlines()) > 1
    names = {event["name"] for event in events(output / "trace_view.json")}
    assert "aten::mul" in names
    (information,) = folder.glob("profiler_info*.json")
    common = json.loads(information.read_text())["config"]["common_config"]
    assert (common["with_stack"], common["record_shapes"]) == (level == 2, True)


def test_two_cycles_are_two_traces(train: Any) -> None:
    first, second = train(skip_first=0, wait=0, active=1, repeat=2, level=1)
    for folder, step in ((first, 2), (second, 4)):
        found = marks(folder / "ASCEND_PROFILER_OUTPUT" / "trace_view.json")
        assert f"iteration {step}" in found
        assert len([name for name in found if name.startswith("iteration")]) == 1


def test_one_file(train: Any, tmp_path: Path) -> None:
    (trace,) = train(skip_first=2, level=1, export="chrome")
    assert trace.name == "rank0-step5.json"
    assert {name for name in marks(trace) if name.startswith("iter")} == {"iteration 5"}


def test_level_0_records_the_cpu_where_the_device_is_one(
    train: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder,) = train(skip_first=2)
    assert "iteration 5" in marks(folder / "ASCEND_PROFILER_OUTPUT" / "trace_view.json")
    assert "profile.level = 0: the soft NPU's work is the CPU's" in capsys.readouterr().err
    (information,) = folder.glob("profiler_info*.json")
    experimental = json.loads(information.read_text())["config"]["experimental_config"]
    assert experimental["_profiler_level"] == torch_npu.profiler.ProfilerLevel.Level0
    assert experimental["_aic_metrics"] == torch_npu.profiler.AiCMetrics.AiCoreNone


@pytest.mark.parametrize("warmup", [0, 1], ids=["recording", "warming up"])
def test_what_was_recorded_before_a_validation_is_thrown_away(tmp_path: Path, warmup: int) -> None:
    folder = tmp_path / "traces"
    profile = Profile(str(folder), 1, 0, warmup, 1, 1, 0, False, "tensorboard")
    recorder = Recorder(profile, Progress())
    recorder.begin(1)
    assert len(list(folder.iterdir())) == 1
    recorder.hold()
    assert list(folder.iterdir()) == []
    with record_function("iteration of a validation"):
        torch.ones(1, device="npu") * 2
    recorder.begin(1)
    for step in range(1, 3):
        with record_function(f"iteration {step}"):
            torch.ones(1, device="npu") * 2
        recorder.end(step)
    (trace,) = folder.glob("*/ASCEND_PROFILER_OUTPUT/trace_view.json")
    found = {name for name in marks(trace) if name.startswith("iteration")}
    assert found == {f"iteration {1 + warmup}"}

"""Profilers run on the soft NPU, and record the CPU's side of a program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_npu
from torch import npu
from torch.autograd.profiler import record_function


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)  # torch_npu's profiler makes folders where it runs


def step() -> None:
    with record_function("a step"):
        (torch.ones(3, device="npu") * 2).sum().item()


def names(path: Path) -> set[str]:
    content: Any = json.loads(path.read_text())
    events = content if isinstance(content, list) else content["traceEvents"]
    return {event["name"] for event in events}


def test_torch_npu_profiler_with_a_schedule(tmp_path: Path) -> None:
    profiler = torch_npu.profiler
    activities = profiler.ProfilerActivity
    with profiler.profile(
        activities=[activities.CPU, activities.NPU],
        schedule=profiler.schedule(wait=1, warmup=1, active=1, repeat=1),
        on_trace_ready=profiler.tensorboard_trace_handler(str(tmp_path / "board")),
        record_shapes=True,
        profile_memory=True,
        with_stack=True,
    ) as profile:
        for _ in range(3):
            step()
            profile.step()
    (trace,) = tmp_path.glob("board/*/ASCEND_PROFILER_OUTPUT/trace_view.json")
    found = names(trace)
    assert "a step" in found
    assert "aten::mul" in found
    assert any(name.startswith("ProfilerStep") for name in found)
    (memory,) = tmp_path.glob("board/*/ASCEND_PROFILER_OUTPUT/memory_record.csv")
    assert len(memory.read_text().splitlines()) > 1


def test_torch_npu_profiler_writes_a_chrome_trace(tmp_path: Path) -> None:
    profiler = torch_npu.profiler
    with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as profile:
        step()
    profile.export_chrome_trace(str(tmp_path / "trace.json"))
    assert {"a step", "aten::mul"} <= names(tmp_path / "trace.json")


@pytest.mark.parametrize("device", [False, True], ids=["CPU", "CPU and device"])
def test_torch_profiler(tmp_path: Path, device: bool) -> None:
    activity = torch.profiler.ProfilerActivity
    activities = [activity.CPU, activity.PrivateUse1] if device else [activity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    profile.export_chrome_trace(str(tmp_path / "trace.json"))
    assert {"a step", "aten::mul"} <= names(tmp_path / "trace.json")
    assert "aten::mul" in profile.key_averages().table(sort_by="cpu_time_total")


@pytest.mark.filterwarnings("ignore:.*use_device")
def test_autograd_profiler() -> None:
    with torch.autograd.profiler.profile(use_device="npu") as profile:
        step()
    assert "aten::mul" in {event.key for event in profile.key_averages()}


def test_marks_are_taken() -> None:
    identity = npu.mstx.range_start("a range", npu.current_stream())
    npu.mstx.range_end(identity)
    npu.mstx.mark("a mark")
    npu.mstx.mstx_range("a function")(step)()

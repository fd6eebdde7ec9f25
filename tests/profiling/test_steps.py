"""Which steps are recorded, where a run ends, and what is said of it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerAction

from mx_autopatch.engine.config import load
from mx_autopatch.profiling import Brake, progress
from mx_autopatch.profiling.progress import Progress
from mx_autopatch.profiling.settings import Phase, Profile, Settings
from mx_autopatch.profiling.steps import Steps

counts = st.integers(0, 4)
ACTIONS = {
    Phase.IDLE: ProfilerAction.NONE,
    Phase.WARMUP: ProfilerAction.WARMUP,
    Phase.RECORD: ProfilerAction.RECORD,
    Phase.SAVE: ProfilerAction.RECORD_AND_SAVE,
}


def profile(
    wait: int = 1, warmup: int = 1, active: int = 1, repeat: int = 1, skip: int = 18
) -> Any:
    return Profile("traces", 0, wait, warmup, active, repeat, skip, False, "tensorboard")


@given(wait=counts, warmup=counts, active=st.integers(1, 4), repeat=counts, skip=counts)
def test_the_phases_are_those_of_torch(
    wait: int, warmup: int, active: int, repeat: int, skip: int
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of no warm-up
        schedule = torch.profiler.schedule(
            wait=wait, warmup=warmup, active=active, repeat=repeat, skip_first=skip
        )
    ours = profile(wait, warmup, active, repeat, skip)
    steps = range(1, 60)
    assert [ACTIONS[ours.phase(step)] for step in steps] == [schedule(step - 1) for step in steps]
    recorded = [step for step in steps if ours.phase(step).records]
    assert recorded[0] == ours.first
    if repeat:
        assert recorded[-1] == ours.last
    else:
        assert ours.last is None


def test_the_defaults_record_step_21(tmp_path: Path) -> None:
    config = load(overrides={"profile.path": "x"}, script="", cwd=str(tmp_path), environ={})
    ours = Settings.of(config).profile
    assert ours is not None
    assert [step for step in range(1, 200) if ours.phase(step).records] == [21]
    assert Settings.of(load(script="", cwd=str(tmp_path), environ={})) == Settings(None, None)


@pytest.mark.parametrize(
    ("settings", "end"),
    [
        (Settings(None, None), None),
        (Settings(None, 0), 0),
        (Settings(None, 7), 7),
        (Settings(profile(), None), None),
        (Settings(profile(), 7), 7),
        (Settings(profile(), 21), 21),
        (Settings(profile(), 100), 21),
        (Settings(profile(repeat=0), 100), 100),
        (Settings(profile(repeat=2, active=3), 100), 28),
    ],
)
def test_where_a_run_ends(settings: Settings, end: int | None) -> None:
    assert settings.end == end


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_progress_is_told_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    steps = Steps(Settings(None, 100), Progress(interval=10))
    steps.begin()
    for _ in range(30):
        steps.end()
        now += 1
    assert said(capsys) == [
        "mx_autopatch: stops after step 100",
        "mx_autopatch: step 1 of 100",
        "mx_autopatch: step 11 of 100",
        "mx_autopatch: step 21 of 100",
    ]


def test_the_way_to_a_profile_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Steps(Settings(profile(skip=3), None), Progress(interval=0))
    monkeypatch.setattr(steps, "_recorder", None)
    for _ in range(8):
        steps.end()
    first = "step 6 is the first to be recorded"
    assert said(capsys) == [f"mx_autopatch: step {step}; {first}" for step in range(1, 6)]


def test_other_ranks_are_silent_save_for_troubles(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "3")
    steps = Steps(Settings(None, 2), Progress(interval=0))
    steps.begin()
    steps.end()
    with pytest.raises(Brake):
        steps.stop()
    assert said(capsys) == []
    progress.complain("it cannot be written")
    assert said(capsys) == ["mx_autopatch: rank 3: it cannot be written"]


def test_a_closed_stderr_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    progress.complain("nobody hears it")

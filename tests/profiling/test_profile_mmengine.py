"""What is recorded of a training by mmengine's runners."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest
from small_training import make_runner, marks

from mx_autopatch.profiling import Brake

ITER = {"by_epoch": False, "max_iters": 24}
EPOCH = {"by_epoch": True, "max_epochs": 6}

Start = Callable[..., Any]


@pytest.fixture
def start(engine: Start, tmp_path: Path) -> Start:
    def activate(**settings: Any) -> Any:
        keys: dict[str, Any] = {"patches__only": ["*.training_steps"]}
        keys["profile__path"] = str(tmp_path / "traces")
        for name, value in settings.items():
            keys[name if name == "brake" else f"profile__{name}"] = value
        return engine(**keys)

    return activate


def traces(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "traces").iterdir()) if (tmp_path / "traces").exists() else []


@pytest.mark.parametrize("train_cfg", [ITER, EPOCH], ids=["by iteration", "by epoch"])
def test_step_21_without_further_options(
    start: Start, tmp_path: Path, train_cfg: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    start()
    runner = make_runner(tmp_path, f"default_{train_cfg['by_epoch']}", dict(train_cfg))
    runner.train()
    assert runner.witness.steps == 24  # it goes on
    (trace,) = traces(tmp_path)
    assert trace.name.startswith("rank0.")
    assert trace.name.endswith(".pt.trace.json")  # as TensorBoard's plugin looks for it
    assert marks(trace) == ["train 21"]
    events = json.loads(trace.read_text())["traceEvents"]
    steps = {e["name"] for e in events if e["name"].startswith("ProfilerStep")}
    assert steps == {"ProfilerStep#21"}
    said = capsys.readouterr().err
    assert f"records step 21 into {tmp_path / 'traces'}" in said
    assert f"profile: step 21 recorded: {trace}" in said


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ({"skip_first": 0, "wait": 0, "warmup": 0, "active": 1}, [[1]]),
        ({"skip_first": 2, "wait": 0, "warmup": 0, "active": 2}, [[3, 4]]),
        ({"skip_first": 1, "wait": 1, "warmup": 1, "active": 2, "repeat": 2}, [[4, 5], [8, 9]]),
        ({"skip_first": 0, "wait": 0, "warmup": 1, "active": 1, "repeat": 3}, [[2], [4], [6]]),
        ({"skip_first": 9, "wait": 0, "warmup": 1, "active": 1, "repeat": 0}, [[11]]),
    ],
    ids=["the first", "no warm-up", "two cycles", "cycles without a break", "until the end"],
)
def test_which_steps(
    start: Start, tmp_path: Path, options: dict[str, int], recorded: list[list[int]]
) -> None:
    start(**options, export="chrome")
    name = "which_" + "_".join(map(str, options.values()))
    make_runner(tmp_path, name, {"by_epoch": True, "max_epochs": 3}).train()
    found = {trace.name: marks(trace) for trace in traces(tmp_path)}
    assert found == {
        f"rank0-step{'-'.join(map(str, dict.fromkeys((steps[0], steps[-1]))))}.json": [
            f"train {step}" for step in steps
        ]
        for steps in recorded
    }


@pytest.mark.parametrize(
    "train_cfg",
    [{**ITER, "val_begin": 1, "val_interval": 4}, {**EPOCH, "val_begin": 1}],
    ids=["by iteration", "by epoch"],
)
def test_validation_before_the_step_is_not_recorded(
    start: Start, tmp_path: Path, train_cfg: dict[str, Any]
) -> None:
    start()  # validation comes after step 20, and after step 24
    make_runner(tmp_path, f"validation_{train_cfg['by_epoch']}", train_cfg).train()
    (trace,) = traces(tmp_path)
    assert marks(trace) == ["train 21"]


def test_validation_during_the_warm_up_is_not_recorded(start: Start, tmp_path: Path) -> None:
    start(skip_first=3)  # wait 4, warm up 5
    make_runner(tmp_path, "warm", {**ITER, "val_begin": 1, "val_interval": 5}).train()
    (trace,) = traces(tmp_path)
    assert marks(trace) == ["train 6"]


def test_validation_between_two_recorded_steps_is(start: Start, tmp_path: Path) -> None:
    start(skip_first=1, active=2)
    make_runner(tmp_path, "between", {**ITER, "val_begin": 1, "val_interval": 4}).train()
    (trace,) = traces(tmp_path)
    assert marks(trace) == ["train 4", "val", "val", "train 5"]


@pytest.mark.parametrize(("brake", "steps"), [(21, 21), (23, 21)], ids=["at it", "after it"])
def test_with_a_brake_it_ends_when_the_trace_is_written(
    start: Start, tmp_path: Path, brake: int, steps: int
) -> None:
    start(brake=brake)
    runner = make_runner(tmp_path, f"both_{brake}", dict(EPOCH))
    with pytest.raises(Brake):
        runner.train()
    assert runner.witness.seen[-3:] == [
        ("after_train_iter", steps - 1),
        ("after_train", steps),
        ("after_run", steps),
    ]
    (trace,) = traces(tmp_path)
    assert marks(trace) == ["train 21"]


def test_a_brake_before_it(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(brake=3)
    with pytest.raises(Brake):
        make_runner(tmp_path, "before", dict(EPOCH)).train()
    assert traces(tmp_path) == []
    said = capsys.readouterr().err
    assert "which brake = 3 comes before; stops after step 3" in said
    assert "nothing was recorded: the run ended after step 3, and step 21 is the first" in said


def test_a_brake_during_the_warm_up(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(brake=20)
    with pytest.raises(Brake):
        make_runner(tmp_path, "warming", dict(EPOCH)).train()
    assert traces(tmp_path) == []
    assert capsys.readouterr().err.count("nothing was recorded: the run ended after step 20") == 1


def test_a_brake_in_the_midst_of_it(start: Start, tmp_path: Path) -> None:
    start(brake=5, skip_first=1, active=8, export="chrome")
    with pytest.raises(Brake):
        make_runner(tmp_path, "midst", dict(EPOCH)).train()
    (trace,) = traces(tmp_path)
    assert (trace.name, marks(trace)) == ("rank0-step4-5.json", ["train 4", "train 5"])


def test_a_folder_that_cannot_be_written_ends_the_recording_only(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "traces").write_text("a file is in the way")
    start(skip_first=1, brake=8)
    runner = make_runner(tmp_path, "in_the_way", dict(EPOCH))
    with pytest.raises(Brake):
        runner.train()
    # It would have ended with the trace, at step 4.
    assert runner.witness.steps == 4
    said = capsys.readouterr().err
    assert said.count("profile: recording ended: ") == 1


def test_levels_and_memory(start: Start, tmp_path: Path) -> None:
    def cats(**options: Any) -> tuple[set[str], set[str], list[str]]:
        for trace in traces(tmp_path):
            trace.unlink()
        start(skip_first=1, **options)
        make_runner(tmp_path, "level_" + "_".join(map(str, options.values())), dict(EPOCH)).train()
        (trace,) = traces(tmp_path)
        events = json.loads(trace.read_text())["traceEvents"]
        shapes = [e["args"]["Input Dims"] for e in events if "Input Dims" in e.get("args", {})]
        return {e.get("cat", "") for e in events}, {e["name"] for e in events}, shapes

    kinds, names, shapes = cats(level=1)
    assert "cpu_op" in kinds
    assert "python_function" not in kinds
    assert any([1, 2] in dims for dims in shapes)
    assert "[memory]" not in names
    kinds, names, _ = cats(level=2, with_memory=True)
    assert "python_function" in kinds
    assert "[memory]" in names

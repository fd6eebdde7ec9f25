"""Early stop and profiles of mmcv 1.x's own runners."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from mmcv.runner import BaseRunner, EpochBasedRunner, EvalHook, Hook, IterBasedRunner
from torch.autograd.profiler import record_function
from torch.utils.data import DataLoader, Dataset

from mx_autopatch import Status, bootstrap
from mx_autopatch.profiling import Brake, configure

PATCHES = ["mmcv.training_steps", "torch.training_steps"]
SIZE = 4  # iterations of an epoch
KINDS = [EpochBasedRunner, IterBasedRunner]

Start = Callable[..., Any]


class Data(Dataset[Any]):
    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.ones(2)

    def evaluate(self, results: Any, **kwargs: Any) -> dict[str, float]:
        return {"nothing": 0.0}


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)
        self.trained = 0

    def train_step(self, batch: Any, optimizer: Any) -> dict[str, Any]:
        self.trained += 1
        with record_function(f"train {self.trained}"):
            loss = self.linear(batch).sum()
        return {"loss": loss, "log_vars": {"loss": loss.item()}, "num_samples": 1}

    def val_step(self, batch: Any, optimizer: Any = None, **kwargs: Any) -> dict[str, Any]:
        with record_function("val"):
            loss = self.linear(batch).sum()
        return {"loss": loss, "log_vars": {"loss": loss.item()}, "num_samples": 1}


class Witness(Hook):
    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def after_train_iter(self, runner: Any) -> None:
        self.seen.append(("after_train_iter", runner.iter))

    def after_run(self, runner: Any) -> None:
        self.seen.append(("after_run", runner.iter))

    @property
    def steps(self) -> int:
        return sum(name == "after_train_iter" for name, _ in self.seen)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    # The runner waits for two seconds before each epoch.
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.fixture
def start(engine: Start) -> Start:
    def activate(**settings: Any) -> Any:
        return engine(patches__only=["*.training_steps"], **settings)

    return activate


def make(kind: Any, folder: Path, iterations: int = 12, **hooks: Any) -> Any:
    """A runner with the hooks of any training; its :class:`Witness` is ``runner.witness``."""
    model = Net()
    epochs = kind is EpochBasedRunner
    most = {"max_epochs": iterations // SIZE} if epochs else {"max_iters": iterations}
    logger = logging.getLogger("mmcv1_training_steps")
    logger.setLevel(logging.ERROR)
    runner = kind(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        work_dir=str(folder),
        logger=logger,
        meta={},
        **most,
    )
    runner.register_training_hooks(
        lr_config={"policy": "fixed", "by_epoch": epochs},
        optimizer_config=hooks.get("optimizer_config", {"grad_clip": None}),
        checkpoint_config={"interval": SIZE, "by_epoch": False},
        log_config={"interval": 1, "hooks": [{"type": "TextLoggerHook", "by_epoch": epochs}]},
    )
    runner.witness = Witness()
    runner.register_hook(runner.witness, priority="LOWEST")
    return runner


def run(runner: Any, workflow: Any = (("train", 1),)) -> None:
    runner.run([DataLoader(Data(), batch_size=1)] * len(workflow), list(workflow))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("brake", [0, 5, 8])
def test_it_ends_after_the_step(start: Start, tmp_path: Path, kind: Any, brake: int) -> None:
    start(brake=brake)
    runner = make(kind, tmp_path)
    with pytest.raises(Brake) as caught:
        run(runner)
    assert (caught.value.code, caught.value.step) == (0, brake)
    assert runner.model.trained == runner.witness.steps == brake
    assert runner.witness.seen[-1] == ("after_run", brake)
    assert runner.iter == brake
    logs = list(tmp_path.glob("*.log.json"))
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    assert sum(line.get("mode") == "train" for line in lines) == brake


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_is_shorter_ends_by_itself(start: Start, tmp_path: Path, kind: Any) -> None:
    start(brake=13)
    runner = make(kind, tmp_path)
    run(runner)
    assert runner.witness.steps == 12
    assert [name for name, _ in runner.witness.seen].count("after_run") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_takes_as_many_steps(start: Start, tmp_path: Path, kind: Any) -> None:
    start(brake=6)
    with pytest.raises(Brake):
        run(make(kind, tmp_path))
    (checkpoint,) = (path for path in tmp_path.glob("*.pth") if path.name != "latest.pth")
    bootstrap.deactivate()  # as a new process would begin
    bootstrap.activate(
        overrides={"brake": 3, "patches.only": ["*.training_steps"]}, script=str(tmp_path / "x.py")
    )
    again = make(kind, tmp_path)
    again.resume(str(checkpoint), map_location="cpu")
    begun = again.iter
    assert begun in (SIZE - 1, SIZE)  # mmcv writes the count before it is raised
    with pytest.raises(Brake):
        run(again)
    assert (again.witness.steps, again.iter) == (3, begun + 3)


@pytest.mark.parametrize("kind", KINDS)
def test_validation_is_no_step(start: Start, tmp_path: Path, kind: Any) -> None:
    start(brake=6)
    runner = make(kind, tmp_path)
    with pytest.raises(Brake):
        run(runner, [("train", 1), ("val", 1)])
    assert runner.witness.steps == 6


def test_an_accumulated_gradient_counts_iterations(start: Start, tmp_path: Path) -> None:
    start(brake=5)
    config = {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 4}
    runner = make(IterBasedRunner, tmp_path, optimizer_config=config)
    with pytest.raises(Brake):
        run(runner)
    assert runner.witness.steps == 5


def marks(trace: Path) -> list[str]:
    content = json.loads(trace.read_text())
    events = content if isinstance(content, list) else content["traceEvents"]
    found = [e for e in events if e.get("ph") == "X" and e["name"].startswith(("train ", "val"))]
    return [event["name"] for event in sorted(found, key=lambda event: float(event["ts"]))]


@pytest.mark.parametrize("kind", KINDS)
def test_step_21_without_further_options(start: Start, tmp_path: Path, kind: Any) -> None:
    start(profile__path=str(tmp_path / "traces"), profile__export="chrome", brake=40)
    runner = make(kind, tmp_path, iterations=24)
    if kind is EpochBasedRunner:  # it evaluates before step 21
        runner.register_hook(EvalHook(DataLoader(Data()), interval=1, test_fn=_evaluate))
    with pytest.raises(Brake):
        run(runner)
    assert runner.iter == 21
    (trace,) = (tmp_path / "traces").iterdir()
    assert trace.name == "rank0-step21.json"
    assert marks(trace) == ["train 21"]


def _evaluate(model: Any, loader: Any) -> list[Any]:
    return [model.val_step(batch) for batch in loader]


def test_nothing_is_changed_without_a_brake_or_a_profile(start: Start, tmp_path: Path) -> None:
    original = BaseRunner.__init__
    report = start()
    assert BaseRunner.__init__ is original
    assert {o.status for o in report() if o.patch == PATCHES[0]} == {Status.UNMET}
    configure(brake=2)
    assert BaseRunner.__init__ is not original
    with pytest.raises(Brake):
        run(make(IterBasedRunner, tmp_path))
    bootstrap.deactivate()
    assert BaseRunner.__init__ is original

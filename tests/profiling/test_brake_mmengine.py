"""Early stop of mmengine's runners."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
from mmengine.runner import EpochBasedTrainLoop, Runner
from small_training import SIZE, Net, Witness, make_runner
from torch.optim import SGD

from mx_autopatch import Status, bootstrap
from mx_autopatch.profiling import Brake

ITER = {"by_epoch": False, "max_iters": 12}
EPOCH = {"by_epoch": True, "max_epochs": 3}
PATCHES = ["mmengine.training_steps", "torch.training_steps"]

Start = Callable[..., Any]


@pytest.fixture
def start(engine: Start) -> Start:
    def activate(**settings: Any) -> Any:
        return engine(patches__only=["*.training_steps"], **settings)

    return activate


@pytest.mark.parametrize("train_cfg", [ITER, EPOCH], ids=["by iteration", "by epoch"])
@pytest.mark.parametrize("brake", [0, 5, 8])
def test_it_ends_after_the_step(
    start: Start, tmp_path: Path, train_cfg: dict[str, Any], brake: int
) -> None:
    start(brake=brake)
    runner = make_runner(tmp_path, f"brake_{brake}_{train_cfg['by_epoch']}", dict(train_cfg))
    with pytest.raises(Brake) as caught:
        runner.train()
    assert (caught.value.code, caught.value.step) == (0, brake)
    assert runner.model.trained == runner.witness.steps == brake
    # The last hook of all has finished its iteration, and the count is as after it.
    ends = [("after_train", brake), ("after_run", brake)]
    assert runner.witness.seen[-2:] == ends
    assert runner.iter == brake


@pytest.mark.parametrize("train_cfg", [ITER, EPOCH], ids=["by iteration", "by epoch"])
def test_a_training_that_is_shorter_ends_by_itself(
    start: Start, tmp_path: Path, train_cfg: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    start(brake=13)
    runner = make_runner(tmp_path, f"shorter_{train_cfg['by_epoch']}", dict(train_cfg))
    runner.train()
    assert runner.witness.steps == 12
    assert [name for name, _ in runner.witness.seen].count("after_run") == 1
    said = capsys.readouterr().err
    assert "stops after step 13" in said
    assert "stopped" not in said


@pytest.mark.parametrize(
    ("train_cfg", "validations"),
    [({**ITER, "val_begin": 1, "val_interval": 2}, 2), ({**EPOCH, "val_begin": 1}, 1)],
    ids=["by iteration", "by epoch"],
)
def test_validation_is_no_step(
    start: Start, tmp_path: Path, train_cfg: dict[str, Any], validations: int
) -> None:
    start(brake=5)
    runner = make_runner(tmp_path, f"val_{train_cfg['by_epoch']}", train_cfg)
    with pytest.raises(Brake):
        runner.train()
    assert runner.witness.steps == 5
    assert [name for name, _ in runner.witness.seen].count("after_val") == validations


@pytest.mark.parametrize("train_cfg", [ITER, EPOCH], ids=["by iteration", "by epoch"])
def test_a_resumed_run_takes_as_many_steps(
    start: Start, tmp_path: Path, train_cfg: dict[str, Any]
) -> None:
    by_epoch = train_cfg["by_epoch"]
    checkpoint = {"type": "CheckpointHook", "interval": 1 if by_epoch else SIZE}
    hooks = {"checkpoint": {**checkpoint, "by_epoch": by_epoch}}
    start(brake=6)
    first = make_runner(tmp_path, f"first_{by_epoch}", dict(train_cfg), default_hooks=hooks)
    with pytest.raises(Brake):
        first.train()
    saved = tmp_path / f"first_{by_epoch}" / ("epoch_1.pth" if by_epoch else f"iter_{SIZE}.pth")
    assert saved.exists()
    bootstrap.deactivate()  # as a new process would begin

    bootstrap.activate(
        overrides={"brake": 3, "patches.only": ["*.training_steps", "mmengine.checkpoint_load"]},
        script=str(tmp_path / "x.py"),
    )
    again = make_runner(
        tmp_path, f"again_{by_epoch}", dict(train_cfg), load_from=str(saved), resume=True
    )
    with pytest.raises(Brake):
        again.train()
    assert again.witness.seen[0] == ("after_train_iter", SIZE)
    assert (again.witness.steps, again.iter) == (3, SIZE + 3)


def test_an_accumulated_gradient_counts_iterations(start: Start, tmp_path: Path) -> None:
    start(brake=5)
    wrapper = {"optimizer": {"type": "SGD", "lr": 0.1}, "accumulative_counts": 4}
    runner = make_runner(tmp_path, "accumulated", dict(ITER), optim_wrapper=wrapper)
    with pytest.raises(Brake):
        runner.train()
    assert runner.witness.steps == 5


def test_the_visualizer_is_closed_and_the_scalars_are_written(start: Start, tmp_path: Path) -> None:
    start(brake=3)
    hooks = {"logger": {"type": "LoggerHook", "interval": 1}, "checkpoint": None}
    visualizer = {
        "type": "Visualizer",
        "name": "closed",
        "vis_backends": [{"type": "LocalVisBackend"}],
    }
    runner = make_runner(
        tmp_path, "visualized", dict(EPOCH), default_hooks=hooks, visualizer=visualizer
    )
    closed: list[bool] = []
    close = runner.visualizer.close
    runner.visualizer.close = lambda: (closed.append(True), close())
    with pytest.raises(Brake):
        runner.train()
    assert closed == [True]
    (scalars,) = (tmp_path / "visualized").rglob("scalars.json")
    assert len(scalars.read_text().splitlines()) == 3


def test_a_loop_of_the_projects_own(start: Start, tmp_path: Path) -> None:
    class Loop(EpochBasedTrainLoop):
        def run_epoch(self) -> None:
            self.runner.call_hook("before_train_epoch")
            self.runner.model.train()
            for idx, batch in enumerate(self.dataloader):
                try:
                    self.run_iter(idx, batch)
                except Exception:
                    raise AssertionError("the brake passes here") from None
            self.runner.call_hook("after_train_epoch")
            self._epoch += 1

    start(brake=6)
    runner = make_runner(tmp_path, "own", dict(EPOCH))
    runner._train_loop = Loop(runner, runner._train_dataloader, max_epochs=3)
    with pytest.raises(Brake):
        runner.train()
    assert runner.witness.steps == 6


def test_a_runner_is_made_as_without_us(start: Start, tmp_path: Path) -> None:
    start(brake=3)
    runner = make_runner(tmp_path, "as_without", dict(ITER))
    # To build its loop is its own business, in train().
    assert isinstance(runner._train_loop, dict)
    assert isinstance(runner.optim_wrapper, dict)


def test_the_flexible_runner(start: Start, tmp_path: Path) -> None:
    from mmengine.runner import FlexibleRunner

    start(brake=6)
    plain = make_runner(tmp_path, "plain", dict(EPOCH))
    witness, net = Witness(), Net()
    runner = FlexibleRunner(
        model=net,
        work_dir=str(tmp_path / "flexible"),
        strategy={"type": "SingleDeviceStrategy"},
        train_dataloader=plain.build_dataloader(plain._train_dataloader),
        train_cfg=dict(EPOCH),
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        default_hooks={"checkpoint": None},
        custom_hooks=[witness],
        experiment_name="flexible",
        log_level="ERROR",
    )
    with pytest.raises(Brake):
        runner.train()
    assert (witness.steps, runner.iter) == (6, 6)
    assert witness.seen[-1] == ("after_run", 6)


def test_a_hook_that_fails_at_the_end_fails_as_it_would_anyhow(
    start: Start, tmp_path: Path
) -> None:
    start(brake=2)
    runner = make_runner(tmp_path, "failing", dict(ITER))

    def after_run(runner: Any) -> None:
        raise RuntimeError("of the user's own")

    runner.witness.after_run = after_run
    with pytest.raises(RuntimeError, match="of the user's own"):
        runner.train()


def test_nothing_is_changed_without_a_brake_or_a_profile(start: Start, tmp_path: Path) -> None:
    register, patch_step, step = Runner.register_hooks, SGD._patch_step_function, SGD.step
    report = start()
    assert (Runner.register_hooks, SGD._patch_step_function, SGD.step) == (
        *(register, patch_step),
        step,
    )
    outcomes = [o for o in report() if o.patch in PATCHES and o.status is not Status.PENDING]
    assert {(o.status, o.reason) for o in outcomes} == {
        (Status.UNMET, "profile.path or brake would have to be set")
    }


def test_everything_is_put_back(start: Start, tmp_path: Path) -> None:
    register, patch_step, step = Runner.register_hooks, SGD._patch_step_function, SGD.step
    report = start(brake=5)
    in_force = {o.patch for o in report() if o.status.in_force}
    assert in_force == set(PATCHES)
    assert Runner.register_hooks is not register
    runner = make_runner(tmp_path, "put_back", dict(ITER))
    bootstrap.deactivate()
    assert Runner.register_hooks is register
    assert SGD._patch_step_function is patch_step
    assert SGD.step is step
    runner.train()  # its hook has nothing left to do
    assert runner.witness.steps == 12

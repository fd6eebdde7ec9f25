"""The entry for programs: ``mx_autopatch.profiling.configure``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from small_training import make_runner, marks
from torch.optim import SGD

from mx_autopatch import ConfigError, PatchError, Status, bootstrap
from mx_autopatch.profiling import Brake, configure

HERE = ["mmengine.training_steps", "torch.training_steps"]


@pytest.fixture
def active(engine: Callable[..., Any]) -> Any:
    torch.set_num_threads(1)
    return engine(patches__only=["*.training_steps"])


def steps(most: int = 9) -> int:
    """Steps that a loop takes before it is stopped, all of them if it is not."""
    optimizer = SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    try:
        for _ in range(most):
            optimizer.step()
    except Brake as brake:
        return brake.step
    return most


def test_a_brake(active: Any) -> None:
    assert steps() == 9
    configure(brake=3)
    assert {o.patch for o in active() if o.status.in_force} == set(HERE)
    assert steps() == 3
    configure(brake=5)  # counted anew
    assert steps() == 5
    configure()
    assert steps() == 9
    bootstrap.deactivate()
    assert steps() == 9


def test_it_applies_once_however_often_it_is_called(active: Any) -> None:
    original = SGD.step
    for _ in range(3):
        configure(brake=3)
    assert SGD.step.__wrapped__ is original
    assert steps() == 3
    assert not [o for o in active() if o.status.is_fault]
    bootstrap.deactivate()
    assert SGD.step is original


def test_a_profile_of_a_runner(active: Any, tmp_path: Path) -> None:
    configure({"path": tmp_path / "traces", "skip_first": 2, "export": "chrome"}, brake=50)
    with pytest.raises(Brake):
        make_runner(tmp_path, "configured", {"by_epoch": True, "max_epochs": 3}).train()
    assert marks(tmp_path / "traces" / "rank0-step5.json") == ["train 5"]


def test_keys_that_are_not_given_have_their_defaults(active: Any, tmp_path: Path) -> None:
    configure({"path": str(tmp_path), "level": 2}, brake=7)
    configure({"path": str(tmp_path)})
    config = bootstrap.active().session.config
    assert (config.profile_level, config.brake) == (0, None)
    assert config.sources["profile.level"] == "default"
    assert config.sources["profile.path"] == "profiling.configure() profile.path"


@pytest.mark.parametrize(
    ("profile", "brake", "message"),
    [
        ({"level": 1}, None, "profile: 'path' is missing: where shall the traces go?"),
        ({"path": "x", "levle": 1}, None, "profile.levle: unknown key; did you mean"),
        ({"path": "x", "level": 3}, None, "profile.level: 3 is not one of 0, 1, 2"),
        ({"path": "x", "active": 0}, None, "profile.active: expected a whole number, 1 or more"),
        ({"path": "x", "wait": True}, None, "profile.wait: expected a whole number, 0 or more"),
        (None, -1, "brake: expected a whole number, 0 or more; got -1 (an integer)"),
    ],
)
def test_what_is_not_valid_changes_nothing(
    active: Any, profile: Any, brake: Any, message: str
) -> None:
    configure(brake=4)
    with pytest.raises(ConfigError, match=r"profiling\.configure") as error:
        configure(profile, brake)
    assert message in str(error.value)
    assert steps() == 4


def test_the_engine_has_to_be_active() -> None:
    with pytest.raises(PatchError, match="mx_autopatch is not active; start the program with"):
        configure(brake=3)
    configure()  # there is nothing to take back


def test_patches_that_are_switched_off_stay_off(engine: Callable[..., Any]) -> None:
    report = engine(patches__disable=["torch.training_steps"], patches__only=["*.training_steps"])
    configure(brake=3)
    assert steps() == 9
    (outcome,) = {o.status for o in report() if o.patch == "torch.training_steps"}
    assert outcome is Status.DISABLED


def test_patches_that_were_left_out_are_named(
    engine: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    engine(patches__only=["mmengine.*"])
    configure(brake=3)
    assert (
        "patches.only does not name mmcv.training_steps, torch.training_steps, by which brake "
        "would work; add '*.training_steps'"
    ) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"brake": 3, "profile.path": "x", "patches.only": ["mmcv.*", "torch.*"]},
            "command line --only: patches.only does not name mmengine.training_steps, by which "
            "brake and profile.path would work; add '*.training_steps'",
        ),
        (
            {"brake": 3, "profile.active": 2},
            "command line profile.active: profile.active has no effect without profile.path",
        ),
    ],
)
def test_what_the_configuration_says_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        bootstrap.activate(overrides=settings, script=str(tmp_path / "x.py"))
    assert str(error.value) == message


def test_what_is_disabled_by_name_is_not_missed(engine: Callable[..., Any]) -> None:
    engine(brake=3, patches__disable=["torch.training_steps"])

"""Early stop and profiles of loops that people write themselves."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from torch.autograd.profiler import record_function
from torch.optim import SGD, Adam, Optimizer

from mx_autopatch import bootstrap
from mx_autopatch.profiling import Brake

Start = Callable[..., Any]


@pytest.fixture
def start(engine: Start) -> Start:
    def activate(**settings: Any) -> Any:
        torch.set_num_threads(1)
        return engine(patches__only=["*.training_steps"], **settings)

    return activate


def weight() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(2))


def made(kind: Callable[..., Optimizer] = SGD) -> Optimizer:
    parameter = weight()
    parameter.grad = torch.ones(2)
    return kind([parameter], lr=0.1)


def until_brake(iteration: Callable[[int], Any], most: int = 30) -> tuple[int, Brake]:
    """Loop until stopped: how many iterations were completed, and what stopped it."""
    for done in range(most):
        try:
            try:
                iteration(done)
            except Exception:
                raise AssertionError("the brake passes here") from None
        except Brake as brake:
            return done, brake
    raise AssertionError("it was not stopped")


def steps_until_brake(*optimizers: Any) -> list[int]:
    """A loop that steps all of them in turn; how often each completed a step."""
    done = [0] * len(optimizers)

    def iteration(number: int) -> None:
        for number, optimizer in enumerate(optimizers):
            optimizer.step()
            done[number] += 1

    until_brake(iteration)
    return done


@pytest.mark.parametrize("brake", [0, 1, 5])
def test_it_ends_after_the_step(start: Start, brake: int) -> None:
    start(brake=brake)
    optimizer = made()
    counted: list[int] = []
    optimizer.register_step_post_hook(lambda *args: counted.append(1))
    _, stopped = until_brake(lambda number: optimizer.step())
    assert (stopped.code, stopped.step, len(counted)) == (0, brake, brake)
    assert isinstance(stopped, SystemExit)


def test_an_optimizer_made_before_the_engine_was_active(start: Start) -> None:
    optimizer = made()
    original = SGD.step
    start(brake=3)
    assert steps_until_brake(optimizer) == [2]  # the third one raised after it was done
    bootstrap.deactivate()
    assert SGD.step is original
    optimizer.step()


def test_a_class_that_torch_has_not_patched_yet(start: Start) -> None:
    class Own(SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    original = Own.step
    start(brake=3)
    optimizer = made(Own)
    assert steps_until_brake(optimizer) == [2]
    bootstrap.deactivate()
    patched_by_torch = Own.step
    assert patched_by_torch.__wrapped__ is original
    assert Own.step.hooked
    optimizer.step()


def test_a_step_keeps_its_name_signature_and_result(start: Start) -> None:
    start(brake=30)
    optimizer = made()
    assert SGD.step.__qualname__ == "SGD.step"
    assert SGD.step.hooked  # so that torch does not wrap it again
    assert optimizer.step(lambda: 7.0) == 7.0


class Within(Optimizer):
    """An optimizer round another one, as Lookahead, or ZeroRedundancyOptimizer's."""

    def __init__(self, inner: Optimizer, times: int = 1) -> None:
        super().__init__(inner.param_groups, {})
        self.inner, self.times = inner, times

    def step(self, closure: Any = None) -> None:
        for _ in range(self.times):
            self.inner.step()


def test_the_outermost_of_nested_optimizers_counts(start: Start) -> None:
    start(brake=4)
    counted: list[int] = []
    inner = made()
    inner.register_step_post_hook(lambda *args: counted.append(1))
    assert steps_until_brake(Within(Within(inner, times=2))) == [3]
    assert len(counted) == 8


def test_a_wrapper_that_is_no_optimizer(start: Start) -> None:
    class Wrapper:
        def __init__(self, *inner: Optimizer) -> None:
            self.inner = inner

        def step(self) -> None:
            for one in self.inner:
                one.step()

    start(brake=4)
    assert steps_until_brake(Wrapper(made(), made(Adam))) == [3]


def test_of_several_the_first_sets_the_pace(start: Start) -> None:
    start(brake=4)
    generator, discriminator = made(), made(Adam)
    # One step of it, then five of the other: an iteration.
    assert steps_until_brake(generator, *[discriminator] * 5) == [3, *[3] * 5]


def test_the_next_one_sets_the_pace_when_the_first_is_gone(start: Start) -> None:
    start(brake=4)
    first = made()
    first.step()
    second = made(Adam)
    second.step()  # not counted
    del first
    gc.collect()
    assert steps_until_brake(second) == [2]


def test_a_step_that_raises_is_none(start: Start) -> None:
    def fail() -> float:
        raise ValueError("of the user's own")

    start(brake=3)
    optimizer = Within(made())
    failing = made()
    for _ in range(5):
        with pytest.raises(ValueError, match="of the user's own"):
            failing.step(fail)
    assert steps_until_brake(optimizer) == [2]


def test_gradients_accumulated_count_once(start: Start) -> None:
    start(brake=2)
    optimizer = made()

    def iteration(number: int) -> None:
        optimizer.param_groups[0]["params"][0].sum().backward()
        if number % 4 == 3:
            optimizer.step()

    assert until_brake(iteration)[0] == 7  # in the eighth


def test_a_scheduler_and_a_scaler(start: Start) -> None:
    start(brake=3)
    optimizer = made()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    scaler = torch.amp.GradScaler("cpu")

    def iteration(number: int) -> None:
        optimizer.zero_grad()
        scaler.scale(optimizer.param_groups[0]["params"][0].sum()).backward()
        if number == 1:  # the scaler leaves this one out
            optimizer.param_groups[0]["params"][0].grad.fill_(torch.inf)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()

    assert until_brake(iteration)[0] == 3


def test_a_compiled_step(start: Start) -> None:
    start(brake=3)
    step = torch.compile(made().step, backend="eager")
    assert until_brake(lambda number: step())[0] == 2


def marks(trace: Path) -> list[str]:
    events = json.loads(trace.read_text())["traceEvents"]
    found = [e for e in events if e.get("ph") == "X" and e["name"].startswith("iteration")]
    return [event["name"] for event in sorted(found, key=lambda event: float(event["ts"]))]


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ({}, ["iteration 21"]),
        ({"skip_first": 0, "wait": 0, "warmup": 0}, ["iteration 1"]),
        ({"skip_first": 0, "active": 2}, ["iteration 3", "iteration 4"]),
    ],
    ids=["without options", "the first", "two"],
)
def test_a_profile(
    start: Start,
    tmp_path: Path,
    options: dict[str, int],
    recorded: list[str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    start(
        profile__path=str(tmp_path / "traces"),
        **{f"profile__{name}": value for name, value in options.items()},
    )
    optimizer = made()
    for iteration in range(1, 25):
        with record_function(f"iteration {iteration}"):
            loss = optimizer.param_groups[0]["params"][0].sum()
        loss.backward()
        optimizer.step()
    (trace,) = (tmp_path / "traces").iterdir()
    assert marks(trace) == recorded
    content = json.loads(trace.read_text())["traceEvents"]
    steps = [e for e in content if e["name"] == "Optimizer.step#SGD.step"]
    assert len(steps) == len(recorded)
    assert all(event["dur"] > 0 for event in steps)
    assert "Warning" not in capfd.readouterr().err  # kineto's, of marks without an end

"""mmcv.optimizer_hooks on mmcv's own runner, hooks and registry, with torch_npu's optimizers."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch_npu  # noqa: F401  the soft one of this lane
from mmcv.runner import HOOKS, EpochBasedRunner, OptimizerHook, auto_fp16, epoch_based_runner
from mmcv.runner.hooks import optimizer as upstream
from torch_npu.optim import NpuFusedAdamW, NpuFusedSGD

from mx_autopatch import bootstrap
from mx_autopatch.model import Status

NAME = "mmcv.optimizer_hooks"
CLASSES = {
    "OptimizerHook": {},
    "GradientCumulativeOptimizerHook": {"cumulative_iters": 2},
    "Fp16OptimizerHook": {"loss_scale": 64.0},
    "GradientCumulativeFp16OptimizerHook": {"cumulative_iters": 2, "loss_scale": 64.0},
}
PLAIN = [name for name in CLASSES if "Fp16" not in name]
CLIP = {"max_norm": 0.25}
STEPS = 5  # an odd number: accumulation has a remainder

torch.set_num_threads(1)


class Model(torch.nn.Module):
    """Two layers with gradients well above the norm that they are clipped to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
        self.fp16_enabled = False

    @auto_fp16(apply_to=("x",), out_fp32=True)
    def forward(self, x: Any) -> Any:
        return self.last(self.first(x).relu())

    def train_step(self, data: Any, optimizer: Any) -> dict[str, Any]:
        loss = (self(data).float() - 3).square().mean()
        return {"loss": loss, "log_vars": {}, "num_samples": len(data)}


class Recorded(NpuFusedSGD):  # type: ignore[misc]
    """Counts how often it clips."""

    clips = 0

    def clip_grad_norm_fused_(self, *args: Any, **kwargs: Any) -> Any:
        type(self).clips += 1
        return super().clip_grad_norm_fused_(*args, **kwargs)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Recorded.clips = 0
    # The runner waits two seconds before each epoch, for workers that are not used here.
    monkeypatch.setattr(epoch_based_runner.time, "sleep", lambda seconds: None)
    with warnings.catch_warnings():
        # mmcv's and torch_npu's own: deprecated constructors of autocast and GradScaler, …
        warnings.simplefilter("ignore")
        yield


def train(
    hook: Any, make: Callable[..., Any], device: str = "npu:0", steps: int = STEPS
) -> tuple[list[torch.Tensor], list[float]]:
    """Parameters after some steps of mmcv's runner, and the norms that it logged."""
    torch.manual_seed(0)
    model = Model().to(device)
    logger = logging.getLogger("mmcv1 hooks")
    logger.setLevel(logging.CRITICAL)
    runner = EpochBasedRunner(
        model, optimizer=make(model.parameters()), logger=logger, max_epochs=1
    )
    runner.meta = {}
    runner.register_optimizer_hook(copy.deepcopy(hook))
    data = [torch.full((2, 3), 1.0 + i).to(device) for i in range(steps)]
    runner.run([data], [("train", 1)])
    norms = runner.log_buffer.val_history.get("grad_norm", [])
    return [p.detach().cpu() for p in model.parameters()], list(norms)


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def fused(parameters: Any) -> Any:
    return Recorded(parameters, lr=0.1, momentum=0.9)


def close(one: Any, other: Any) -> None:
    for a, b in zip(one[0], other[0]):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert one[1] == pytest.approx(other[1], rel=1e-5)


@pytest.mark.parametrize("how", ["registry", "constructor"])
@pytest.mark.parametrize("name", CLASSES)
def test_the_optimizer_clips(name: str, how: str, engine: Any) -> None:
    options = {"grad_clip": CLIP, **CLASSES[name]}

    def hook() -> Any:
        if how == "registry":
            return {"type": name, **options}
        return getattr(upstream, name)(**options)

    expected = train(hook(), sgd)
    assert len(expected[1]) == (STEPS if "Cumulative" not in name else 3)
    assert max(expected[1]) > 4 * CLIP["max_norm"]
    engine(patches__only=[NAME], device="soft")
    close(train(hook(), fused), expected)
    assert Recorded.clips == len(expected[1])
    close(train(hook(), sgd), expected)


@pytest.mark.parametrize("name", PLAIN)
def test_tensors_on_the_cpu_are_as_without(name: str, engine: Any) -> None:
    hook = {"type": name, "grad_clip": CLIP, **CLASSES[name]}
    expected = train(hook, sgd, "cpu")
    close(train(hook, sgd), expected)
    engine(patches__only=[NAME], device="soft")
    patched = train(hook, sgd, "cpu")
    assert all(map(torch.equal, patched[0], expected[0]))
    assert patched[1] == expected[1]


def test_adamw_of_torch_npu(engine: Any) -> None:
    hook = {"type": "OptimizerHook", "grad_clip": {"max_norm": 0.25, "norm_type": 2}}
    options = {"lr": 0.01, "weight_decay": 0.1}
    expected = train(hook, lambda p: torch.optim.AdamW(p, **options))
    engine(patches__only=[NAME], device="soft")
    close(train(hook, lambda p: NpuFusedAdamW(p, **options)), expected)


def test_hooks_of_a_project(engine: Any) -> None:
    """Derived before and after; one calls ``clip_grads`` as mmcv does, one as mx_driving does."""

    class Before(OptimizerHook):  # type: ignore[misc]
        def after_train_iter(self, runner: Any) -> None:
            runner.optimizer.zero_grad()
            runner.outputs["loss"].backward()
            self.norms = [*getattr(self, "norms", []), self.clip_grads(runner.model.parameters())]
            runner.optimizer.step()

    engine(patches__only=[NAME], device="soft")

    class After(OptimizerHook):  # type: ignore[misc]
        def after_train_iter(self, runner: Any) -> None:
            runner.optimizer.zero_grad()
            runner.outputs["loss"].backward()
            self.clip_grads(runner.model.parameters(), runner)
            runner.optimizer.step()

    expected = train({"type": "OptimizerHook", "grad_clip": CLIP}, sgd)
    for cls in (Before, After):
        Recorded.clips = 0
        close((train(cls(grad_clip=CLIP), fused)[0], []), (expected[0], []))
        assert Recorded.clips == STEPS
    bootstrap.deactivate()
    Recorded.clips = 0
    close((train(Before(grad_clip=CLIP), fused)[0], []), (expected[0], []))
    assert Recorded.clips == 0


@pytest.mark.parametrize(
    "clip", [{"max_norm": 0.25, "error_if_nonfinite": False}, {"max_norm": 0.25, "foreach": False}]
)
def test_an_option_of_torch_alone_is_torchs_business(clip: dict[str, Any], engine: Any) -> None:
    hook = {"type": "OptimizerHook", "grad_clip": clip}
    expected = train(hook, sgd)
    engine(patches__only=[NAME], device="soft")
    close(train(hook, fused), expected)
    assert Recorded.clips == 0


def test_parameters_that_another_holds_are_clipped_too(engine: Any) -> None:
    """An optimizer of a part of the model clips that part, mmcv the whole."""
    hook = {"type": "OptimizerHook", "grad_clip": CLIP}
    expected = train(hook, lambda p: sgd(list(p)[:2]))
    engine(patches__only=[NAME], device="soft")
    close(train(hook, lambda p: fused(list(p)[:2])), expected)
    assert Recorded.clips == 0


def test_without_clipping_nothing_clips(engine: Any) -> None:
    expected = train({"type": "OptimizerHook"}, sgd)
    engine(patches__only=[NAME], device="soft")
    close(train({"type": "OptimizerHook"}, fused), expected)
    assert (Recorded.clips, expected[1]) == (0, [])


def members() -> dict[str, Any]:
    found = {f"{c}.{n}": v for c in CLASSES for n, v in vars(getattr(upstream, c)).items()}
    return {**found, **{c: HOOKS.get(c) for c in CLASSES}}


def test_thrice_is_once_and_revert_gives_the_same_objects(engine: Any) -> None:
    before = members()
    engine(patches__only=[NAME], device="soft")
    once = members()
    changed = {name for name in before if once[name] is not before[name]}
    assert {"OptimizerHook.clip_grads", "OptimizerHook.after_train_iter"} < changed
    assert not changed & set(CLASSES)  # the registry holds the same classes
    for _ in range(2):
        bootstrap.activate(overrides={"patches.only": [NAME], "device": "soft"})
    thrice = members()
    assert {n for n in before if thrice[n] is not before[n]} == changed
    wrapped = {n: f.__wrapped__ for n, f in thrice.items() if n in changed and ".__" not in n}
    rewritten = {f"{name}.after_train_iter" for name in CLASSES if "Fp16" in name}
    assert all(f is before[n] for n, f in wrapped.items() if n not in rewritten)
    outcomes = bootstrap.report().of(NAME)
    assert {o.status for o in outcomes} <= {Status.APPLIED, Status.LATE}
    bootstrap.deactivate()
    after = members()
    assert after.keys() == before.keys()
    assert all(v is before[n] for n, v in after.items())

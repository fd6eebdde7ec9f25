"""mmengine.optimizer_wrapper on mmengine's own wrappers, with torch_npu's optimizers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.model import Status

torch = pytest.importorskip("torch")
pytest.importorskip("mmengine.optim")
pytest.importorskip("torch_npu")

from mmengine.logging import MessageHub  # noqa: E402
from mmengine.optim import OptimWrapper  # noqa: E402
from mmengine.registry import OPTIM_WRAPPERS  # noqa: E402
from torch_npu.optim import NpuFusedAdamW, NpuFusedSGD  # noqa: E402

NAME = "mmengine.optimizer_wrapper"
WRAPPERS = {
    "OptimWrapper": {},
    "AmpOptimWrapper": {"loss_scale": 64.0},
}
CLIP = {"max_norm": 0.25}
STEPS = 5

torch.set_num_threads(1)


class Recorded(NpuFusedSGD):  # type: ignore[misc]
    """Counts how often it clips."""

    clips = 0

    def clip_grad_norm_fused_(self, *args: Any, **kwargs: Any) -> Any:
        type(self).clips += 1
        return super().clip_grad_norm_fused_(*args, **kwargs)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    Recorded.clips = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch_npu's, of its GradScaler and autocast
        yield


def train(make: Any, wrapper: dict[str, Any], device: str = "npu:0", steps: int = STEPS) -> Any:
    """Parameters after some steps, and the norms that the wrapper logged."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    model.to(device)
    hub = MessageHub.get_instance(f"wrapper {len(MessageHub._instance_dict)}")
    config = {**wrapper, "optimizer": make(model.parameters())}
    if "clip_grad" in config:
        config["clip_grad"] = dict(config["clip_grad"])  # mmengine takes its type out
    wrapped = OPTIM_WRAPPERS.build(config)
    wrapped.message_hub = hub
    wrapped.initialize_count_status(model, 0, steps)
    for i in range(steps):
        with wrapped.optim_context(model):
            loss = (model(torch.full((2, 3), 1.0 + i, device=device)).float() - 3).square().mean()
        wrapped.update_params(loss)
    norms = hub.log_scalars.get("train/grad_norm")
    return [p.detach().cpu() for p in model.parameters()], list(norms.data[0]) if norms else []


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def fused(parameters: Any) -> Any:
    return Recorded(parameters, lr=0.1, momentum=0.9)


def close(one: Any, other: Any) -> None:
    for a, b in zip(one[0], other[0]):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert one[1] == pytest.approx(other[1], rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", WRAPPERS)
def test_the_optimizer_clips(name: str, accumulate: int, engine: Any) -> None:
    wrapper = {"type": name, **WRAPPERS[name], "clip_grad": CLIP, "accumulative_counts": accumulate}
    expected = train(sgd, wrapper)
    assert len(expected[1]) == (STEPS if accumulate == 1 else 3)
    assert max(expected[1]) > 4 * CLIP["max_norm"]
    engine(patches__only=[NAME], device="soft")
    close(train(fused, wrapper), expected)
    assert Recorded.clips == len(expected[1])
    close(train(sgd, wrapper), expected)


def test_tensors_on_the_cpu_are_as_without(engine: Any) -> None:
    wrapper = {"type": "OptimWrapper", "clip_grad": CLIP, "accumulative_counts": 2}
    expected = train(sgd, wrapper, "cpu")
    close(train(sgd, wrapper), expected)
    engine(patches__only=[NAME], device="soft")
    patched = train(sgd, wrapper, "cpu")
    assert all(map(torch.equal, patched[0], expected[0]))
    assert patched[1] == expected[1]


def test_adamw_of_torch_npu(engine: Any) -> None:
    wrapper = {"type": "OptimWrapper", "clip_grad": {"max_norm": 0.25, "norm_type": 2}}
    options = {"lr": 0.01, "weight_decay": 0.1}
    expected = train(lambda p: torch.optim.AdamW(p, **options), wrapper)
    engine(patches__only=[NAME], device="soft")
    close(train(lambda p: NpuFusedAdamW(p, **options), wrapper), expected)


@pytest.mark.parametrize(
    "clip",
    [
        {"type": "value", "clip_value": 0.25},
        {"type": "norm", "max_norm": 0.25, "error_if_nonfinite": False},
    ],
)
def test_what_the_optimizer_cannot_do_is_torchs_business(clip: dict[str, Any], engine: Any) -> None:
    wrapper = {"type": "OptimWrapper", "clip_grad": clip}
    expected = train(sgd, wrapper)
    engine(patches__only=[NAME], device="soft")
    close(train(fused, wrapper), expected)
    assert Recorded.clips == 0


def test_thrice_is_once_and_revert_gives_the_same_objects(engine: Any) -> None:
    before = dict(vars(OptimWrapper))
    engine(patches__only=[NAME], device="soft")
    for _ in range(2):
        bootstrap.activate(overrides={"patches.only": [NAME], "device": "soft"})
    patched = vars(OptimWrapper)
    assert {name for name in before if patched[name] is not before[name]} == {"_clip_grad"}
    (outcome,) = bootstrap.report().of(NAME)
    assert outcome.status in (Status.APPLIED, Status.LATE), outcome.reason
    bootstrap.deactivate()
    assert dict(vars(OptimWrapper)) == before

"""torch_npu's fused optimizers train as torch's do, and its fused steps as their formulas."""

from __future__ import annotations

import warnings
from typing import Any, Callable

import pytest
import torch
from npu_calls import call, close
from torch import Tensor, nn

from mx_autopatch.errors import SoftNpuError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def batches(steps: int = 4) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(5, 6), torch.randn(5, 3)) for _ in range(steps)]


def train(
    model: nn.Module, optimizer: Any, clip: Callable[[], Any] | None = None
) -> tuple[list[float], list[Tensor]]:
    """Losses and final parameters."""
    device = next(model.parameters()).device
    losses = []
    for x, y in batches():
        optimizer.zero_grad()
        loss = ((model(x.to(device)) - y.to(device)) ** 2).mean()
        loss.backward()
        if clip is not None:
            clip()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach().cpu() for p in model.parameters()]


@pytest.fixture
def fused() -> Any:
    """torch_npu's optimizers, whose code uses typed storages and deprecated overloads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*TypedStorage is deprecated")
        warnings.filterwarnings("ignore", ".*This overload of .* is deprecated", UserWarning)
        from torch_npu import optim

        yield optim


SETTINGS = [
    ("NpuFusedAdamW", torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    ("NpuFusedAdamW", torch.optim.AdamW, {"lr": 0.01, "amsgrad": True}),
    ("NpuFusedAdam", torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    ("NpuFusedSGD", torch.optim.SGD, {"lr": 0.1}),
    ("NpuFusedSGD", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("NpuFusedSGD", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("NpuFusedRMSprop", torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "centered": True}),
    ("NpuFusedAdadelta", torch.optim.Adadelta, {"weight_decay": 0.1}),
]


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize(("name", "reference", "settings"), SETTINGS)
def test_as_torch_does(
    fused: Any, name: str, reference: Any, settings: dict[str, Any], clipped: bool
) -> None:
    model = network().npu()
    optimizer = getattr(fused, name)(model.parameters(), **settings)
    clip = (lambda: optimizer.clip_grad_norm_fused_(0.5)) if clipped else None
    found = train(model, optimizer, clip)
    plain = network()
    other = reference(plain.parameters(), **settings)
    clip = (lambda: nn.utils.clip_grad_norm_(plain.parameters(), 0.5)) if clipped else None
    expected = train(plain, other, clip)
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    close(found[1], expected[1], 1e-6)


def test_clipping_returns_the_norm(fused: Any) -> None:
    model, plain = network().npu(), network()
    x, y = batches(1)[0]
    ((model(x.npu()) - y.npu()) ** 2).mean().backward()
    ((plain(x) - y) ** 2).mean().backward()
    optimizer = fused.NpuFusedSGD(model.parameters(), lr=0.1)
    norm = optimizer.clip_grad_norm_fused_(0.5)
    expected = nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    close(torch.as_tensor(norm).detach().cpu().reshape(()), expected)
    close([p.grad.cpu() for p in model.parameters()], [p.grad for p in plain.parameters()])


def test_adamp_that_projects_nothing_is_adam(fused: Any) -> None:
    model = network().npu()
    found = train(model, fused.NpuFusedAdamP(model.parameters(), lr=0.01, delta=-1.0))
    plain = network()
    expected = train(plain, torch.optim.Adam(plain.parameters(), lr=0.01))
    close(found[1], expected[1], 1e-6)


class Written(torch.optim.Optimizer):
    """An optimizer whose update of one parameter is a function of its gradient and state."""

    def __init__(self, parameters: Any, update: Callable[[Tensor, Tensor, dict], Tensor]) -> None:
        super().__init__(parameters, {})
        self.update = update

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for p in self.param_groups[0]["params"]:
            p.sub_(self.update(p, p.grad, self.state[p]))


def moments(g: Tensor, state: dict, b1: float, b2: float) -> tuple[Tensor, Tensor]:
    state["m"] = b1 * state.get("m", torch.zeros_like(g)) + (1 - b1) * g
    state["v"] = b2 * state.get("v", torch.zeros_like(g)) + (1 - b2) * g * g
    return state["m"], state["v"]


def lamb(p: Tensor, g: Tensor, state: dict) -> Tensor:
    m, v = moments(g, state, 0.9, 0.999)
    step = m / (v.sqrt() + 1e-6) + 0.1 * p
    weight, size = p.norm().clamp(0, 10), step.norm()
    return 0.01 * step * (weight / size if weight and size else 1.0)


def bert(p: Tensor, g: Tensor, state: dict) -> Tensor:
    m, v = moments(g, state, 0.9, 0.999)
    return 0.01 * (m / (v.sqrt() + 1e-6) + 0.01 * p)


def rmsprop_tf(p: Tensor, g: Tensor, state: dict) -> Tensor:
    # The mean of squares starts at one, and epsilon is under the root.
    v = state.get("v", torch.ones_like(g))
    state["v"] = v + 0.1 * (g * g - v)
    state["b"] = 0.5 * state.get("b", torch.zeros_like(g)) + 0.01 * g / (state["v"] + 1e-10).sqrt()
    return state["b"]


@pytest.mark.parametrize(
    ("name", "settings", "update"),
    [
        ("NpuFusedLamb", {"lr": 0.01, "weight_decay": 0.1}, lamb),
        ("NpuFusedBertAdam", {"lr": 0.01, "max_grad_norm": -1}, bert),
        ("NpuFusedRMSpropTF", {"lr": 0.01, "momentum": 0.5}, rmsprop_tf),
    ],
)
def test_as_written_out(
    fused: Any, name: str, settings: dict[str, Any], update: Callable[..., Tensor]
) -> None:
    model = network().npu()
    found = train(model, getattr(fused, name)(model.parameters(), **settings))
    plain = network()
    expected = train(plain, Written(plain.parameters(), update))
    close(found[1], expected[1], 1e-5)


# ---- single steps ------------------------------------------------------------------------------


def state() -> list[Tensor]:
    return [torch.randn(5), torch.rand(5), torch.rand(5)]


def stepped(name: str, arguments: tuple[Any, ...], out: list[Tensor]) -> list[Tensor]:
    """The operator's results, which must be the tensors that it was given."""
    on_npu = [t.npu() for t in out]
    op = getattr(torch.ops.npu, name).out
    moved = [t.npu() if isinstance(t, Tensor) else t for t in arguments]
    results = op(*moved, out=on_npu)
    assert [r.data_ptr() for r in results] == [t.data_ptr() for t in on_npu]
    return [t.cpu() for t in on_npu]


@pytest.mark.parametrize("nesterov", [False, True])
def test_apply_adam(nesterov: bool) -> None:
    (var, m, v), g = state(), torch.randn(5)
    found = stepped(
        "npu_apply_adam", (0.81, 0.9, 0.1, 0.9, 0.95, 1e-3, g, False, nesterov), [var, m, v]
    )
    m2, v2 = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
    rate = 0.1 * (1 - 0.9) ** 0.5 / (1 - 0.81)
    direction = 0.9 * m2 + 0.1 * g if nesterov else m2
    close(found, [var - rate * direction / (v2.sqrt() + 1e-3), m2, v2])
    found = stepped("npu_apply_adam", (1, 1, 0.1, 0.9, 0.95, 1e-3, g, False, False), [var, m, v])
    assert found[0].isnan().all()  # 0 / 0, as on the hardware


@pytest.mark.parametrize("maximize", [False, True])
def test_apply_adam_w_is_torchs_step(maximize: bool) -> None:
    parameter = torch.randn(5).requires_grad_()
    optimizer = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.2, maximize=maximize)
    out = [parameter.detach().clone(), torch.zeros(5), torch.zeros(5)]
    for step in range(3):
        parameter.grad = torch.randn(5)
        arguments = (0.9**step, 0.999**step, 0.1, 0.2, 0.9, 0.999, 1e-8, parameter.grad)
        out = stepped("npu_apply_adam_w", (*arguments, None, False, maximize), out)
        optimizer.step()
        close(out[0], parameter.detach())
    with pytest.raises(SoftNpuError, match="amsgrad=True"):
        stepped("npu_apply_adam_w", (*arguments, None, True, False), out)


@pytest.mark.parametrize(("most", "norm", "share"), [(-1.0, 0.0, 1), (2.0, 8.0, 0.25), (2, 1, 1)])
def test_bert_apply_adam(most: float, norm: float, share: float) -> None:
    (var, m, v), g = state(), torch.randn(5)
    arguments = (0.1, 0.9, 0.99, 1e-6, g, most, norm, 0.3)
    found = stepped("npu_bert_apply_adam", arguments, [var, m, v])
    g = g * share
    m2, v2 = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    close(found, [var - 0.1 * (m2 / (v2.sqrt() + 1e-6) + 0.3 * var), m2, v2])


@pytest.mark.parametrize("size", [None, 0.02])
def test_bert_apply_adam_of_mbart(size: float | None) -> None:
    (var, m, v), g = state(), torch.randn(5)
    arguments = (0.1, 0.9, 0.99, 1e-6, g, 2.0, 8.0, 0.3, size, 1)
    found = stepped("npu_bert_apply_adam", arguments, [var, m, v])
    m2, v2 = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    step = 0.1 if size is None else size
    close(found, [var - step * m2 / (v2.sqrt() + 1e-6) - 0.1 * 0.3 * var, m2, v2])


def test_silent_checks_find_nothing_and_change_nothing() -> None:
    g, one = torch.randn(4), torch.ones(1)
    thresholds = (7, 1e6, 1e5, 1e4, 1e3)
    found = call("_npu_silent_check", g, one, one, one, one, one, *thresholds)
    assert (found.dtype, found.tolist()) == (torch.int32, [0])
    on_npu, step = g.npu(), torch.zeros(1, dtype=torch.int64).npu()
    torch.ops.npu._npu_silent_check_v2(
        one.npu(), on_npu, torch.zeros(3).npu(), step, *thresholds, 1
    )
    assert torch.equal(on_npu.cpu(), g)
    assert step.item() == 1


def test_steps_without_out_are_refused_as_torch_npu_refuses_them() -> None:
    g = torch.randn(4).npu()
    with pytest.raises(RuntimeError, match="npu_apply_adam_w is not implemented for Tensor"):
        torch.ops.npu.npu_apply_adam_w(*[0.5] * 7, g, None, False, False)
    with pytest.raises(RuntimeError, match="npu_bert_apply_adam is not implemented for Tensor"):
        torch.ops.npu.npu_bert_apply_adam(*[0.5] * 4, g, 0.0, 0.0, 0.0)

"""torch.optimizers on the soft device: the numbers of torch's own, and their manners."""

from __future__ import annotations

import copy
import gc
import importlib
import pickle
from typing import Any, Callable

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.engine.wrapping import wrapping_construction
from mx_autopatch.model import Status

torch = pytest.importorskip("torch")
torch_npu = pytest.importorskip("torch_npu")

# torch_npu patches what copies and pickles storages, and warns of its own ways.
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")

NAME = "torch.optimizers"
STEPS = 6

CASES: list[tuple[str, dict[str, Any]]] = [
    ("Adam", {}),
    ("Adam", {"weight_decay": 0.05, "betas": (0.8, 0.95), "eps": 1e-6}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {}),
    ("AdamW", {"weight_decay": 0.3, "amsgrad": True}),
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "weight_decay": 1e-2}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3}),
]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the engine patches the three classes, which searches all modules for copies first."""
    wrapper = importlib.import_module("mx_autopatch.patches.torch.optimizers")._fused_if_on_npu
    for cls in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
        build = wrapping_construction(cls, wrapper)
        monkeypatch.setattr(cls, "__init__", build(cls.__init__))


def fused() -> Any:
    return importlib.import_module("mx_autopatch.patches.fused_optimizers")


def parts() -> Any:
    return importlib.import_module("mx_autopatch.patches.fused_parts")


def kept_now() -> set[int]:
    return {id(flat) for flat, _ in parts()._kept}


def network(device: str = "npu") -> Any:
    torch.manual_seed(0)
    layers = (torch.nn.Conv2d(2, 3, 3, bias=False), torch.nn.Flatten(), torch.nn.Linear(48, 4))
    return torch.nn.Sequential(*layers).to(device)


def groups(model: Any) -> list[dict[str, Any]]:
    return [
        {"params": model[0].parameters(), "lr": 0.02},
        {"params": model[2].parameters(), "weight_decay": 0.1},
    ]


def loss(model: Any, number: int) -> Any:
    x = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(number))
    return model(x.to(model[0].weight.device)).square().mean()


def train(model: Any, optimizer: Any, steps: Any = range(STEPS)) -> list[float]:
    losses = []
    for number in steps:
        optimizer.zero_grad()
        value = loss(model, number)
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    return losses


def equal(one: Any, other: Any, atol: float = 1e-6) -> None:
    for p, q in zip(one.parameters(), other.parameters()):
        torch.testing.assert_close(p.detach().cpu(), q.detach().cpu(), rtol=0, atol=atol)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_numbers_are_those_of_torch(patched: Any, name: str, options: Any) -> None:
    cls = getattr(torch.optim, name)
    models, found = [], []
    for device in ("cpu", "npu"):
        model = network(device)
        optimizer = cls(groups(model), lr=0.01, **options)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
        losses = []
        for number in range(STEPS):
            losses += train(model, optimizer, [number])
            schedule.step()
        models.append(model)
        found.append((optimizer, losses))
    equal(*models)
    (on_cpu, losses), (on_npu, its_losses) = found
    assert its_losses == pytest.approx(losses, abs=1e-6)
    assert type(on_cpu) is cls
    assert isinstance(on_npu, cls)
    assert isinstance(on_npu, getattr(torch_npu.optim, f"NpuFused{name}"))
    assert on_npu._layouts == 1  # it did take fused steps
    assert type(on_npu).__name__ == name

    # State dicts go there and back.
    state = on_npu.state_dict()
    assert state["param_groups"] == on_cpu.state_dict()["param_groups"]
    for index, each in on_cpu.state_dict()["state"].items():
        theirs = state["state"][index]
        assert theirs.keys() == each.keys()
        for key, value in each.items():
            if value is None:
                assert theirs[key] is None
            else:
                torch.testing.assert_close(theirs[key].cpu(), value, rtol=0, atol=1e-6)
    models[1].load_state_dict(models[0].state_dict())
    on_npu.load_state_dict(copy.deepcopy(on_cpu.state_dict()))
    assert train(models[1], on_npu, range(9, 12)) == pytest.approx(
        train(models[0], on_cpu, range(9, 12)), abs=1e-6
    )
    equal(*models)


def pair(options: dict[str, Any] | None = None, **more: Any) -> list[tuple[Any, Any]]:
    """A model and its optimizer on the CPU, and the same on the device."""
    found = []
    for device in ("cpu", "npu"):
        model = network(device)
        found.append((model, torch.optim.AdamW(groups(model), lr=0.01, **(options or {}), **more)))
    return found


@pytest.mark.parametrize("clear", [
    lambda model, optimizer: optimizer.zero_grad(set_to_none=True),
    lambda model, optimizer: optimizer.zero_grad(set_to_none=False),
    lambda model, optimizer: model.zero_grad(),
])  # fmt: skip
def test_ways_to_clear_gradients(patched: Any, clear: Callable[[Any, Any], None]) -> None:
    both = pair()
    for model, optimizer in both:
        for number in range(STEPS):
            clear(model, optimizer)
            loss(model, number).backward()
            loss(model, number + 50).backward()  # gradients are accumulated
            optimizer.step()
    equal(both[0][0], both[1][0])
    assert both[1][1]._layouts == 1


def test_parameters_without_a_gradient(patched: Any) -> None:
    """The first layer takes part in some steps alone; a group comes later."""
    both = pair()
    for model, optimizer in both:
        model.extra = torch.nn.Parameter(torch.ones(3, device=model[0].weight.device))
        for number in range(12):
            if number == 4:
                optimizer.add_param_group({"params": [model.extra], "lr": 0.1})
            optimizer.zero_grad()
            model[0].weight.requires_grad_(number % 3 != 1)
            value = loss(model, number) + (model.extra**2).sum()
            value.backward()
            optimizer.step()
    equal(both[0][0], both[1][0])
    torch.testing.assert_close(both[0][0].extra, both[1][0].extra.cpu())
    assert both[1][1]._layouts == fused()._LAYOUTS


def test_options_that_change(patched: Any) -> None:
    models = []
    for device in ("cpu", "npu"):
        model = network(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for number in range(STEPS):
            if number == 3:
                optimizer.param_groups[0]["momentum"] = 0.9
            train(model, optimizer, [number])
        models.append(model)
    equal(*models)


def test_states_and_parameters_that_are_replaced(patched: Any) -> None:
    both = pair()
    for model, optimizer in both:
        train(model, optimizer)
        optimizer.state[model[2].bias]["exp_avg"] = torch.zeros_like(model[2].bias)
        model[2].weight.data = model[2].weight.data * 0.5
        train(model, optimizer)
    equal(both[0][0], both[1][0])


@pytest.mark.parametrize("options", [
    {"foreach": True}, {"foreach": False}, {"maximize": True}, {"fused": False},
    {"lr": torch.tensor(0.01)}, {"differentiable": True},
])  # fmt: skip
def test_what_is_not_fused_is_torchs_own_class(patched: Any, options: dict[str, Any]) -> None:
    own = [torch.optim.Adam(network().parameters(), **options)]
    if options.get("fused") is False:  # says what is so anyway
        assert isinstance(own.pop(), torch_npu.optim.NpuFusedAdam)
    own.append(torch.optim.Adam(network("cpu").parameters()))
    own.append(torch.optim.Adam([*network("cpu").parameters(), *network().parameters()]))

    class Special(torch.optim.Adam):
        pass

    own.append(Special(network().parameters()))
    for optimizer in own:
        assert not isinstance(optimizer, torch_npu.optim.NpuFusedAdam)


@pytest.mark.parametrize("prepare", [
    lambda p: torch.nn.Parameter(p.detach().double()),
    lambda p: torch.nn.Parameter(p.detach().bfloat16()),
    lambda p: torch.nn.Parameter(torch.stack([p.detach(), p.detach()])[1]),
    lambda p: torch.nn.Parameter(p.detach().t()),
])  # fmt: skip
def test_parameters_that_cannot_be_moved(patched: Any, prepare: Callable[[Any], Any]) -> None:
    found = []
    for device in ("cpu", "npu"):
        torch.manual_seed(1)
        p = prepare(torch.randn(3, 4, device=device))
        optimizer = torch.optim.AdamW([p], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            p.square().sum().backward()
            optimizer.step()
        found.append(p.detach().cpu())
    assert optimizer._layouts == 0
    torch.testing.assert_close(*found)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_sparse_gradients(patched: Any) -> None:
    """The soft device steps by none, but the step is left to torch."""
    p = torch.nn.Parameter(torch.randn(4, 3, device="npu"))
    optimizer = torch.optim.SGD([p], lr=0.1)
    index = torch.tensor([[1, 3]], device="npu")
    p.grad = torch.sparse_coo_tensor(index, torch.ones(2, 3, device="npu"), (4, 3))
    assert not optimizer._together()
    assert not hasattr(optimizer, "is_fused_optimizer")


def test_clipping(patched: Any) -> None:
    both = pair()
    norms = []
    for model, optimizer in both:
        for number in range(STEPS):
            optimizer.zero_grad()
            loss(model, number).backward()
            if hasattr(optimizer, "clip_grad_norm_fused_"):
                norm = optimizer.clip_grad_norm_fused_(0.05)
            else:
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
            norms.append(float(norm))
            optimizer.step()
    equal(both[0][0], both[1][0])
    assert norms[:STEPS] == pytest.approx(norms[STEPS:], rel=1e-5)
    assert max(norms) > 0.05
    model, optimizer = both[1]
    optimizer.zero_grad()
    loss(model, 0).backward()
    expected = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
    for kind in (2, 1, float("inf")):
        optimizer.zero_grad()
        loss(model, 0).backward()
        expected = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9, kind)
        assert float(optimizer.clip_grad_norm_fused_(1e9, kind)) == pytest.approx(float(expected))


@pytest.mark.parametrize("scaler", ["torch.amp", "torch.npu.amp"])
@pytest.mark.parametrize("unscale", [False, True])
def test_scalers_of_gradients(patched: Any, scaler: str, unscale: bool) -> None:
    """One step overflows and is left out."""
    both = pair()
    for model, optimizer in both:
        device = model[0].weight.device.type
        make = torch.npu.amp.GradScaler if scaler != "torch.amp" and device == "npu" else None
        scale = make(init_scale=8.0) if make else torch.amp.GradScaler(device, init_scale=8.0)
        for number in range(STEPS):
            optimizer.zero_grad()
            scale.scale(loss(model, number)).backward()
            if number == 3:
                model[2].bias.grad.fill_(float("inf"))
            if unscale:
                scale.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            scale.step(optimizer)
            scale.update()
        assert scale.get_scale() == 4.0
    equal(both[0][0], both[1][0])


@pytest.mark.parametrize("in_buckets", [False, True])
def test_under_ddp(patched: Any, in_buckets: bool) -> None:
    """Gradients that lie in its buckets are left there."""
    dist = torch.distributed
    dist.init_process_group("hccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        models = []
        for device in ("cpu", "npu"):
            model = network(device)
            optimizer = torch.optim.AdamW(groups(model), lr=0.01)
            if device == "npu":
                ddp = torch.nn.parallel.DistributedDataParallel
                wrapped = ddp(model, gradient_as_bucket_view=in_buckets)
            for number in range(STEPS):
                optimizer.zero_grad()
                x = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(number))
                net = model if device == "cpu" else wrapped
                net(x.to(device)).square().mean().backward()
                optimizer.step()
            models.append(model)
        equal(*models)
        assert optimizer._layouts == (0 if in_buckets else 1)
    finally:
        dist.destroy_process_group()


def test_closures_hooks_and_copies(patched: Any) -> None:
    model, optimizer = pair()[1]
    told: list[str] = []
    optimizer.register_step_pre_hook(lambda *args: told.append("before"))
    optimizer.register_step_post_hook(lambda *args: told.append("after"))

    def closure() -> Any:
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        value = loss(model, 0)
        value.backward()
        return value

    values = [float(optimizer.step(closure).detach()) for _ in range(3)]
    assert values[2] < values[0]
    assert told == ["before", "after"] * 3
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert type(twin) is torch.optim.AdamW
        assert twin.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    assert repr(optimizer).startswith("AdamW (")


def test_parameters_outlive_the_optimizer(patched: Any) -> None:
    """torch_npu's own lets their memory go with it."""
    gc.collect()
    parts()._let_go()
    others = kept_now()
    model, optimizer = pair()[1]
    train(model, optimizer)
    wanted = [p.detach().cpu().clone() for p in model.parameters()]
    state = model.state_dict()
    kept = kept_now() - others
    assert kept
    del optimizer
    gc.collect()
    torch.zeros(1000, device="npu")
    assert all(torch.equal(p.cpu(), w) for p, w in zip(model.parameters(), wanted))
    del model
    gc.collect()
    assert all(torch.equal(t.cpu(), w) for t, w in zip(state.values(), wanted))
    assert kept <= kept_now()
    del state
    gc.collect()
    parts()._let_go()
    assert not kept & kept_now()


def test_gradients_are_not_held_twice(patched: Any) -> None:
    p = torch.nn.Parameter(torch.zeros(100_000, device="npu"))
    optimizer = torch.optim.SGD([p], lr=0.1)
    before = torch.npu.memory_allocated()
    for _ in range(2):
        optimizer.zero_grad()
        p.sum().backward()
        optimizer.step()
    optimizer.zero_grad()
    gc.collect()
    assert torch.npu.memory_allocated() - before < 100_000


def test_revert(engine: Any) -> None:
    own = {name: vars(getattr(torch.optim, name))["__init__"] for name in ("Adam", "AdamW", "SGD")}
    report = engine(patches__only=[NAME], device="soft")
    assert {o.status for o in report().of(NAME)} == {Status.LATE}
    both = pair()
    assert isinstance(both[1][1], torch_npu.optim.NpuFusedAdamW)
    schedules = [torch.optim.lr_scheduler.StepLR(optimizer, 2) for _, optimizer in both]
    for model, optimizer in both:
        train(model, optimizer)
    bootstrap.deactivate()
    assert {n: vars(getattr(torch.optim, n))["__init__"] for n in own} == own
    for (model, optimizer), schedule in zip(both, schedules):
        assert type(optimizer) is torch.optim.AdamW
        train(model, optimizer)
        schedule.step()
    equal(both[0][0], both[1][0])


def test_mmengine_builds_and_steps_it(patched: Any) -> None:
    optim = pytest.importorskip("mmengine.optim")
    losses = []
    for device in ("cpu", "npu"):
        model = network(device)
        wrapper = optim.build_optim_wrapper(
            model,
            {
                "type": "OptimWrapper",
                "optimizer": {"type": "AdamW", "lr": 0.01},
                "clip_grad": {"max_norm": 0.05},
                "accumulative_counts": 2,
            },
        )
        assert (type(wrapper.optimizer) is torch.optim.AdamW) is (device == "cpu")
        assert isinstance(wrapper.optimizer, torch.optim.AdamW)
        losses.append([])
        for number in range(STEPS):
            value = loss(model, number)
            wrapper.update_params(value)
            losses[-1].append(float(value.detach()))
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)

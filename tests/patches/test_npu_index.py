"""torch.index and torch.batch_matmul over the kernels of the soft device."""

from __future__ import annotations

import itertools
import warnings
from typing import Any, Callable

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.model import Status

torch = pytest.importorskip("torch")
pytest.importorskip("torch_npu")

INDEX, MATMUL = "torch.index", "torch.batch_matmul"
OPERATORS = {
    INDEX: ("aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_"),
    MATMUL: ("aten::matmul",),
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def counting(names: list[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        names.append(name)
        return function(*args, **kwargs)

    return counted


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which of torch's functions the kernels call."""
    names: list[str] = []
    for owner, name in (
        *((torch, "masked_select"), (torch.Tensor, "masked_fill_")),
        *((torch.Tensor, "masked_scatter_"), (torch.Tensor, "sum")),
    ):
        monkeypatch.setattr(owner, name, counting(names, name, getattr(owner, name)))
    return names


def tables(name: str) -> list[str]:
    return [torch._C._dispatch_dump_table(operator) for operator in OPERATORS[name]]


@pytest.mark.parametrize("name", [INDEX, MATMUL])
def test_what_stood_there_is_there_again(engine: Any, name: str) -> None:
    """However often it is applied, also while it is in force."""
    before = tables(name)
    report = engine(patches__only=[name], device="soft")
    for _ in range(3):
        assert [o.status for o in report().of(name)] == [Status.LATE]
        during = tables(name)
        assert all("overriding.py" in d and d != b for d, b in zip(during, before))
        bootstrap.deactivate()
        assert tables(name) == before
        for _ in range(2):
            bootstrap.activate(overrides={"patches.only": [name], "device": "soft"}, script="x.py")


# -- index -----------------------------------------------------------------------------------

MASKS = {
    "all": lambda x: torch.rand(x.shape) > 0.5,
    "all but the last": lambda x: torch.rand(x.shape[:-1]) > 0.5,
    "of a vector": lambda x: torch.rand(x.shape[:1]) > 0.5,
    "nothing": lambda x: torch.zeros(x.shape, dtype=torch.bool),
    "everything": lambda x: torch.ones(x.shape[:-1], dtype=torch.bool),
}


def both(x: Any, mask: Any, function: Callable[[Any, Any], Any]) -> list[Any]:
    """Result and gradient of ``function`` on the CPU and on the device."""
    found = []
    for device in ("cpu", "npu"):
        here = x.detach().to(device).requires_grad_(x.is_floating_point())
        result = function(here, mask.to(device))
        if here.requires_grad:
            (result * result).sum().backward()
        found.append((result.detach().cpu(), None if here.grad is None else here.grad.cpu()))
    return found


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        *itertools.product([(6, 5), (4, 3, 5)], MASKS),
        *(((7,), kind) for kind in ("all", "nothing")),
    ],
)
def test_reading_by_a_mask(engine: Any, called: list[str], shape: Any, kind: str) -> None:
    engine(patches__only=[INDEX], device="soft")
    x = torch.randn(shape)
    mask = MASKS[kind](x)
    (result, gradient), (on_npu, its_gradient) = both(x, mask, lambda x, m: x[m] * 2)
    assert torch.equal(result, on_npu)
    assert torch.equal(gradient, its_gradient)
    covered = x.dim() - mask.dim() <= 1
    assert called.count("masked_select") == (1 if covered else 0)
    assert called.count("masked_scatter_") == (1 if covered else 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int64", "int8", "uint8", "bool"])
def test_every_dtype(engine: Any, called: list[str], dtype: str) -> None:
    engine(patches__only=[INDEX], device="soft")
    x = torch.randint(0, 2, (5, 3)).to(getattr(torch, dtype))
    mask = torch.tensor([True, False, True, True, False])
    assert torch.equal(x.npu()[mask.npu()].cpu(), x[mask])
    filled, on_npu = x.clone(), x.npu()
    filled[mask] = 1
    on_npu[mask.npu()] = 1
    assert torch.equal(on_npu.cpu(), filled)
    assert {"masked_select", "masked_fill_"} <= set(called)


@pytest.mark.parametrize("kind", ["all", "all but the last", "of a vector"])
def test_writing_one_value(engine: Any, called: list[str], kind: str) -> None:
    """Of which gradients follow both the tensor and the value."""
    engine(patches__only=[INDEX], device="soft")
    x = torch.randn(4, 3, 5)
    mask = MASKS[kind](x)
    value = {device: torch.tensor([2.5], device=device) for device in ("cpu", "npu")}
    for tensor in value.values():
        tensor.requires_grad_()

    def write(x: Any, m: Any) -> Any:
        x = x * 1
        x[m] = value[x.device.type]
        return x

    (result, gradient), (on_npu, its_gradient) = both(x, mask, write)
    assert called.count("masked_fill_") >= 1
    assert torch.equal(result, on_npu)
    assert torch.equal(gradient, its_gradient)
    torch.testing.assert_close(value["npu"].grad.cpu(), value["cpu"].grad)


def test_what_is_not_covered_is_as_before(engine: Any, called: list[str]) -> None:
    engine(patches__only=[INDEX], device="soft")
    x, rows = torch.randn(4, 3, 5), torch.tensor([2, 0])
    on_npu = x.npu()
    mask = torch.rand(4) > 0.4
    assert torch.equal(on_npu[rows.npu()].cpu(), x[rows])
    assert torch.equal(on_npu[:, rows.npu()].cpu(), x[:, rows])
    assert torch.equal(on_npu[rows.npu(), rows.npu()].cpu(), x[rows, rows])
    assert torch.equal(on_npu[mask.npu(), 0].cpu(), x[mask, 0])
    assert torch.equal(on_npu[mask].cpu(), x[mask])  # a mask on the host
    assert torch.equal(on_npu.double()[mask.npu()].cpu(), x.double()[mask])
    assert torch.equal(on_npu[0][torch.tensor(True, device="npu")].cpu(), x[0][torch.tensor(True)])
    x[mask] = torch.ones(5)
    on_npu[mask.npu()] = torch.ones(5, device="npu")
    assert torch.equal(on_npu.cpu(), x)
    assert on_npu.index_put_((rows.npu(),), torch.ones(5).npu(), accumulate=True) is on_npu
    assert torch.equal(on_npu.cpu(), x.index_put_((rows,), torch.ones(5), accumulate=True))
    assert called.count("masked_select") == 1  # of x[mask, 0], which selects first


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x[torch.ones(3, dtype=torch.bool, device="npu")],
        lambda x: x[torch.tensor([9], device="npu")],
        lambda x: x.__setitem__(torch.ones(4, dtype=torch.bool, device="npu"), torch.ones(3).npu()),
    ],
)
def test_errors_are_those_of_before(engine: Any, act: Callable[[Any], Any]) -> None:
    x = torch.randn(4, 2, device="npu")
    messages = []
    for active in (False, True):
        if active:
            engine(patches__only=[INDEX], device="soft")
        with pytest.raises((IndexError, RuntimeError)) as error:
            act(x)
        messages.append((error.type, str(error.value)))
    assert messages[0] == messages[1]


def test_second_derivatives(engine: Any) -> None:
    engine(patches__only=[INDEX], device="soft")
    x = torch.randn(4, 3, device="npu", dtype=torch.float32, requires_grad=True)
    mask = torch.tensor([True, False, True, True], device="npu")
    (gradient,) = torch.autograd.grad((x[mask] ** 3).sum(), x, create_graph=True)
    gradient.sum().backward()
    torch.testing.assert_close(x.grad, 6 * x.detach() * mask[:, None])


def test_compiled_without_a_break(engine: Any) -> None:
    engine(patches__only=[INDEX, MATMUL], device="soft")
    from torch._dynamo import config

    with config.patch(capture_dynamic_output_shape_ops=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")

        def function(x: Any, mask: Any, a: Any, b: Any) -> Any:
            y = x.clone()
            y[mask] = 0.0
            return x[mask] * 2, y, a @ b, x @ x.mT

        compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
        for device in ("cpu", "npu"):
            x, mask = torch.randn(6, 2, device=device), torch.rand(6, device=device) > 0.5
            a, b = torch.randn(2, 1, 3, 3, device=device), torch.randn(2, 4, 3, 1, device=device)
            for one, other in zip(compiled(x, mask, a, b), function(x, mask, a, b)):
                torch.testing.assert_close(one, other)
    torch._dynamo.reset()


# -- batch_matmul ----------------------------------------------------------------------------

PRODUCTS = [
    ((2, 3, 1, 1, 1, 3, 3), (2, 1, 4, 2, 2, 3, 1)),
    ((6, 2, 1, 1, 4, 4), (6, 1, 5, 3, 4, 1)),
    ((2, 5, 4, 4), (2, 5, 4, 1)),
    ((2, 5, 1, 1), (1, 5, 1, 1)),
]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shapes", PRODUCTS)
def test_products(engine: Any, called: list[str], shapes: Any, dtype: str) -> None:
    """No further from the truth than the CPU's own, in half precision too."""
    engine(patches__only=[MATMUL], device="soft")
    dtype = getattr(torch, dtype)
    given = [torch.randn(shape).to(dtype) for shape in shapes]
    found = []
    for device, of in (("cpu", torch.float64), ("cpu", dtype), ("npu", dtype)):
        a, b = (t.detach().to(device, of).requires_grad_() for t in given)
        called.clear()
        result = a @ b
        assert ("sum" in called) is (device == "npu")
        result.backward(torch.ones_like(result))
        found.append([t.detach().cpu() for t in (result, a.grad, b.grad)])
    for true, on_cpu, on_npu in zip(*found):
        assert on_npu.dtype == dtype
        unit = torch.finfo(dtype).eps * true.abs().max()
        assert (on_npu - true).abs().max() <= (on_cpu - true).abs().max() + unit


def test_by_any_name_and_in_any_mode(engine: Any, called: list[str]) -> None:
    engine(patches__only=[MATMUL], device="soft")
    a, b = torch.randn(2, 1, 3, 3, device="npu"), torch.randn(2, 4, 3, 1, device="npu")
    wanted = (a.cpu() @ b.cpu()).npu()
    called.clear()
    with torch.no_grad():
        for result in (torch.matmul(a, b), a.matmul(b), a @ b):
            torch.testing.assert_close(result, wanted)
    with torch.inference_mode():
        torch.testing.assert_close(a @ b, wanted)
    with torch.autocast("npu", torch.bfloat16):
        assert (a @ b).dtype == torch.bfloat16
    assert called.count("sum") == 5


@pytest.mark.parametrize(
    "shapes",
    [
        *(((3, 3), (3, 1)), ((5, 3, 3), (5, 3, 1)), ((2, 5, 8, 8), (2, 5, 8, 1))),
        *(((2, 5, 3, 3), (2, 5, 3, 2)), ((2, 5, 3, 4), (2, 5, 4, 1)), ((2, 5, 3, 3), (3, 1))),
    ],
)
def test_other_products_are_as_before(engine: Any, called: list[str], shapes: Any) -> None:
    engine(patches__only=[MATMUL], device="soft")
    a, b = (torch.randn(shape) for shape in shapes)
    called.clear()
    result = a.npu() @ b.npu()
    assert "sum" not in called
    torch.testing.assert_close(result.cpu(), a @ b)
    with pytest.raises(RuntimeError, match=r"dtype|scalar type"):
        a.npu() @ b.npu().half()
    with pytest.raises(RuntimeError):
        torch.randn(2, 3, 3, 3, device="npu") @ torch.randn(4, 1, 3, 1, device="npu")

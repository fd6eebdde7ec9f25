"""torch_scatter.provided: every function against loops in float64, on the CPU and the npu."""

from __future__ import annotations

import importlib
import itertools
import math
import sys
from typing import Any

import pytest
import torch

import mx_autopatch.provided.torch_scatter as ts
from mx_autopatch.model import Status

#: The soft NPU where torch_npu is there.
DEVICE = "npu" if hasattr(torch, "npu") else "cpu"
REDUCTIONS = ["sum", "add", "mul", "mean", "min", "max"]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def reduced(members: list[float], reduce: str, onto: float | None = None) -> float:
    """One group, by the definition."""
    if reduce in ("sum", "add"):
        return sum(members) + (onto or 0)
    if reduce == "mul":
        return math.prod(members) * (1 if onto is None else onto)
    if reduce == "mean":
        return (sum(members) + (onto or 0)) / max(len(members), 1)
    everything = members + ([] if onto is None else [onto])
    best = {"min": min, "max": max}[reduce]
    return best(everything) if everything else 0


def looped(src, index, dim, size, reduce, out=None):
    """Values and places, element by element; ``index`` is in the shape of ``src``."""
    shape = (*src.shape[:dim], size, *src.shape[dim + 1 :])
    values = torch.zeros(shape, dtype=torch.float64)
    places = torch.full(shape, src.shape[dim])
    for at in itertools.product(*map(range, shape)):
        line = (*at[:dim], slice(None), *at[dim + 1 :])
        members = [v for v, i in zip(src[line].tolist(), index[line].tolist()) if i == at[dim]]
        onto = None if out is None else out[at].item()
        values[at] = reduced(members, reduce, onto)
        if reduce in ("min", "max") and members and (onto is None or values[at] != onto):
            here = (src[line] == values[at]) & (index[line] == at[dim])
            places[at] = here.nonzero()[0, 0]
    return values, places


def spread(index, shape, dim):
    """An index as torch_scatter documents its broadcasting."""
    if index.dim() == 1:
        index = index.view(*[1] * dim, -1)
    return index.view(*index.shape, *[1] * (len(shape) - index.dim())).expand(shape)


def random(*shape, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    return x.mul(10).round().to(dtype) if not dtype.is_floating_point else x.to(dtype)


def indices(*shape, groups=5, seed=0):
    return torch.randint(0, groups, shape, generator=torch.Generator().manual_seed(seed))


#: Shape of src, shape of index, dim.
LAYOUTS = [
    ((13,), (13,), -1),
    ((4, 9), (9,), 1),
    ((9, 4), (9,), 0),
    ((2, 9, 3), (9,), 1),
    ((2, 9, 3), (2, 9), 1),
    ((2, 9, 3), (1, 9), 1),
    ((2, 9, 3), (2, 9, 3), -2),
]


def call(function: str, *tensors: Any, **more: Any) -> Any:
    """A function of the module on the device; the results come back."""
    result = getattr(ts, function)(
        *(t.to(DEVICE) if isinstance(t, torch.Tensor) else t for t in tensors),
        **{k: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for k, v in more.items()},
    )
    return tuple(t.cpu() for t in result) if isinstance(result, tuple) else result.cpu()


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize(("shape", "index_shape", "dim"), LAYOUTS)
def test_scatter(shape, index_shape, dim, reduce):
    src, index = random(*shape), indices(*index_shape)
    dim_left = dim % len(shape)
    values, places = looped(src, spread(index, shape, dim_left), dim_left, 7, reduce)
    found = call(f"scatter_{reduce}", src, index, dim, dim_size=7)
    if reduce in ("min", "max"):
        found, where = found
        assert torch.equal(where, places)
    torch.testing.assert_close(found, values)
    torch.testing.assert_close(call("scatter", src, index, dim, None, 7, reduce), values)
    size = int(index.max()) + 1
    assert call("scatter", src, index, dim, reduce=reduce).shape[dim] == size


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_scatter_onto(reduce):
    src, index, out = random(4, 9), indices(9), random(4, 6, seed=1)
    values, places = looped(src, spread(index, (4, 9), 1), 1, 6, reduce, out)
    there = out.to(DEVICE)
    found = getattr(ts, f"scatter_{reduce}")(src.to(DEVICE), index.to(DEVICE), 1, there)
    if reduce in ("min", "max"):
        found, where = found
        assert torch.equal(where.cpu(), places)
    assert found is there
    torch.testing.assert_close(there.cpu(), values)


@pytest.mark.parametrize("reduce", ["sum", "mul", "mean", "min", "max"])
def test_dtypes(reduce):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.int32):
        src = random(40, dtype=dtype) if dtype.is_floating_point else random(7, dtype=dtype) + 5
        index = indices(len(src))
        found = call("scatter", src, index, reduce=reduce, dim_size=6)
        values, _ = looped(src.double(), index, 0, 6, reduce)
        assert found.dtype == dtype
        # Rounded once, so it is the nearest number.
        expected = values.to(dtype) if dtype.is_floating_point else values.floor().to(dtype)
        tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {}
        torch.testing.assert_close(found, expected, **tolerance)


def test_half_precision_adds_up_in_float32():
    ones = torch.ones(4100, dtype=torch.float16)
    assert call("scatter_sum", ones, torch.zeros(4100, dtype=torch.int64)).item() == 4100
    out = torch.full((1,), 2048, dtype=torch.float16)
    assert call("scatter_add", ones[:8], torch.zeros(8, dtype=torch.int64), out=out).item() == 2056


def test_ties_infinities_and_nan():
    inf, nan = math.inf, math.nan
    src = torch.tensor([2.0, 1, 2, 1, -inf, -inf, nan, 3, nan, inf])
    index = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 3, 4])
    value, where = call("scatter_max", src, index, dim_size=6)
    assert value.tolist() == [2, -inf, 3, 0, inf, 0]
    assert where.tolist() == [0, 4, 7, 10, 9, 10]
    value, where = call("scatter_min", src, index, dim_size=6)
    assert value.tolist() == [1, -inf, 3, 0, inf, 0]
    assert where.tolist() == [1, 4, 7, 10, 9, 10]
    # A tie with what is there already leaves it there.
    value, where = call("scatter_max", torch.tensor([5.0]), torch.tensor([0]), 0, torch.ones(1) * 5)
    assert (value.tolist(), where.tolist()) == ([5], [1])


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_empty(reduce):
    nothing = torch.zeros(0, 3)
    index = torch.zeros(0, dtype=torch.int64)
    assert call("scatter", nothing, index, 0, reduce=reduce).shape == (0, 3)
    found = call("scatter", nothing, index, 0, None, 2, reduce)
    assert found.tolist() == [[1.0 if reduce == "mul" else 0.0] * 3] * 2
    if reduce == "mul":
        return
    assert call("segment_coo", nothing, index, reduce=reduce).shape == (0, 3)
    indptr = torch.tensor([0, 0, 0])
    assert call("segment_csr", nothing, indptr, reduce=reduce).tolist() == [[0.0] * 3] * 2
    if reduce in ("min", "max"):
        assert call(f"scatter_{reduce}", nothing, index, 0, dim_size=1)[1].tolist() == [[0] * 3]


def test_strided_and_transposed():
    src, index = random(18, 6)[::2].t(), indices(18)[::2]
    for reduce in REDUCTIONS:
        expected = call("scatter", src.contiguous(), index.contiguous(), 1, reduce=reduce)
        torch.testing.assert_close(call("scatter", src, index, 1, reduce=reduce), expected)


CSR = [((9,), [0, 2, 2, 6, 9]), ((9, 2), [1, 4, 4, 7]), ((2, 9, 2), [[0, 3, 9], [2, 2, 5]])]


@pytest.mark.parametrize("reduce", ["sum", "add", "mean", "min", "max"])
@pytest.mark.parametrize(("shape", "pointers"), CSR)
def test_segment_csr(shape, pointers, reduce):
    src, indptr = random(*shape), torch.tensor(pointers)
    dim, size = indptr.dim() - 1, indptr.size(-1) - 1
    position = torch.arange(shape[dim])
    ends = indptr.unsqueeze(-1)
    inside = (position >= ends[..., :-1, :]) & (position < ends[..., 1:, :])
    index = torch.where(inside.any(-2), inside.long().argmax(-2), -1)
    index = index.view(*index.shape, *[1] * (len(shape) - index.dim())).expand(shape)
    values, places = looped(src, index, dim, size, reduce)
    out = random(*values.shape, seed=2)
    for more in ({}, {"out": out}):
        found = call(f"segment_{reduce}_csr", src, indptr, **more)  # overwritten, not added to
        if reduce in ("min", "max"):
            found, where = found
            assert torch.equal(where, places)
        torch.testing.assert_close(found, values)
    torch.testing.assert_close(call("segment_csr", src, indptr, None, reduce), values)


@pytest.mark.parametrize("reduce", ["sum", "add", "mean", "min", "max"])
@pytest.mark.parametrize("onto", [False, True])
@pytest.mark.parametrize(("shape", "index_shape"), [((9,), (9,)), ((2, 9, 2), (1, 9))])
def test_segment_coo(shape, index_shape, onto, reduce):
    src, index = random(*shape), indices(*index_shape).sort().values
    dim = index.dim() - 1
    out = random(*shape[:dim], 6, *shape[dim + 1 :], seed=3) if onto else None
    values, places = looped(src, spread(index, shape, dim), dim, 6, reduce, out)
    more = {"out": out} if onto else {"dim_size": 6}
    found = call(f"segment_{reduce}_coo", src, index, **more)
    if reduce in ("min", "max"):
        found, where = found
        assert torch.equal(where, places)
    torch.testing.assert_close(found, values)
    if not onto:
        torch.testing.assert_close(call("segment_coo", src, index, None, 6, reduce), values)


def test_integer_means_are_rounded_as_documented():
    src, index = torch.tensor([-3, -4, 5, 6]), torch.tensor([0, 0, 1, 1])
    assert call("scatter_mean", src, index).tolist() == [-4, 5]
    assert call("segment_mean_coo", src, index).tolist() == [-3, 5]
    assert call("segment_mean_csr", src, torch.tensor([0, 2, 4])).tolist() == [-3, 5]


def test_gather():
    src = random(2, 3, 2)
    indptr = torch.tensor([[0, 2, 2, 5]])
    expected = src[:, [0, 0, 2, 2, 2]]
    assert torch.equal(call("gather_csr", src, indptr), expected)
    assert torch.equal(call("gather_coo", src, torch.tensor([[0, 0, 2, 2, 2]])), expected)
    assert torch.equal(
        call("gather_coo", src, torch.tensor([[1], [2]])), src[[0, 1], [1, 2]][:, None]
    )
    out = torch.full((2, 6, 2), 7.0, dtype=torch.float64)
    found = call("gather_csr", src, torch.tensor([[1, 2, 3, 4]]), out=out)
    assert torch.equal(found[:, 1:4], src)
    assert (found[:, [0, 4, 5]] == 7).all()
    assert call("gather_csr", src[:, :0], torch.zeros(1, 1, dtype=torch.int64)).shape == (2, 0, 2)
    assert torch.equal(call("gather_csr", src, torch.tensor([[1, 2, 3, 4]]))[:, 0], src[:, 0] * 0)


def test_composite():
    src, index = random(2, 9), indices(9)
    groups = [[src[b, index == g] for g in range(6)] for b in range(2)]
    sums = torch.tensor(
        [[g.logsumexp(0) if len(g) else 0.0 for g in row] for row in groups]
    ).double()
    torch.testing.assert_close(
        call("scatter_logsumexp", src, index, dim_size=6), sums, rtol=1e-6, atol=1e-6
    )
    shares = src - sums.gather(1, index.expand(2, -1))
    torch.testing.assert_close(
        call("scatter_log_softmax", src, index), shares, rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(
        call("scatter_softmax", src, index), shares.exp(), rtol=1e-6, atol=1e-6
    )
    for unbiased in (True, False):
        expected = [
            [g.std(unbiased=unbiased and len(g) > 1) if len(g) else 0.0 for g in row]
            for row in groups
        ]
        found = call("scatter_std", src, index, dim_size=6, unbiased=unbiased)
        torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=2e-6, atol=1e-6)
    out = random(2, 6, seed=4)
    found = call("scatter_logsumexp", src, index, out=out.clone())
    present = torch.tensor([len(g) > 0 for g in groups[0]])
    expected = torch.where(present, torch.logaddexp(sums, out), out)
    torch.testing.assert_close(found, expected)
    assert call("scatter_logsumexp", torch.tensor([1e4, 1e4]), torch.tensor([0, 0])).item() > 1e4


DIFFERENTIABLE = [
    *(f"scatter_{reduce}" for reduce in REDUCTIONS),
    *("scatter_std", "scatter_logsumexp", "scatter_softmax", "scatter_log_softmax"),
]


@pytest.mark.parametrize("function", DIFFERENTIABLE)
def test_gradients_of_scatter(function):
    src, index = random(2, 8).to(DEVICE).requires_grad_(), indices(8, groups=3).to(DEVICE)
    f = getattr(ts, function)

    def first(x):
        result = f(x, index, 1)
        return result[0] if isinstance(result, tuple) else result

    assert torch.autograd.gradcheck(first, src, fast_mode=True)


@pytest.mark.parametrize("reduce", ["sum", "mean", "min", "max"])
def test_gradients_of_segments(reduce):
    src = random(2, 8, 2).to(DEVICE).requires_grad_()
    index = indices(2, 8, groups=3).sort().values.to(DEVICE)
    indptr = torch.tensor([[0, 3, 3, 8]]).to(DEVICE)
    check = lambda f: torch.autograd.gradcheck(f, src, fast_mode=True)  # noqa: E731
    assert check(lambda x: ts.segment_coo(x, index, reduce=reduce))
    assert check(lambda x: ts.segment_csr(x, indptr, reduce=reduce))
    assert check(lambda x: ts.gather_coo(x, index))
    assert check(lambda x: ts.gather_csr(x, torch.arange(0, 18, 2, device=DEVICE).view(1, -1)))


def test_gradient_of_the_maximum_goes_to_the_first_of_equals():
    src = torch.tensor([1.0, 3, 3, 2], device=DEVICE, requires_grad=True)
    value, _ = ts.scatter_max(src, torch.zeros(4, dtype=torch.int64, device=DEVICE))
    value.sum().backward()
    assert src.grad.tolist() == [0, 1, 0, 0]


def test_gradient_of_a_product_with_zeros():
    src = torch.tensor([0.0, 3, 2], device=DEVICE, requires_grad=True)
    ts.scatter_mul(src, torch.zeros(3, dtype=torch.int64, device=DEVICE)).sum().backward()
    assert src.grad.tolist() == [6, 0, 0]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ts.scatter([1.0], torch.tensor([0])), TypeError, r"scatter_sum: src: .* list"),
        (lambda: ts.scatter_min(torch.ones(1), torch.tensor([0.0])), TypeError, r"index: .*int64"),
        (lambda: ts.scatter(torch.ones(2), torch.tensor([0])[:0]), ValueError, r"index: .*\(2,\)"),
        (lambda: ts.scatter(torch.ones(1), torch.tensor([0]), 1), ValueError, r"dim: .*1"),
        (lambda: ts.scatter(torch.ones(1), torch.tensor([0]), reduce="div"), ValueError, "'div'"),
        (lambda: ts.scatter(torch.ones(1), torch.tensor([0]), dim_size=-1), ValueError, "dim_size"),
        (
            lambda: ts.scatter_add(torch.ones(1), torch.tensor([0]), out=torch.ones(1).double()),
            TypeError,
            r"scatter_sum: out: .*float64",
        ),
        (
            lambda: ts.scatter_max(torch.ones(2, 1), torch.tensor([0]), 1, torch.ones(3, 1)),
            ValueError,
            r"scatter_max: out: expected shape \(2, 1\) with any size in dimension 1",
        ),
        (lambda: ts.segment_csr(torch.ones(2), torch.zeros(1, 2).long()), ValueError, "indptr"),
        (
            lambda: ts.segment_sum_csr(torch.ones(2), torch.tensor([0, 2]), torch.ones(2)),
            ValueError,
            "out: .* size 1",
        ),
        (lambda: ts.segment_coo(torch.ones(2), torch.zeros(3).long()), ValueError, "index"),
        (lambda: ts.gather_csr(torch.ones(2), torch.tensor([0, 2])), ValueError, "3 entries"),
        (lambda: ts.gather_coo(torch.ones(2), torch.tensor([[0]])), ValueError, "1 to 1 dim"),
        (
            lambda: ts.scatter_softmax(torch.ones(2).long(), torch.zeros(2).long()),
            ValueError,
            "floating",
        ),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()


# -- the patch --------------------------------------------------------------------


@pytest.fixture
def forget(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch_scatter"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("forget")
def test_provided_where_it_is_not_installed(engine):
    from mx_autopatch import bootstrap

    if importlib.util.find_spec("torch_scatter") is not None:
        pytest.skip("the real one is installed")
    engine(patches__only=["torch_scatter.provided"])
    torch_scatter = importlib.import_module("torch_scatter")
    assert torch_scatter.__version__.startswith("2.1")
    assert torch_scatter.scatter(torch.ones(3), torch.tensor([0, 1, 1])).tolist() == [1, 2]
    from torch_scatter.composite import scatter_softmax
    from torch_scatter.scatter import scatter_max
    from torch_scatter.utils import broadcast

    assert scatter_max is torch_scatter.scatter_max
    assert scatter_softmax is torch_scatter.scatter_softmax
    assert broadcast(torch.tensor([0, 1]), torch.ones(2, 2, 3), 1).shape == (2, 2, 3)
    # Still functions, though modules of their names have been imported.
    assert callable(torch_scatter.scatter)
    assert callable(torch_scatter.segment_csr)
    with pytest.raises(AttributeError):
        _ = torch_scatter.spmm
    outcomes = [o for o in bootstrap.report() if o.patch == "torch_scatter.provided"]
    assert {o.status for o in outcomes} == {Status.APPLIED}


REAL = """
__version__ = "0"
def scatter_sum():
    return "real"
"""


@pytest.mark.usefixtures("forget")
def test_an_installed_one_is_left_alone(engine, write):
    write({"torch_scatter/__init__.py": REAL, "torch_scatter/scatter.py": "own = True"})
    engine(patches__only=["torch_scatter.provided"])
    assert importlib.import_module("torch_scatter").scatter_sum() == "real"
    assert importlib.import_module("torch_scatter.scatter").own


@pytest.mark.usefixtures("forget")
def test_an_installed_one_that_does_not_load_is_replaced(engine, write):
    write({"torch_scatter/__init__.py": "raise OSError('undefined symbol')"})
    engine(patches__only=["torch_scatter.provided"])
    torch_scatter = importlib.import_module("torch_scatter")
    assert torch_scatter.scatter_sum is ts.scatter_sum
    assert importlib.import_module("torch_scatter.scatter").scatter_sum is ts.scatter_sum
    assert callable(torch_scatter.scatter)

"""flash_attn's functions against the formula in float64, on the CPU and the npu."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flash_formula import attention

import mx_autopatch.provided.flash_attn as fa
from mx_autopatch.provided.flash_attn import _npu
from mx_autopatch.provided.flash_attn import flash_attn_interface as interface

#: The soft NPU where torch_npu is there.
DEVICE = "npu" if hasattr(torch, "npu") else "cpu"
CLOSE = {"rtol": 1e-4, "atol": 2e-5}
HALF = {"rtol": 1e-2, "atol": 4e-3}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def qkv(queries, keys, heads=4, key_heads=4, width=8, batch=2, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = [(batch, queries, heads, width), *[(batch, keys, key_heads, width)] * 2]
    if batch == 0:
        shapes = [shape[1:] for shape in shapes]
    return [torch.randn(shape, generator=g).to(dtype) for shape in shapes]


def expected(q, k, v, **options):
    """The formula for each sequence of a batch; slopes may differ between sequences."""
    slopes = options.pop("slopes", None)
    parts = []
    for b in range(q.size(0)):
        each = slopes[b] if slopes is not None and slopes.dim() == 2 else slopes
        parts.append(attention(q[b], k[b], v[b], slopes=each, **options))
    return [torch.stack(t) for t in zip(*parts)]


def call(function, *tensors, **options):
    """A function on the device; what it returns comes back."""
    moved = [t.to(DEVICE) if isinstance(t, torch.Tensor) else t for t in tensors]
    options = {k: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    result = function(*moved, **options)
    return tuple(t.cpu() for t in result) if isinstance(result, tuple) else result.cpu()


@pytest.fixture
def npu_calls(monkeypatch):
    """The calls of the fused operator."""
    calls = []
    original = _npu._call

    def counted(*args, **more):
        calls.append((args[3], more.get("sparse_mode")))
        return original(*args, **more)

    monkeypatch.setattr(_npu, "_call", counted)
    return calls


SIZES = [(5, 5), (3, 7), (7, 3), (1, 6), (6, 1)]
FORMS = [
    {},
    {"causal": True},
    {"window": (2, 1)},
    {"window": (1, -1)},
    {"window": (-1, 0)},
    {"window": (2, 3), "causal": True},
    {"scale": 0.3},
]


def given(form):
    names = {"window": "window_size", "scale": "softmax_scale", "slopes": "alibi_slopes"}
    return {names.get(name, name): value for name, value in form.items()}


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize(("queries", "keys"), SIZES)
def test_windows(queries, keys, form, npu_calls):
    q, k, v = qkv(queries, keys)
    out, logarithms, shares = expected(q, k, v, **form)
    found = call(fa.flash_attn_func, q, k, v, **given(form))
    torch.testing.assert_close(found.double(), out, **CLOSE)
    assert bool(npu_calls) == (DEVICE == "npu")
    statistics = call(fa.flash_attn_func, q, k, v, return_attn_probs=True, **given(form))
    for got, want in zip(statistics, (out, logarithms, shares)):
        torch.testing.assert_close(got.double(), want, **CLOSE)


@pytest.mark.parametrize("key_heads", [1, 2])
@pytest.mark.parametrize("causal", [False, True])
def test_fewer_heads_of_keys(key_heads, causal):
    q, k, v = qkv(4, 6, heads=4, key_heads=key_heads)
    out, *_ = expected(q, k, v, causal=causal)
    found = call(fa.flash_attn_func, q, k, v, causal=causal)
    torch.testing.assert_close(found.double(), out, **CLOSE)
    packed = torch.stack((k, v), 2)
    found = call(fa.flash_attn_kvpacked_func, q, packed, causal=causal)
    torch.testing.assert_close(found.double(), out, **CLOSE)


@pytest.mark.parametrize(
    "form",
    [
        {"slopes": torch.tensor([0.5, 0.25, 0.1, 1.0])},
        {"slopes": torch.tensor([[0.5, 0.25, 0.1, 1.0], [0.0, 2.0, 0.3, 0.7]]), "causal": True},
        {"softcap": 0.8},
        {"softcap": 2.0, "slopes": torch.tensor([0.5, 0.25, 0.1, 1.0]), "window": (2, 0)},
    ],
    ids=["alibi", "alibi each, causal", "softcap", "all"],
)
@pytest.mark.parametrize(("queries", "keys"), [(3, 7), (7, 3)])
def test_bias_and_cap(queries, keys, form):
    q, k, v = qkv(queries, keys)
    out, logarithms, _ = expected(q, k, v, **form)
    found = call(fa.flash_attn_func, q, k, v, **given(form))
    torch.testing.assert_close(found.double(), out, **CLOSE)
    statistics = call(fa.flash_attn_func, q, k, v, return_attn_probs=True, **given(form))
    torch.testing.assert_close(statistics[1].double(), logarithms, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype):
    q, k, v = qkv(5, 7, dtype=dtype)
    tolerance = {} if dtype == torch.float64 else HALF
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else tolerance
    for form in ({"causal": True}, {"slopes": torch.tensor([0.5, 0.25, 0.1, 1.0])}):
        found = call(fa.flash_attn_func, q, k, v, **given(form))
        assert found.dtype == dtype
        out, *_ = expected(q, k, v, **form)
        torch.testing.assert_close(found.double(), out, **tolerance)


def test_packed_arguments():
    q, k, v = qkv(5, 5)
    both = call(fa.flash_attn_qkvpacked_func, torch.stack((q, k, v), 2), causal=True)
    assert torch.equal(both, call(fa.flash_attn_func, q, k, v, causal=True))


LENGTHS = [
    ([3, 5, 2], [4, 1, 6]),
    ([4, 4], [4, 4]),
    ([2, 0, 3], [3, 2, 0]),
    ([3, 3], [5, 2]),
    ([1], [4]),
    ([0, 0], [1, 2]),
]


def ends(lengths):
    return torch.tensor([0, *lengths]).cumsum(0).int()


def sequences(tokens, lengths):
    return tokens[: sum(lengths)].split(lengths)


@pytest.mark.parametrize(
    "form",
    [*FORMS[:4], {"slopes": torch.linspace(0.1, 1.2, 12).view(3, 4)}, {"softcap": 1.0}],
    ids=str,
)
@pytest.mark.parametrize(("queries", "keys"), LENGTHS, ids=str)
def test_packed_sequences(queries, keys, form):
    # One token more than the sequences have, which takes no part.
    q, k, v = qkv(sum(queries) + 1, sum(keys), batch=0)
    form = dict(form)
    slopes = form.pop("slopes", None)
    slopes = None if slopes is None else slopes[: len(queries)]
    parts = []
    each = zip(*(sequences(t, n) for t, n in ((q, queries), (k, keys), (v, keys))))
    for b, three in enumerate(each):
        parts.append(attention(*three, slopes=None if slopes is None else slopes[b], **form))
    out = torch.cat([part[0] for part in parts] + [q[-1:].double() * 0])
    arguments = (q, k, v, ends(queries), ends(keys), max(queries), max(keys))
    options = {**given(form), "alibi_slopes": slopes}
    found = call(fa.flash_attn_varlen_func, *arguments, **options)
    torch.testing.assert_close(found.double(), out, **CLOSE)
    found, logarithms, shares = call(
        fa.flash_attn_varlen_func, *arguments, **options, return_attn_probs=True
    )
    torch.testing.assert_close(found.double(), out, **CLOSE)
    wanted = torch.cat([part[1] for part in parts], 1)
    torch.testing.assert_close(logarithms.double(), wanted, **CLOSE)
    for b, part in enumerate(parts):
        share = shares[b, :, : queries[b], : keys[b]]
        torch.testing.assert_close(share.double(), part[2], **CLOSE)


def test_packed_sequences_and_arguments():
    q, k, v = qkv(10, 10, batch=0)
    at = ends([3, 5, 2])
    three = call(fa.flash_attn_varlen_qkvpacked_func, torch.stack((q, k, v), 1), at, 5, causal=True)
    two = call(
        fa.flash_attn_varlen_kvpacked_func, q, torch.stack((k, v), 1), at, at, 5, 5, causal=True
    )
    one = call(fa.flash_attn_varlen_func, q, k, v, at, at, 5, 5, causal=True)
    assert torch.equal(three, one)
    assert torch.equal(two, one)


def test_more_sequences_than_the_npu_operator_takes(monkeypatch, npu_calls):
    q, k, v = qkv(10, 11, batch=0)
    at = ends([3, 5, 2]), ends([4, 1, 6])
    usual = call(fa.flash_attn_varlen_func, q, k, v, *at, 5, 6, causal=True)
    monkeypatch.setattr(_npu, "most_packed", 2)
    padded = call(fa.flash_attn_varlen_func, q, k, v, *at, 5, 6, causal=True)
    torch.testing.assert_close(usual, padded, **CLOSE)
    if DEVICE == "npu":
        assert npu_calls == [("TND", 3), ("BSND", 1)]


@pytest.mark.parametrize("causal", [False, True])
def test_version_1_aligns_to_the_upper_left(causal):
    queries, keys = [3, 5, 2], [4, 1, 6]
    q, k, v = qkv(10, 11, batch=0)
    each = zip(*(sequences(t, n) for t, n in ((q, queries), (k, keys), (v, keys))))
    parts = [attention(*three, causal=causal, upper_left=True) for three in each]
    at = ends(queries), ends(keys)
    found = call(interface.flash_attn_unpadded_func, q, k, v, *at, 5, 6, 0.0, None, causal)
    torch.testing.assert_close(found.double(), torch.cat([part[0] for part in parts]), **CLOSE)
    packed = torch.stack((k, v), 1)
    again = call(
        interface.flash_attn_unpadded_kvpacked_func, q, packed, *at, 5, 6, 0.0, causal=causal
    )
    assert torch.equal(again, found)
    _, logarithms, _ = call(
        interface.flash_attn_unpadded_func, q, k, v, *at, 5, 6, 0.0, None, causal, True
    )
    torch.testing.assert_close(logarithms[0, :, :3].double(), parts[0][1], **CLOSE)
    assert logarithms.shape == (3, 4, 5)
    three = torch.stack((q, q, q), 1)
    assert call(interface.flash_attn_unpadded_qkvpacked_func, three, at[0], 5, 0.0).shape == q.shape


@pytest.mark.parametrize(
    "form", [{}, {"causal": True}, {"window": (1, 0)}, {"softcap": 1.0}], ids=str
)
@pytest.mark.parametrize(("queries", "keys"), [(4, 4), (2, 5), (5, 2)])
def test_gradients(queries, keys, form):
    tensors = qkv(queries, keys, key_heads=2)
    weight = torch.randn(tensors[0].shape, generator=torch.Generator().manual_seed(9))
    leaves = [t.double().requires_grad_() for t in tensors]
    out, *_ = expected(*leaves, **form)
    wanted = torch.autograd.grad((out * weight).sum(), leaves)
    leaves = [t.to(DEVICE).requires_grad_() for t in tensors]
    found = fa.flash_attn_func(*leaves, **given(form))
    for got, want in zip(torch.autograd.grad((found * weight.to(DEVICE)).sum(), leaves), wanted):
        torch.testing.assert_close(got.cpu().double(), want, **CLOSE)


def test_gradients_of_packed_sequences():
    queries, keys = [3, 5, 2], [4, 1, 6]
    tensors = qkv(10, 11, key_heads=2, batch=0)
    leaves = [t.double().requires_grad_() for t in tensors]
    each = zip(*(sequences(t, n) for t, n in zip(leaves, (queries, keys, keys))))
    out = torch.cat([attention(*three, causal=True)[0] for three in each])
    wanted = torch.autograd.grad((out * out).sum(), leaves)
    leaves = [t.to(DEVICE).requires_grad_() for t in tensors]
    at = ends(queries).to(DEVICE), ends(keys).to(DEVICE)
    found = fa.flash_attn_varlen_func(*leaves, *at, 5, 6, causal=True)
    for got, want in zip(torch.autograd.grad((found * found).sum(), leaves), wanted):
        torch.testing.assert_close(got.cpu().double(), want, **CLOSE)


def test_gradcheck():
    leaves = [
        t.double().requires_grad_() for t in qkv(3, 4, heads=2, key_heads=1, width=3, batch=1)
    ]
    slopes = torch.tensor([0.5, 0.1], dtype=torch.float64)

    def function(q, k, v):
        return fa.flash_attn_func(q, k, v, causal=True, alibi_slopes=slopes)

    assert torch.autograd.gradcheck(function, leaves)


def test_strided_and_empty():
    q, k, v = qkv(5, 7)
    usual = call(fa.flash_attn_func, q, k, v)
    strided = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v)]
    torch.testing.assert_close(call(fa.flash_attn_func, *strided), usual)
    assert call(fa.flash_attn_func, q[:0], k[:0], v[:0]).shape == (0, 5, 4, 8)
    assert call(fa.flash_attn_func, q[:, :0], k, v).shape == (2, 0, 4, 8)
    assert not call(fa.flash_attn_func, q, k[:, :0], v[:, :0]).any()
    out, logarithms, shares = call(
        fa.flash_attn_func, q, k[:, :0], v[:, :0], return_attn_probs=True
    )
    assert not out.any()
    assert (logarithms == float("inf")).all()
    assert shares.shape == (2, 4, 5, 0)


def test_dropout():
    q, k, v = qkv(32, 32, batch=1)
    v = torch.ones_like(v)
    assert (call(fa.flash_attn_func, q, k, v, 0.0) - 1).abs().max() < 1e-5
    torch.manual_seed(0)
    dropped = call(fa.flash_attn_func, q, k, v, 0.5)
    assert (dropped - 1).abs().max() > 0.1
    assert abs(dropped.mean() - 1) < 0.1
    out, _, shares = call(fa.flash_attn_func, q, k, v, 0.25, return_attn_probs=True)
    whole = call(fa.flash_attn_func, q, k, v, return_attn_probs=True)[2]
    torch.testing.assert_close(shares.abs(), whole)
    assert 0.2 < (shares < 0).float().mean() < 0.3
    torch.testing.assert_close(out[..., 0].transpose(1, 2), shares.clamp(min=0).sum(-1) / 0.75)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"q": [1]}, TypeError, "flash_attn_func: q: .* list"),
        ({"q": torch.ones(2, 3, 4, 8).long()}, TypeError, "q: expected a floating dtype"),
        ({"k": torch.ones(2, 3, 4, 8).half()}, TypeError, "k: expected torch.float32 as q"),
        (
            {"q": torch.ones(3, 4, 8)},
            ValueError,
            r"q: expected 4 dimensions, got shape \(3, 4, 8\)",
        ),
        ({"v": torch.ones(2, 4, 4, 8)}, ValueError, r"v: expected shape \(2, 3, 4, 8\)"),
        ({"q": torch.ones(2, 3, 6, 8)}, ValueError, "k: .* divides the 6 of q, got 4"),
        ({"q": torch.ones(2, 3, 4, 6)}, ValueError, "k: expected width 6 as q, got 8"),
        ({"q": torch.ones(1, 3, 4, 8)}, ValueError, r"k: expected shape \(1, 3, 4, 8\)"),
        ({"dropout_p": 1.5}, ValueError, "dropout_p: .*1.5"),
        ({"window_size": (1,)}, ValueError, r"window_size: .*\(1,\)"),
        ({"alibi_slopes": torch.ones(3)}, ValueError, r"alibi_slopes: .*\(4,\) or \(2, 4\)"),
    ],
)
def test_bad_arguments(change, error, words):
    arguments = {name: torch.ones(2, 3, 4, 8) for name in "qkv"}
    with pytest.raises(error, match=words):
        fa.flash_attn_func(**{**arguments, **change})


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"cu_seqlens_q": torch.tensor([0.0, 3])}, TypeError, "cu_seqlens_q: .*float32"),
        ({"cu_seqlens_q": torch.tensor([0, 4])}, ValueError, r"cu_seqlens_q: .* \[0, 4\]"),
        ({"cu_seqlens_k": torch.tensor([0, 2, 1])}, ValueError, r"cu_seqlens_k: .* \[0, 2, 1\]"),
        ({"cu_seqlens_k": torch.tensor([0, 2, 3])}, ValueError, "cu_seqlens_k: expected 2 entries"),
        ({"block_table": torch.zeros(1, 1).int()}, NotImplementedError, "block_table"),
    ],
)
def test_bad_arguments_of_packed_sequences(change, error, words):
    arguments = {name: torch.ones(3, 4, 8) for name in "qkv"}
    at = torch.tensor([0, 3], dtype=torch.int32)
    arguments.update(cu_seqlens_q=at, cu_seqlens_k=at, max_seqlen_q=3, max_seqlen_k=3)
    with pytest.raises(error, match=words):
        fa.flash_attn_varlen_func(**{**arguments, **change})
    with pytest.raises(ValueError, match=r"qkv: expected shape \(3, 3, 4, 8\)"):
        fa.flash_attn_varlen_qkvpacked_func(torch.ones(3, 2, 4, 8), at, 3)

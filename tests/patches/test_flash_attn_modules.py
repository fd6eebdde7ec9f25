"""flash_attn's cache, padding and modules, and the patches that provide them."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest
import torch
from flash_formula import attention
from test_flash_attn import CLOSE, DEVICE, _one_thread, call, expected, qkv  # noqa: F401

import mx_autopatch.provided.flash_attn as fa
from mx_autopatch.model import Status
from mx_autopatch.provided.flash_attn import bert_padding, flash_attention, mha, rotary

# -- the cache --------------------------------------------------------------------


def cached(used, **options):
    """Query of 2 tokens for each of 3 sequences, with ``used`` entries of a cache of 8."""
    q, k, v = qkv(2, 8, key_heads=2, batch=3)
    out = call(fa.flash_attn_with_kvcache, q, k, v, cache_seqlens=used, **options)
    parts = [
        attention(q[b], k[b, :n], v[b, :n], causal=options.get("causal", False))
        for b, n in enumerate(used.tolist() if isinstance(used, torch.Tensor) else [used] * 3)
    ]
    return out, [torch.stack(t) for t in list(zip(*parts))[:2]]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("used", [5, torch.tensor([5, 8, 1], dtype=torch.int32)], ids=str)
def test_cache(used, causal):
    out, (wanted, _) = cached(used, causal=causal)
    torch.testing.assert_close(out.double(), wanted, **CLOSE)
    (out, logarithms), (_, wanted) = cached(used, causal=causal, return_softmax_lse=True)
    torch.testing.assert_close(logarithms.double(), wanted, **CLOSE)


def test_new_keys_are_written():
    q, k, v = qkv(2, 8, batch=3)
    new = [t[:, :2] for t in qkv(2, 8, batch=3, seed=5)[1:]]
    used = [4, 6, 0]
    caches = [t.clone().to(DEVICE) for t in (k, v)]
    out = fa.flash_attn_with_kvcache(
        q.to(DEVICE),
        *caches,
        *(t.to(DEVICE) for t in new),
        cache_seqlens=torch.tensor(used, dtype=torch.int32, device=DEVICE),
        causal=True,
    )
    for cache, old, added in zip(caches, (k, v), new):
        for b, n in enumerate(used):
            old[b, n : n + 2] = added[b]
        assert torch.equal(cache.cpu(), old)
    for b, n in enumerate(used):
        wanted, *_ = attention(q[b], k[b, : n + 2], v[b, : n + 2], causal=True)
        torch.testing.assert_close(out[b].cpu().double(), wanted, **CLOSE)


def test_rows_blocks_and_padding_of_the_cache():
    q, k, v = qkv(1, 8, batch=3)
    used = torch.tensor([5, 8, 3])
    rows = torch.tensor([2, 0, 1])
    out = call(fa.flash_attn_with_kvcache, q, k, v, cache_seqlens=used, cache_batch_idx=rows)
    straight = call(fa.flash_attn_with_kvcache, q, k[rows], v[rows], cache_seqlens=used)
    assert torch.equal(out, straight)
    # Blocks of four: sequence b has the blocks 2 b and 2 b + 1, stored in another order.
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    blocks = [t.reshape(6, 4, 4, 8)[order] for t in (k, v)]
    table = order.argsort().view(3, 2).int()
    out = call(fa.flash_attn_with_kvcache, q, *blocks, cache_seqlens=used, block_table=table)
    assert torch.equal(out, call(fa.flash_attn_with_kvcache, q, k, v, cache_seqlens=used))
    first = torch.tensor([0, 3, 2])
    out = call(fa.flash_attn_with_kvcache, q, k, v, cache_seqlens=used, cache_leftpad=first)
    for b, (start, end) in enumerate(zip(first.tolist(), used.tolist())):
        wanted, *_ = attention(q[b], k[b, start:end], v[b, start:end])
        torch.testing.assert_close(out[b].double(), wanted, **CLOSE)


def turned(x, angles, interleaved):
    """Each pair as a complex number, times a number of length one."""
    pairs = angles.size(-1)
    x = x.double()
    if interleaved:
        first, second = x[..., 0 : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2]
    else:
        first, second = x[..., :pairs], x[..., pairs : 2 * pairs]
    z = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles).unsqueeze(1)
    result = x.clone()
    if interleaved:
        result[..., 0 : 2 * pairs : 2], result[..., 1 : 2 * pairs : 2] = z.real, z.imag
    else:
        result[..., :pairs], result[..., pairs : 2 * pairs] = z.real, z.imag
    return result


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary(interleaved):
    q, k, v = qkv(2, 6, batch=1)
    angles = torch.arange(8).double().view(-1, 1) * torch.tensor([1.0, 0.3, 0.1]).double()
    cos, sin = angles.cos().float(), angles.sin().float()
    found = call(rotary.apply_rotary_emb, q, cos, sin, interleaved, seqlen_offsets=3)
    wanted = turned(q[0], angles[3:5], interleaved)
    torch.testing.assert_close(found[0].double(), wanted, **CLOSE)
    new = [t[:, :2] for t in qkv(2, 6, batch=1, seed=5)[1:]]
    for causal in (True, False):
        out = call(
            *(fa.flash_attn_with_kvcache, q, k.clone(), v.clone(), *new, cos, sin, 3),
            rotary_interleaved=interleaved,
            causal=causal,
        )
        keys = torch.cat((k[0, :3].double(), turned(new[0][0], angles[3:5], interleaved)))
        places = angles[3:5] if causal else angles[3:4]
        values = torch.cat((v[0, :3], new[1][0]))
        wanted, *_ = attention(turned(q[0], places, interleaved), keys, values, causal=causal)
        torch.testing.assert_close(out[0].double(), wanted, **CLOSE)


def test_bad_arguments_of_the_cache():
    q, k, v = qkv(1, 4)
    with pytest.raises(ValueError, match="v: expected a tensor"):
        fa.flash_attn_with_kvcache(q, k, v, q)
    with pytest.raises(ValueError, match="cache_seqlens: needed"):
        fa.flash_attn_with_kvcache(q, k, v, q, q)
    with pytest.raises(ValueError, match=r"1 new keys do not fit into a cache of 4 .*\[4, 4\]"):
        fa.flash_attn_with_kvcache(q, k, v, q, q, cache_seqlens=4)
    with pytest.raises(NotImplementedError, match=r"rotary_cos: \(4, 2\)"):
        fa.flash_attn_with_kvcache(q, k, v, rotary_cos=torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"k_cache: expected 2 rows, got 1"):
        fa.flash_attn_with_kvcache(q, k[:1], v[:1])


# -- padding ----------------------------------------------------------------------


def test_padding_there_and_back():
    states = torch.randn(3, 4, 2, requires_grad=True)
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0]])
    tokens, indices, at, longest = bert_padding.unpad_input(states, mask)
    assert torch.equal(tokens, states[mask.bool()])
    assert (at.tolist(), at.dtype, longest) == ([0, 2, 5, 5], torch.int32, 3)
    again = bert_padding.pad_input(tokens, indices, 3, 4)
    assert torch.equal(again, states * mask.unsqueeze(-1))
    again.sum().backward()
    assert torch.equal(states.grad, mask.unsqueeze(-1).expand(-1, -1, 2).float())
    assert torch.equal(bert_padding.index_first_axis(states.flatten(0, 1), indices), tokens)
    unused = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    results = bert_padding.unpad_input(states, mask, unused)
    assert results[2].tolist() == [0, 3, 6, 6]
    assert results[4].tolist() == [2, 3, 0]
    with pytest.raises(ValueError, match=r"attention_mask: expected shape \(3, 4\)"):
        bert_padding.unpad_input(states, mask[:2])


def test_several_sequences_in_a_row():
    states = torch.arange(18.0).view(3, 6, 1)
    lengths = torch.tensor([[2, 3, 0, 0, 0, 0], [3, 2, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0]])
    found = bert_padding.unpad_input_for_concatenated_sequences(states, lengths)
    tokens, _, at, longest = found
    assert tokens.flatten().tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17]
    assert (at.tolist(), longest) == ([0, 2, 5, 8, 10, 16], 6)


# -- modules ----------------------------------------------------------------------


def padded_reference(q, k, v, lengths, **options):
    """The formula on the first tokens of each sequence; zeros for the other queries."""
    out = torch.zeros(q.shape, dtype=torch.float64)
    for b, n in enumerate(lengths):
        out[b, :n] = attention(q[b, :n], k[b, :n], v[b, :n], **options)[0]
    return out


@pytest.mark.parametrize("causal", [False, True])
def test_flash_attention_of_version_1(causal):
    q, k, v = qkv(6, 6)
    packed = torch.stack((q, k, v), 2).to(DEVICE)
    module = flash_attention.FlashAttention(attention_dropout=0.5).eval()
    out, weights = module(packed, causal=causal)
    assert weights is None
    torch.testing.assert_close(out.cpu().double(), expected(q, k, v, causal=causal)[0], **CLOSE)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
    out, _ = module(packed, mask.to(DEVICE), causal=causal)
    wanted = padded_reference(q, k, v, [4, 6], causal=causal)
    torch.testing.assert_close(out.cpu().double(), wanted, **CLOSE)
    at = torch.tensor([0, 6, 12], dtype=torch.int32, device=DEVICE)
    flat, _ = module(packed.flatten(0, 1), causal=causal, cu_seqlens=at, max_s=6)
    assert torch.equal(flat.view(out.shape), module(packed, causal=causal)[0])
    with pytest.raises(NotImplementedError, match="need_weights"):
        module(packed, need_weights=True)


def reference_module(module, heads):
    """torch's own multi-head attention with the same weights."""
    other = torch.nn.MultiheadAttention(module.embed_dim, heads, batch_first=True)
    other.load_state_dict(
        {
            "in_proj_weight": module.Wqkv.weight,
            "in_proj_bias": module.Wqkv.bias,
            "out_proj.weight": module.out_proj.weight,
            "out_proj.bias": module.out_proj.bias,
        }
    )
    return other.eval()


@pytest.mark.parametrize("kind", ["FlashMHA", "MHA", "MHA with flash"])
def test_multi_head_modules(kind):
    torch.manual_seed(0)
    if kind == "FlashMHA":
        module = flash_attention.FlashMHA(16, 2)
    else:
        module = mha.MHA(16, 2, use_flash_attn=kind != "MHA")
    module.eval()
    x = torch.randn(2, 5, 16)
    wanted, _ = reference_module(module, 2)(x, x, x)
    module.to(DEVICE)
    out = module(x.to(DEVICE))
    out = out[0] if isinstance(out, tuple) else out
    torch.testing.assert_close(out.cpu(), wanted, **CLOSE)
    out.sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    if kind == "MHA with flash":
        at = torch.tensor([0, 5, 10], dtype=torch.int32, device=DEVICE)
        flat = module(x.flatten(0, 1).to(DEVICE), cu_seqlens=at, max_seqlen=5)
        torch.testing.assert_close(flat.view(out.shape), out, **CLOSE)


def test_cross_attention_with_fewer_heads():
    torch.manual_seed(0)
    module = mha.MHA(16, 4, num_heads_kv=2, cross_attn=True, use_flash_attn=True)
    plain = mha.MHA(16, 4, num_heads_kv=2, cross_attn=True, return_residual=True)
    plain.load_state_dict(module.state_dict())
    x, other = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    first, (second, residual) = module(x, other), plain(x, other)
    torch.testing.assert_close(first, second)
    assert residual is x
    q = module.Wq(x).view(2, 3, 4, 4)
    k, v = module.Wkv(other).view(2, 5, 2, 2, 4).unbind(2)
    wanted = module.out_proj(expected(q, k, v)[0].float().flatten(2))
    torch.testing.assert_close(first, wanted, **CLOSE)
    grouped = mha.MHA(16, 4, num_heads_kv=2, use_flash_attn=True, checkpointing=True)
    at = torch.tensor([0, 3, 6], dtype=torch.int32)
    flat = grouped(x.flatten(0, 1), cu_seqlens=at, max_seqlen=3)
    torch.testing.assert_close(flat.view(x.shape), grouped(x))


@pytest.mark.parametrize("causal", [False, True])
def test_masks_of_keys(causal):
    q, k, v = qkv(6, 6)
    # A gap in the first sequence, a beginning that does not count in the second.
    mask = torch.tensor([[1, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]]).bool()
    found = call(mha.SelfAttention(causal), torch.stack((q, k, v), 2), key_padding_mask=mask)
    scores = torch.einsum("bthd,bshd->bhts", q, k) * 8**-0.5
    hidden = ~mask[:, None, None]
    if causal:
        hidden = hidden | torch.ones(6, 6).triu(1).bool()
    shares = scores.masked_fill(hidden, float("-inf")).softmax(-1).nan_to_num(0.0)
    wanted = torch.einsum("bhts,bshd->bthd", shares, v)
    torch.testing.assert_close(found, wanted, **CLOSE)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
    queries = q[:, :3]
    kv = torch.stack((k, v), 2)
    found = call(mha.CrossAttention(causal), queries, kv, key_padding_mask=mask)
    for b, n in enumerate((4, 6)):
        wanted, *_ = attention(queries[b], k[b, :n], v[b, :n], causal=causal)
        torch.testing.assert_close(found[b].double(), wanted, **CLOSE)


def test_settings_of_flash_modules():
    q, k, v = qkv(5, 5)
    slopes = torch.tensor(mha.get_alibi_slopes(4))
    assert slopes.tolist() == [0.25, 0.0625, 0.015625, 0.00390625]
    assert mha.get_alibi_slopes(3) == [0.0625, 0.00390625, 0.25]
    module = mha.FlashSelfAttention(True, 0.2, window_size=(2, 0), alibi_slopes=slopes)
    found = call(module.to(DEVICE), torch.stack((q, k, v), 2))
    wanted = expected(q, k, v, causal=True, scale=0.2, window=(2, 0), slopes=slopes)[0]
    torch.testing.assert_close(found.double(), wanted, **CLOSE)
    assert not module.state_dict()
    for name, value in {"rotary_emb_dim": 8, "dwconv": True}.items():
        with pytest.raises(NotImplementedError, match=f"MHA: {name}: .*{value}"):
            mha.MHA(16, 2, **{name: value})


# -- the patches ------------------------------------------------------------------


@pytest.fixture
def forget(monkeypatch: Any) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "flash_attn"]:
        monkeypatch.delitem(sys.modules, name)


ON = ["flash_attn.provided", "flash_attn.provided_modules"]


@pytest.mark.usefixtures("forget")
def test_provided_where_it_is_not_installed(engine):
    from mx_autopatch import bootstrap

    if importlib.util.find_spec("flash_attn") is not None:
        pytest.skip("the real one is installed")
    engine(patches__only=ON)
    flash_attn = importlib.import_module("flash_attn")
    assert flash_attn.flash_attn_func is fa.flash_attn_func
    assert flash_attn.__version__.startswith("2.")
    from flash_attn.bert_padding import index_first_axis, pad_input, unpad_input  # noqa: F401
    from flash_attn.flash_attention import FlashAttention, FlashMHA  # noqa: F401
    from flash_attn.flash_attn_interface import (
        flash_attn_unpadded_kvpacked_func,  # noqa: F401
        flash_attn_varlen_func,
    )
    from flash_attn.layers.rotary import apply_rotary_emb  # noqa: F401
    from flash_attn.modules.mha import MHA, FlashCrossAttention, FlashSelfAttention  # noqa: F401

    assert flash_attn_varlen_func is flash_attn.flash_attn_varlen_func
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("flash_attn.cute")
    outcomes = [o for o in bootstrap.report() if o.patch in ON]
    assert {o.status for o in outcomes} == {Status.APPLIED}


@pytest.mark.usefixtures("forget")
def test_an_installed_one_is_left_alone(engine, write):
    write({"flash_attn/__init__.py": "flash_attn_func = print"})
    engine(patches__only=ON)
    assert importlib.import_module("flash_attn").flash_attn_func is print
    with pytest.raises(ModuleNotFoundError, match="flash_attention"):
        importlib.import_module("flash_attn.flash_attention")


@pytest.mark.usefixtures("forget")
def test_an_installed_one_that_does_not_load_is_replaced(engine, write):
    write(
        {
            "flash_attn/__init__.py": """
                from flash_attn.flash_attn_interface import flash_attn_func
                """,
            "flash_attn/flash_attn_interface.py": "import flash_attn_2_cuda",
            "flash_attn/bert_padding.py": "own = True",
        }
    )
    engine(patches__only=ON)
    # The package's own Python, on the interface that is provided.
    assert importlib.import_module("flash_attn").flash_attn_func is fa.flash_attn_func
    assert importlib.import_module("flash_attn.bert_padding").own

"""Attention, row by row, in every layout and sparse mode."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from npu_calls import call, close, moved
from torch import Tensor

from mx_autopatch.errors import SoftNpuError

B, N, S, T, D = 2, 4, 5, 7, 6
SCALE = 1 / math.sqrt(D)
TRIANGLE = torch.ones(2048, 2048, dtype=torch.bool).triu(1)


def plain(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visible: Any = None,
    bias: Tensor | None = None,
    scale: float = SCALE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention of (B, N, S, D); ``visible(b, i, j)`` says which pairs count."""
    k = k.repeat_interleave(q.size(1) // k.size(1), 1)
    v = v.repeat_interleave(q.size(1) // v.size(1), 1)
    logits = torch.einsum("bnsd,bntd->bnst", q, k)
    logits = (logits if bias is None else logits + bias) * scale
    if visible is not None:
        b, s, t = q.size(0), q.size(2), k.size(2)
        mask = torch.tensor(
            [[[bool(visible(x, i, j)) for j in range(t)] for i in range(s)] for x in range(b)]
        )
        logits = logits.masked_fill(~mask.unsqueeze(1), -math.inf)
    highest = logits.amax(-1, keepdim=True)
    powers = torch.exp(logits - highest)
    total = powers.sum(-1, keepdim=True)
    return powers / total @ v, highest, total


def into(x: Tensor, layout: str) -> Tensor:
    """A (B, N, S, D) tensor in a layout."""
    return {
        "BNSD": lambda: x,
        "BSND": lambda: x.transpose(1, 2),
        "BSH": lambda: x.transpose(1, 2).flatten(2),
        "SBH": lambda: x.permute(2, 0, 1, 3).flatten(2),
    }[layout]().contiguous()


def tensors(key_heads: int = N, rows: int = S, columns: int = T) -> list[Tensor]:
    return [
        torch.randn(B, N, rows, D),
        torch.randn(B, key_heads, columns, D),
        torch.randn(B, key_heads, columns, D),
    ]


@pytest.mark.parametrize("key_heads", [N, 2])
@pytest.mark.parametrize("layout", ["BNSD", "BSND", "BSH", "SBH"])
def test_layouts_and_gradients(layout: str, key_heads: int) -> None:
    qkv = tensors(key_heads)
    mask = torch.rand(B, 1, S, T) < 0.3
    mask[..., 0] = False
    bias = torch.randn(1, N, S, T)
    leaves = [into(t, layout).npu().requires_grad_() for t in qkv]
    shift = bias.npu().requires_grad_()
    results = torch.ops.npu.npu_fusion_attention(
        *(*leaves, N, layout, shift), atten_mask=mask.npu(), scale=SCALE, sparse_mode=1
    )
    wide = [t.double().requires_grad_() for t in (*qkv, bias)]
    out, highest, total = plain(*wide[:3], lambda b, i, j: not mask[b, 0, i, j], wide[3])
    close(results[0].detach().cpu(), into(out, layout).detach())
    close(results[1].detach().cpu(), highest.detach().repeat(1, 1, 1, 8))
    close(results[2].detach().cpu(), total.detach().repeat(1, 1, 1, 8))
    assert (results[3].numel(), *results[4:]) == (0, 0, 0, B * N * S * T)
    seed = torch.randn(out.shape)
    (out * seed).sum().backward()
    results[0].backward(into(seed, layout).npu())
    for leaf, other in zip(leaves, wide):
        close(leaf.grad.cpu(), into(other.grad, layout), 1e-4)
    close(shift.grad.cpu(), wide[3].grad, 1e-4)


@pytest.mark.parametrize("layout", ["BNSD", "BSND", "BSH", "SBH"])
def test_shapes_are_those_that_torch_npu_infers(layout: str) -> None:
    qkv = [into(t, layout) for t in tensors()]
    results = torch.ops.npu.npu_fusion_attention(*moved(qkv, "npu"), N, layout)
    inferred = torch.ops.npu.npu_fusion_attention(*moved(qkv, "meta"), N, layout)
    for found, expected in zip(results[:4], inferred[:4]):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)


MODES = {
    0: lambda i, j: -2 <= j - i <= 1,
    2: lambda i, j: j <= i,
    3: lambda i, j: j - i <= T - S,
    4: lambda i, j: -2 <= j - i - (T - S) <= 1,
}


@pytest.mark.parametrize("mode", sorted(MODES))
def test_sparse_modes(mode: int) -> None:
    q, k, v = tensors()
    mask = TRIANGLE
    if mode == 0:
        mask = torch.tensor([[not MODES[0](i, j) for j in range(T)] for i in range(S)])
    found = call(
        *("npu_fusion_attention", q, k, v, N, "BNSD"),
        atten_mask=mask,
        scale=SCALE,
        sparse_mode=mode,
        **({"pre_tockens": 2, "next_tockens": 1} if mode in (0, 4) else {}),
        meta=False,
    )
    close(found[0], plain(q, k, v, lambda b, i, j: MODES[mode](i, j))[0])


def test_prefixes() -> None:
    q, k, v = tensors()
    mask = torch.zeros(3072, 2048, dtype=torch.bool)
    found = call(
        *("npu_fusion_attention", q, k, v, N, "BNSD"),
        atten_mask=mask,
        scale=SCALE,
        sparse_mode=6,
        prefix=[3, 6],
        meta=False,
    )
    expected = plain(q, k, v, lambda b, i, j: j - i <= T - S or j < (3, 6)[b])
    close(found[0], expected[0])


def test_without_a_mask_everything_counts_whatever_the_mode() -> None:
    q, k, v = tensors()
    found = call("npu_fusion_attention", q, k, v, N, "BNSD", sparse_mode=3, scale=SCALE, meta=False)
    close(found[0], plain(q, k, v)[0])


def test_a_row_without_anything_is_zero() -> None:
    q, k, v = tensors(rows=T, columns=S)  # rows before the first column of a triangle
    found = call(
        *("npu_fusion_attention", q, k, v, N, "BNSD"),
        atten_mask=TRIANGLE,
        sparse_mode=3,
        meta=False,
    )
    assert not found[0][:, :, : T - S].any()
    assert found[0].isfinite().all()


def packed(lengths: list[int], heads: int) -> Tensor:
    return torch.randn(sum(lengths), heads, D)


def ends(lengths: list[int]) -> list[int]:
    return [sum(lengths[: i + 1]) for i in range(len(lengths))]


@pytest.mark.parametrize("mode", [0, 2, 3])
def test_packed_sequences(mode: int) -> None:
    rows, columns = [3, 0, 4], [3, 2, 6]
    q, k, v = packed([*rows, 2], N), packed(columns, 2), packed(columns, 2)
    mask = torch.zeros(6, 6, dtype=torch.bool) if mode == 0 else TRIANGLE
    leaves = [t.npu().requires_grad_() for t in (q, k, v)]
    results = torch.ops.npu.npu_fusion_attention(
        *(*leaves, N, "TND"),
        atten_mask=mask.npu(),
        scale=SCALE,
        sparse_mode=mode,
        actual_seq_qlen=ends(rows),
        actual_seq_kvlen=ends(columns),
        softmax_layout="TND",
    )
    wide = [t.double().requires_grad_() for t in (q, k, v)]
    expected = torch.zeros(9, N, D, dtype=torch.float64)
    highest = torch.zeros(9, N, dtype=torch.float64)
    start = at = 0
    for r, c in zip(rows, columns):
        part = [wide[0][start : start + r], wide[1][at : at + c], wide[2][at : at + c]]
        part = [t.transpose(0, 1)[None] for t in part]
        shift = {0: c, 2: 0, 3: c - r}[mode]
        if r:
            out, top, _ = plain(*part, lambda b, i, j, s=shift: j - i <= s)
            expected[start : start + r] = out[0].transpose(0, 1)
            highest[start : start + r] = top[0, :, :, 0].T.detach()
        start, at = start + r, at + c
    close(results[0].detach().cpu(), expected.detach())
    close(results[1].detach().cpu(), highest[..., None].repeat(1, 1, 8))
    seed = torch.randn(expected.shape)
    (expected * seed).sum().backward()
    results[0].backward(seed.npu())
    close([leaf.grad.cpu() for leaf in leaves], [t.grad for t in wide], 1e-4)


def test_dropout_is_the_same_forward_and_backward() -> None:
    q, k, v = (t.npu().requires_grad_() for t in tensors())
    torch.npu.manual_seed(3)
    first = torch.ops.npu.npu_fusion_attention(q, k, v, N, "BNSD", scale=SCALE, keep_prob=0.6)
    torch.npu.manual_seed(3)
    second = torch.ops.npu.npu_fusion_attention(q, k, v, N, "BNSD", scale=SCALE, keep_prob=0.6)
    assert torch.equal(first[0].cpu(), second[0].cpu())
    seed, offset, count = first[4:]
    mask = torch.ops.npu._npu_dropout_gen_mask(q, [count], 0.4, seed, offset)
    bits = torch.tensor([(int(byte) >> i) & 1 for byte in mask.cpu() for i in range(8)])
    kept = bits[:count].view(B, N, S, T).double() / 0.6
    wide = [t.detach().cpu().double().requires_grad_() for t in (q, k, v)]
    shares = torch.softmax(wide[0] @ wide[1].transpose(2, 3) * SCALE, -1) * kept
    expected = shares @ wide[2]
    close(first[0].detach().cpu(), expected.detach())
    upstream = torch.randn(expected.shape)
    (expected * upstream).sum().backward()
    first[0].backward(upstream.npu())
    close([t.grad.cpu() for t in (q, k, v)], [t.grad for t in wide], 1e-4)
    given = torch.ops.npu.npu_fusion_attention(
        *(q, k, v, N, "BNSD"), scale=SCALE, keep_prob=0.6, dropout_mask=mask, seed=seed
    )
    assert torch.equal(given[0].cpu(), first[0].cpu())


def test_second_version_with_rotary_parts_and_a_late_bias() -> None:
    q, k, v = tensors()
    rope = torch.randn(B, N, S, 2), torch.randn(B, N, T, 2)
    bias = torch.randn(B, N, S, T)
    leaves = [t.npu().requires_grad_() for t in (q, k, v, *rope)]
    found = torch.ops.npu.npu_fusion_attention_v2(
        *(*leaves[:3], N, "BNSD"),
        pse=bias.npu(),
        query_rope=leaves[3],
        key_rope=leaves[4],
        scale=SCALE,
        pse_type=0,
    )
    wide = [t.double().requires_grad_() for t in (q, k, v, *rope)]
    whole = torch.cat((wide[0], wide[3]), -1), torch.cat((wide[1], wide[4]), -1)
    expected = plain(*whole, wide[2], None, bias.double() / SCALE)[0]
    close(found[0].detach().cpu(), expected.detach())
    seed = torch.randn(expected.shape)
    (expected * seed).sum().backward()
    found[0].backward(seed.npu())
    close([leaf.grad.cpu() for leaf in leaves], [t.grad for t in wide], 1e-4)


def test_third_version_takes_lengths_as_tensors() -> None:
    q, k, v = (
        t.npu().requires_grad_() for t in (packed([3, 4], N), packed([5, 2], N), packed([5, 2], N))
    )
    lengths = {"actual_seq_qlen": ends([3, 4]), "actual_seq_kvlen": ends([5, 2])}
    first = torch.ops.npu.npu_fusion_attention(q, k, v, N, "TND", scale=SCALE, **lengths)
    third = torch.ops.npu.npu_fusion_attention_v3(
        *(q, k, v, N, "TND"), scale=SCALE, **{n: torch.tensor(e) for n, e in lengths.items()}
    )
    assert torch.equal(first[0].cpu(), third[0].cpu())
    assert third[4].dtype == torch.int64
    grads = [torch.autograd.grad(r[0].square().sum(), (q, k, v)) for r in (first, third)]
    close([g.cpu() for g in grads[1]], [g.cpu() for g in grads[0]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"atten_mask": TRIANGLE[:S, :T], "sparse_mode": 3},
            r"takes an atten_mask of \(2048, 2048",
        ),
        ({"atten_mask": TRIANGLE[:S, :T], "next_tockens": -1}, "shows what pre_tockens"),
        ({"sink": torch.zeros(N)}, "npu_fusion_attention: sink"),
        ({"pse": torch.zeros(1, N, 1024, T)}, "compressed pse"),
        ({"atten_mask": TRIANGLE, "sparse_mode": 7}, "sparse_mode 7"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((SoftNpuError, RuntimeError), match=message):
        call("npu_fusion_attention", *tensors(), N, "BNSD", **settings, meta=False)


def test_heads_must_be_those_that_are_said() -> None:
    q, k, v = tensors()
    with pytest.raises(RuntimeError, match="head_num is 2, but the query has 4 heads"):
        call("npu_fusion_attention", q, k, v, 2, "BNSD", meta=False)
    with pytest.raises(RuntimeError, match="TND needs actual_seq_qlen"):
        call("npu_fusion_attention", *(packed([3], N) for _ in range(3)), N, "TND", meta=False)


# ---- inference ---------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["BNSD", "BSND", "BSH"])
def test_prompt_attention(layout: str) -> None:
    q, k, v = tensors(2)
    found = call(
        *("npu_prompt_flash_attention", *(into(t, layout) for t in (q, k, v))),
        num_heads=N,
        num_key_value_heads=2,
        scale_value=SCALE,
        input_layout=layout,
        actual_seq_lengths=[3, S],
        actual_seq_lengths_kv=[T, 4],
    )
    expected = plain(q, k, v, lambda b, i, j: j < (T, 4)[b])[0]
    expected[0, :, 3:] = 0
    close(found, into(expected, layout))


def test_prompt_attention_hides_what_comes_after_once_there_is_a_mask() -> None:
    q, k, v = tensors()
    mask = torch.zeros(S, T, dtype=torch.bool)
    settings = {"num_heads": N, "scale_value": SCALE, "input_layout": "BNSD"}
    found = call("npu_prompt_flash_attention", q, k, v, atten_mask=mask, **settings)
    close(found, plain(q, k, v, lambda b, i, j: j <= i)[0])
    close(call("npu_prompt_flash_attention", q, k, v, **settings), plain(q, k, v)[0])


def test_incremental_attention() -> None:
    q, k, v = tensors(2, rows=1)
    mask = torch.rand(B, T) < 0.3
    mask[:, 0] = False
    found = call(
        *("npu_incre_flash_attention", *(into(t, "BSH") for t in (q, k, v))),
        num_heads=N,
        num_key_value_heads=2,
        scale_value=SCALE,
        atten_mask=mask,
        actual_seq_lengths=[4, T],
    )
    expected = plain(q, k, v, lambda b, i, j: j < (4, T)[b] and not mask[b, j])[0]
    close(found, into(expected, "BSH"))


def test_fused_inference_gives_the_logarithm_of_the_sum() -> None:
    q, k, v = tensors()
    settings = {"num_heads": N, "scale": SCALE, "input_layout": "BNSD", "atten_mask": TRIANGLE}
    found = call(
        "npu_fused_infer_attention_score", q, k, v, **settings, sparse_mode=3, softmax_lse_flag=True
    )
    out, highest, total = plain(q, k, v, lambda b, i, j: MODES[3](i, j))
    close(found, [out, highest + total.log()])
    found = call("npu_fused_infer_attention_score", q, k, v, **settings, sparse_mode=3)
    assert found[1].numel() == 0
    second = call(
        *("npu_fused_infer_attention_score_v2", q, k, v),
        num_query_heads=N,
        softmax_scale=SCALE,
        input_layout="BNSD",
        atten_mask=TRIANGLE,
        sparse_mode=3,
        return_softmax_lse=True,
    )
    close(second, [out, highest + total.log()])
    with pytest.raises(SoftNpuError, match="argument block_table"):
        call("npu_fused_infer_attention_score", q, k, v, block_table=torch.zeros(1, 1).int())


# ---- rotary ------------------------------------------------------------------------------------


def halves(x: Tensor) -> Tensor:
    n = x.size(-1) // 2
    return torch.cat((-x[..., n:], x[..., :n]), -1)


def neighbours(x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    y[..., ::2], y[..., 1::2] = -x[..., 1::2], x[..., ::2]
    return y


@pytest.mark.parametrize(("mode", "turned"), [("half", halves), ("interleave", neighbours)])
def test_rotary(mode: str, turned: Any) -> None:
    from npu_calls import agrees

    inputs = [torch.randn(2, 3, 4, 8), torch.randn(1, 3, 1, 8), torch.randn(1, 3, 1, 8)]
    agrees("npu_rotary_mul", lambda x, c, s: x * c + turned(x) * s, inputs, mode)


def test_rotary_by_a_matrix() -> None:
    x, c, s, m = torch.randn(2, 3, 8), torch.randn(3, 8), torch.randn(3, 8), torch.randn(8, 8)
    close(call("npu_rotary_mul", x, c, s, "half", m), x * c + x @ m * s)


def test_rotary_of_query_and_key_in_place() -> None:
    q, k = torch.randn(2, 5, 4, 8), torch.randn(2, 5, 2, 8)
    c, s = torch.randn(2, 5, 1, 8), torch.randn(2, 5, 1, 8)
    expected = [x * c + halves(x) * s for x in (q, k)]
    close(call("npu_apply_rotary_pos_emb", q, k, c, s), expected)
    on_npu = q.npu(), k.npu()
    torch.ops.npu.npu_apply_rotary_pos_emb(*on_npu, c.npu(), s.npu())
    close([t.cpu() for t in on_npu], expected)


def test_interleaved_rope_sorts_neighbours_into_halves() -> None:
    x, c, s = torch.randn(2, 3, 4, 8), torch.randn(2, 1, 4, 8), torch.randn(2, 1, 4, 8)
    y = torch.cat((x[..., ::2], x[..., 1::2]), -1)
    close(call("npu_interleave_rope", x, c, s), y * c + halves(y) * s)

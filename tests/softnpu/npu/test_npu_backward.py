"""Backward operators, called by name as torch_npu's own Python code and users do.

Each must give what torch_npu's autograd gives for the forward operator, in the shapes and
dtypes of its Meta implementation.
"""

from __future__ import annotations

from typing import Any, Callable

import pytest
import torch
from npu_calls import call, close
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ops = torch.ops.npu

RANDOM = torch.Generator().manual_seed(0)
X, Y = torch.randn(2, 2, 4, 6, generator=RANDOM)
MASK = torch.rand(2, 4, 6, generator=RANDOM) < 0.3
LABELS = torch.softmax(torch.randn(8, 6, generator=RANDOM), 1)


def graph(function: Callable[..., Any], inputs: list[Tensor], seed: Tensor) -> list[Tensor]:
    leaves = [t.npu().requires_grad_() for t in inputs]
    out = function(*leaves)
    out = out[0] if isinstance(out, (tuple, list)) else out
    found = torch.autograd.grad(out, leaves, seed.npu())
    return [t.cpu() for t in found]


#: Backward operator, its arguments given a seed, the forward function, its inputs.
UNARY = {
    "npu_fast_gelu_backward": (lambda g, x: (g, x), ops.npu_fast_gelu),
    "npu_gelu_backward": (lambda g, x: (g, x), ops.npu_gelu),
    "npu_silu_backward": (lambda g, x: (g, x, x * torch.sigmoid(x)), ops.npu_silu),
    "npu_mish_backward": (lambda g, x: (g, x), ops.npu_mish),
    "npu_scaled_masked_softmax_backward": (
        lambda g, x: (g, torch.softmax((x * 0.5).masked_fill(MASK, -1e4), -1), MASK, 0.5, False),
        lambda x: ops.npu_scaled_masked_softmax(x, MASK.npu(), 0.5),
    ),
}


@pytest.mark.parametrize("name", sorted(UNARY))
def test_elementwise(name: str) -> None:
    arguments, forward = UNARY[name]
    close(call(name, *arguments(Y, X)), graph(forward, [X], Y)[0])
    assert call(name, *(_half(a) for a in arguments(Y, X))).dtype == torch.float16


def _half(value: Any) -> Any:
    return value.half() if isinstance(value, Tensor) and value.is_floating_point() else value


def test_gates() -> None:
    seed = torch.randn(2, 4, 3)
    close(call("npu_swiglu_backward", seed, X), graph(ops.npu_swiglu, [X], seed)[0])
    gelu = call("npu_geglu", X)[1]
    close(call("npu_geglu_grad", seed, X, gelu), graph(ops.npu_geglu, [X], seed)[0])


def test_norms() -> None:
    gamma, beta = torch.randn(6), torch.randn(6)
    _, mean, rstd, _ = call("npu_add_layer_norm", X, Y, gamma, beta)
    found = call("npu_add_layer_norm_backward", Y, X, Y, rstd, mean, gamma, None)
    expected = graph(ops.npu_add_layer_norm, [X, Y, gamma, beta], Y)
    close([found[0], found[1], found[2], found[3]], expected)
    mean, rstd, _ = call("npu_deep_norm", X, Y, beta, gamma)
    found = call("npu_deep_norm_backward", Y, X, Y, gamma, mean, rstd)

    def deep(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return ops.npu_deep_norm(a, b, c, d)[2]

    close(found, graph(deep, [X, Y, beta, gamma], Y))


def test_losses() -> None:
    x, target = torch.randn(8, 6), torch.randint(0, 6, (8,))
    seed = torch.randn(8)
    name = "npu_softmax_cross_entropy_with_logits"
    found = call(f"{name}_backward", seed, x, LABELS)
    close(found, graph(lambda a: getattr(ops, name)(a, LABELS.npu()), [x], seed)[0])
    log_prob = torch.log_softmax(x, 1)
    found = call("npu_cross_entropy_loss_backward", torch.ones(1), log_prob, target)
    expected = graph(lambda a: ops.npu_cross_entropy_loss(a, target.npu()), [x], torch.ones(1))
    close(found, expected[0])


def test_products() -> None:
    x, w, seed = torch.randn(3, 4), torch.randn(5, 4), torch.randn(3, 5)
    close(call("npu_linear_backward", seed, x, w), graph(ops.npu_linear, [x, w], seed))
    a, b, seed = torch.randn(2, 3, 4), torch.randn(2, 4, 5), torch.randn(2, 3, 5)
    expected = graph(lambda p, q: ops.npu_bmmV2(p, q, []), [a, b], seed)
    close(call("npu_bmm_v2_mat1_backward", seed, a, b, list(a.shape)), expected[0])
    close(call("npu_bmm_v2_mat2_backward", seed, a, b, list(b.shape)), expected[1])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_convolutions(dimensions: int) -> None:
    size = [5, 6, 4][:dimensions]
    ones, twos, zeros = [1] * dimensions, [2] * dimensions, [0] * dimensions
    x, w = torch.randn(1, 4, *size), torch.randn(6, 2, *[3] * dimensions)
    function = getattr(torch.nn.functional, f"conv{dimensions}d")
    out = function(x, w, None, 2, 1, 1, 2)
    seed = torch.randn_like(out)
    leaves = [t.clone().requires_grad_() for t in (x, w, torch.zeros(6))]
    function(*leaves, 2, 1, 1, 2).backward(seed)
    expected = [leaf.grad for leaf in leaves]
    rest = twos, ones, ones, 2, [True, True, True]
    close(call(f"npu_conv{dimensions}d_backward", x, seed, w, *rest), expected)
    close(call("npu_convolution_backward", x, seed, w, *rest), expected)
    function = getattr(torch.nn.functional, f"conv_transpose{dimensions}d")
    w = torch.randn(4, 3, *[3] * dimensions)
    leaves = [t.clone().requires_grad_() for t in (x, w, torch.zeros(3))]
    out = function(*leaves, 2, 1)
    seed = torch.randn_like(out)
    out.backward(seed)
    expected = [leaf.grad for leaf in leaves]
    rest = ones, zeros, twos, ones, 1, [True, True, True]
    close(call(f"npu_conv_transpose{dimensions}d_backward", x, seed, w, *rest), expected)
    close(call("npu_convolution_transpose_backward", x, seed, w, *rest), expected)


def test_moves() -> None:
    seed = torch.randn(2, 6, 4)
    found = call("npu_confusion_transpose_backward", seed, [0, 2, 1], [2, 4, 6], True)
    close(found, seed.permute(0, 2, 1))
    indices = call("npu_max.dim", X, 1)[1]
    grad = torch.randn(2, 6)
    expected = torch.zeros(2, 4, 6).scatter(1, X.argmax(1, True), grad.unsqueeze(1))
    for name in ("npu_max_backward", "npu_min_backward"):
        close(call(name, grad, 1, indices, [2, 4, 6], False), expected)
    index = torch.tensor([1, 1, 0])
    found = call("npu_gather_sparse_index_backward", torch.ones(3, 2), [4, 2], index)
    close(found, torch.tensor([[1.0, 1], [2, 2], [0, 0], [0, 0]]))
    target = torch.zeros(3, 2).npu()
    ops._npu_index_add_(target, index.npu(), torch.ones(3, 2).npu(), alpha=2)
    close(target.cpu(), torch.tensor([[2.0, 2], [4, 4], [0, 0]]))


def test_casts() -> None:
    grad = torch.randn(3, 4).half()
    for name in ("_npu_dtype_cast_backward", "npu_dtype_cast_backward"):
        assert torch.equal(call(name, grad, torch.float32), grad.float())
    x = torch.randn(3, 4)
    assert torch.equal(call("_npu_format_cast", x, 29), x)
    assert torch.equal(call("_npu_format_cast.aclnn", x, 29, 6), x)
    assert torch.equal(call("_npu_format_cast.input_dtype", x, 29, 6, 6), x)


def test_rotary() -> None:
    x, c, s = torch.randn(2, 3, 4, 8), torch.randn(1, 3, 1, 8), torch.randn(1, 3, 1, 8)
    seed = torch.randn(2, 3, 4, 8)
    for mode in ("half", "interleave"):
        found = call("npu_rotary_mul_backward", seed, x, c, s, mode)
        expected = graph(lambda a, b, d, m=mode: ops.npu_rotary_mul(a, b, d, m), [x, c, s], seed)
        close(found, expected)


def test_boxes() -> None:
    a, b = torch.rand(4, 5) * 5 + 1, torch.rand(4, 5) * 5 + 1
    for kind, shape in (("giou", (5, 1)), ("diou", (1, 5)), ("ciou", (1, 5))):
        seed = torch.randn(shape)
        more = (torch.zeros(1, 5),) if kind == "ciou" else ()
        found = call(f"npu_{kind}_backward", seed, a, b, *more, True, False, 0)
        op = getattr(ops, f"npu_{kind}")
        close(found, graph(lambda p, q, o=op: o(p, q, True, False), [a, b], seed))


def test_attention() -> None:
    q, k, v = (torch.randn(2, 3, 4, 5) for _ in range(3))
    seed = torch.randn(2, 3, 4, 5)

    def forward(*tensors: Tensor) -> Any:
        return ops.npu_fusion_attention(*tensors, 3, "BNSD", scale=0.5)

    expected = graph(forward, [q, k, v], seed)
    for version in ("", "_v2", "_v3"):
        found = call(
            f"npu_fusion_attention_grad{version}", q, k, v, seed, 3, "BNSD", scale_value=0.5
        )
        close(found[:3], expected)
        assert found[3] is None or not found[3].numel()
        assert found[-1].numel() == 0


def test_experts() -> None:
    x, experts = torch.randn(4, 3), torch.tensor([[1, 0], [0, 2], [2, 1], [1, 0]])
    tokens, places = call("npu_moe_token_permute", x, experts)
    seed = torch.randn(8, 3)
    expected = graph(lambda a: ops.npu_moe_token_permute(a, experts.npu()), [x], seed)[0]
    close(call("npu_moe_token_permute_grad", x, seed, experts, places), expected)
    found = call("npu_moe_token_permute_grad_v2", seed, places, 4, torch.float32, 2)
    close(found, expected)
    probs, seed = torch.rand(4, 2), torch.randn(4, 3)

    def merge(a: Tensor, p: Tensor) -> Any:
        return ops.npu_moe_token_unpermute(a, places.npu(), p)

    expected = graph(merge, [tokens, probs], seed)
    close(call("npu_moe_token_unpermute_grad", tokens, seed, places, probs), expected)
    found = call(
        *("npu_moe_token_unpermute_grad_v2", seed, places, 8, torch.float32, probs),
        permuted_tokens=tokens,
    )
    close(found, expected)
    found = ops.npu_grouped_matmul.List([x.npu()], [torch.eye(3).npu()], group_type=-1)
    close(found[0].cpu(), x)


def test_rare_ones() -> None:
    g, step = torch.randn(4).npu(), torch.zeros(1, dtype=torch.int64).npu()
    one = torch.ones(1).npu()
    found = ops._npu_silent_check_v3(one, g, step, one, one, 1e6, 1e4, 0.99, 1)
    assert (found.cpu().tolist(), step.item()) == ([0], 1)
    draws = torch.empty(4000).npu()
    torch.npu.manual_seed(5)
    first = ops.npu_sim_exponential_(draws, 2.0).cpu().clone()
    assert abs(float(first.mean()) - 0.5) < 0.05
    torch.npu.manual_seed(5)
    assert torch.equal(ops.npu_sim_exponential_(draws, 2.0).cpu(), first)


class Recorded(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def test_modes_see_the_operators_and_the_graph_is_torch_npus() -> None:
    x, gamma = X.npu().requires_grad_(), torch.ones(6).npu()
    with Recorded() as mode:
        y = ops.npu_rms_norm(x, gamma)[0]
    assert mode.names == ["npu::npu_rms_norm"]
    assert type(y.grad_fn).__name__ == "NpuRmsNormBackward0"

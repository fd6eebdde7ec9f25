"""Softmax with masks, the losses made of it, and dropout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from npu_calls import agrees, call, close
from torch import Tensor


def test_scaled_masked_softmax() -> None:
    x, mask = torch.randn(2, 3, 4, 5), torch.rand(2, 1, 4, 5) < 0.4
    mask[0, 0, 1] = True  # a row without anything stays a distribution

    def plain(a: Tensor) -> Tensor:
        return torch.softmax((a * 0.7).masked_fill(mask, -10000.0), -1)

    agrees("npu_scaled_masked_softmax", plain, [x], mask, 0.7)
    triangle = torch.ones(4, 5, dtype=torch.bool).triu(1)
    found = call("npu_scaled_masked_softmax", x, mask, 1.0, True)
    close(found, torch.softmax(x.masked_fill(triangle, -10000.0), -1))


def test_softmax_with_relative_position_bias() -> None:
    x, bias = torch.randn(2, 3, 2, 4, 4), torch.randn(1, 1, 2, 4, 4)
    mask = torch.randn(1, 3, 1, 4, 4)
    expected = torch.softmax(x * 0.5 + mask + bias, -1)
    close(call("npu_masked_softmax_with_rel_pos_bias", x, mask, bias, 0.5), expected)
    flat = call("npu_masked_softmax_with_rel_pos_bias", x.flatten(0, 1), mask[0], bias[0], 0.5)
    close(flat, expected.flatten(0, 1))
    found = call("npu_masked_softmax_with_rel_pos_bias", x, None, bias)
    close(found, torch.softmax(x + bias, -1))


def test_softmax_cross_entropy_with_logits() -> None:
    labels = torch.softmax(torch.randn(4, 5), 1)

    def plain(x: Tensor) -> Tensor:
        return F.cross_entropy(x, labels.double(), reduction="none")

    agrees("npu_softmax_cross_entropy_with_logits", plain, [torch.randn(4, 5)], labels)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(reduction: str, smoothing: float, weighted: bool) -> None:
    target = torch.tensor([0, 3, 1, 3])
    weight = torch.rand(5) + 0.1 if weighted else None

    def plain(x: Tensor) -> Tensor:
        loss = F.cross_entropy(
            x,
            target,
            None if weight is None else weight.double(),
            reduction=reduction,
            ignore_index=1,
            label_smoothing=smoothing,
        )
        return loss if reduction == "none" else loss.reshape(1)

    settings = {"reduction": reduction, "ignore_index": 1, "label_smoothing": smoothing}
    x = torch.randn(4, 5)
    found = agrees("npu_cross_entropy_loss", plain, [x], target, weight, **settings)
    close(found[1], F.log_softmax(x, 1))


def test_dropout_keeps_its_share_and_its_gradient() -> None:
    x = torch.ones(20000).npu().requires_grad_()
    out, mask = torch.ops.npu._npu_dropout(x, 0.25)
    kept = out.detach().cpu() != 0
    assert abs(float(kept.float().mean()) - 0.75) < 0.02
    close(out.detach().cpu()[kept], torch.full((int(kept.sum()),), 1 / 0.75))
    assert mask.numel() == -(-20000 // 128) * 16
    out.sum().backward()
    close(x.grad.cpu(), out.detach().cpu())


def test_dropout_follows_the_seed_of_the_device() -> None:
    x = torch.ones(100).npu()

    def draws() -> list[Tensor]:
        torch.npu.manual_seed(7)
        return [torch.ops.npu._npu_dropout(x, 0.5)[0].cpu() for _ in range(2)]

    first, second = draws(), draws()
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], first[1])
    state = torch.random.get_rng_state()
    torch.ops.npu._npu_dropout(x, 0.5)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(("p", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_dropout_at_its_limits(p: float, expected: float) -> None:
    x = torch.ones(10).npu()
    close(torch.ops.npu._npu_dropout(x, p)[0].cpu(), torch.full((10,), expected))
    close(torch.ops.npu._dropout_with_byte_mask(x, p)[0].cpu(), torch.full((10,), expected))


def test_dropout_with_masks_made_before() -> None:
    x = torch.rand(3, 50) + 1
    mask = torch.ops.npu._npu_dropout_gen_mask(x.npu(), [3, 50], 0.4, 11, 3)
    again = torch.ops.npu._npu_dropout_gen_mask(x.npu(), [3, 50], 0.4, 11, 3)
    assert torch.equal(mask.cpu(), again.cpu())
    out, same = torch.ops.npu.npu_dropout_do_mask(x.npu(), mask, 0.4)
    bits = [(int(byte) >> i) & 1 for byte in mask.cpu() for i in range(8)][:150]
    close(out.cpu(), x / 0.6 * torch.tensor(bits).view(3, 50))
    assert torch.equal(same.cpu(), mask.cpu())


def test_dropout_with_byte_mask() -> None:
    x = torch.ones(4, 50).npu().requires_grad_()
    out = torch.ops.npu.dropout_with_byte_mask(x, 0.5, True)
    out.sum().backward()
    close(x.grad.cpu(), out.detach().cpu())
    assert set(out.detach().cpu().unique().tolist()) == {0.0, 2.0}
    assert torch.equal(torch.ops.npu.dropout_with_byte_mask(x, 0.5, False).cpu(), x.cpu())


def test_dropout_of_a_softmax_of_a_sum() -> None:
    x, x1 = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    leaf, other = x.npu().requires_grad_(), x1.npu().requires_grad_()
    mask, softmax, out = torch.ops.npu.npu_dropout_with_add_softmax(leaf, other, 0.5, 0.3, -1)
    wide, wide1 = x.double().requires_grad_(), x1.double().requires_grad_()
    expected = torch.softmax(wide1 + wide * 0.5, -1)
    close(softmax.detach().cpu(), expected.detach())
    dropped = expected * mask.cpu().view(x.shape) / 0.7
    close(out.detach().cpu(), dropped.detach())
    seed = torch.randn(x.shape)
    (dropped * seed).sum().backward()
    out.backward(seed.npu())
    close([leaf.grad.cpu(), other.grad.cpu()], [wide.grad, wide1.grad])

"""sigmoid_focal_loss against the textbook formula, differentiated by autograd."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch.library import opcheck

from mx_autopatch.ops import sigmoid_focal_loss
from mx_autopatch.verify.references import activations as plain

module = importlib.import_module("mx_autopatch.ops.focal_loss")


def examples(n=17, classes=5, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, classes, generator=g, dtype=torch.float64).mul(4).to(dtype)
    weight = torch.rand(classes, generator=g, dtype=torch.float64).to(dtype)
    return x, torch.randint(0, classes + 1, (n,), generator=g), weight


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5), (0.5, 0.9), (3.0, 0.0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_textbook(gamma, alpha, weighted):
    x, target, weight = examples()
    weight = weight if weighted else None
    results = []
    for f in (sigmoid_focal_loss, plain.sigmoid_focal_loss):
        leaf = x.clone().requires_grad_()
        loss = f(leaf, target, gamma, alpha, weight)
        (grad,) = torch.autograd.grad((loss * torch.arange(5.0)).sum(), leaf)
        results.append((loss.detach(), grad))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_gradcheck(gamma):
    x, target, weight = examples(6)
    for w in (None, weight):
        torch.autograd.gradcheck(
            lambda t, w=w: sigmoid_focal_loss(t, target, gamma, 0.25, w), x.requires_grad_()
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_huge_logits(dtype, gamma):
    x = torch.tensor([[-1e4, 1e4], [1e4, -1e4]], dtype=dtype, requires_grad=True)
    loss = sigmoid_focal_loss(x, torch.tensor([0, 0]), gamma, 0.25)
    loss.sum().backward()
    # A wrong and certain answer costs its logit; a right and certain one nothing.
    assert torch.equal(loss, torch.tensor([[2500.0, 7500.0], [0.0, 0.0]], dtype=dtype))
    assert torch.equal(x.grad, torch.tensor([[-0.25, 0.75], [0.0, 0.0]], dtype=dtype))


def test_background_has_no_class_and_weight_one():
    x, _, weight = examples(3)
    for background in (5, 99, -1):
        loss = sigmoid_focal_loss(x, torch.full((3,), background), weight=weight)
        torch.testing.assert_close(
            loss, plain.sigmoid_focal_loss(x, torch.full((3,), 5), 2.0, 0.25)
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    x, target, weight = examples(dtype=dtype)
    wide = sigmoid_focal_loss(x.float(), target, weight=weight.float())
    loss = sigmoid_focal_loss(x, target, weight=weight)
    assert loss.dtype == dtype
    assert torch.equal(loss, wide.to(dtype))


def test_strides_do_not_matter():
    x, target, weight = examples()
    expected = sigmoid_focal_loss(x, target, weight=weight)
    strided = torch.stack((x, x), 2)[..., 0]
    for view in (x.T.contiguous().T, strided):
        torch.testing.assert_close(sigmoid_focal_loss(view, target, weight=weight), expected)


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0)])
def test_empty(shape):
    x = torch.zeros(shape, requires_grad=True)
    loss = sigmoid_focal_loss(x, torch.zeros(shape[0], dtype=torch.int64))
    loss.sum().backward()
    assert loss.shape == x.grad.shape == shape


def test_arguments_are_left_alone():
    x, target, weight = examples()
    before = x.clone(), target.clone(), weight.clone()
    sigmoid_focal_loss(x, target, weight=weight)
    module.sigmoid_focal_loss_backward(x, target, weight=weight)
    assert all(torch.equal(a, b) for a, b in zip(before, (x, target, weight)))


@pytest.mark.parametrize("weighted", [False, True])
def test_opcheck(weighted):
    x, target, weight = examples(dtype=torch.float32)
    weight = weight if weighted else None
    opcheck(module.focal_op, (x.requires_grad_(), target, weight, 2.0, 0.25))
    opcheck(module.focal_op, (x.detach().T.contiguous().T, target, weight, 2.0, 0.25))
    opcheck(module.focal_op, (torch.stack((x, x), 2)[..., 0].detach(), target, weight, 2.0, 0.25))
    opcheck(module.focal_backward_op, (x.detach(), target, weight, 2.0, 0.25))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_whole(backend):
    def f(x, target, weight):
        return sigmoid_focal_loss(x * 2, target, weight=weight).sum()

    x, target, weight = examples()
    torch._dynamo.reset()
    grads = []
    for g in (f, torch.compile(f, fullgraph=True, backend=backend)):
        leaf = x.clone().requires_grad_()
        g(leaf, target, weight).backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)


X, TARGET, WEIGHT = examples(3)


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        (
            ([[0.0]], TARGET),
            TypeError,
            "sigmoid_focal_loss: input: expected a torch.Tensor, got list",
        ),
        ((X.long(), TARGET), TypeError, "input: expected a floating dtype"),
        ((X[0], TARGET), ValueError, r"input: expected shape \(N, C\), got \(5,\)"),
        ((X, TARGET.int()), TypeError, "target: expected torch.int64, got torch.int32"),
        ((X, TARGET[:2]), ValueError, r"target: expected shape \(3,\), got \(2,\)"),
        (
            (X, TARGET, 2.0, 0.25, WEIGHT[:2]),
            ValueError,
            r"weight: expected shape \(5,\), got \(2,\)",
        ),
        ((X, TARGET, 2.0, 0.25, WEIGHT.float()), TypeError, "weight: expected torch.float64"),
        ((X, TARGET.to("meta")), ValueError, "target: expected device cpu as input, got meta"),
    ],
)
def test_bad_arguments(args, error, words):
    with pytest.raises(error, match=words):
        sigmoid_focal_loss(*args)

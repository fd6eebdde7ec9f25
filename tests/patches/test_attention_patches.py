"""nn.MultiheadAttention, its fast path, and mmcv's modules on it, on the soft device."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.model import Status

torch = pytest.importorskip("torch")
pytest.importorskip("torch_npu")

nn, F = torch.nn, torch.nn.functional
MASKS, FAST, PROJECTS = (
    "torch.multihead_attention", "torch.attention_fast_path", "projects.multihead_attention"
)  # fmt: skip


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The dtypes of the masks with which fused attention is called for npu tensors."""
    dtypes: list[Any] = []
    own = F.scaled_dot_product_attention

    def attention(q: Any, k: Any, v: Any, mask: Any = None, *args: Any, **kwargs: Any) -> Any:
        if q.device.type == "npu":
            dtypes.append(None if mask is None else mask.dtype)
        return own(q, k, v, mask, *args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    return dtypes


def same(module: Any, x: Any, *more: Any, **given: Any) -> tuple[Any, Any]:
    """Equal results and gradients on both devices; the results are returned."""
    results, gradients = [], []
    for device in ("cpu", "npu"):
        here = copy.deepcopy(module).to(device)
        first = x.detach().to(device).requires_grad_()
        rest = [first if t is x else t.to(device) for t in more]
        named = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in given.items()}
        result = here(first, *rest, **named)
        result = result[0] if isinstance(result, tuple) else result
        result.square().sum().backward()
        results.append(result.detach().cpu())
        gradients.append([first.grad.cpu(), *(p.grad.cpu() for p in here.parameters())])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-5)
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    return results[0], results[1]


PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
CAUSAL = torch.ones(5, 5, dtype=torch.bool).triu(1)
OF_HEADS = torch.rand(8, 5, 5, generator=torch.Generator().manual_seed(3)) > 0.6
BLIND = torch.eye(5, dtype=torch.bool)[0].expand(5, 5).t() | CAUSAL


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    "given",
    [
        *({"key_padding_mask": PADDING}, {"attn_mask": CAUSAL}, {"attn_mask": OF_HEADS}),
        {"key_padding_mask": PADDING, "attn_mask": CAUSAL},
        {"key_padding_mask": PADDING, "attn_mask": OF_HEADS},
        {"attn_mask": BLIND},  # query 0 sees nothing
    ],
)
def test_bool_masks_stay_bool(engine: Any, masks: list[Any], given: Any, batch_first: bool) -> None:
    report = engine(patches__only=[MASKS], device="soft")
    assert [o.status for o in report().of(MASKS)] == [Status.LATE] * 3
    attention = nn.MultiheadAttention(16, 4, batch_first=batch_first)
    x = torch.randn(2, 5, 16) if batch_first else torch.randn(5, 2, 16)
    same(attention, x, x, x, need_weights=False, **given)
    assert masks == [torch.bool]


def test_other_widths_and_no_bias(engine: Any, masks: list[Any]) -> None:
    engine(patches__only=[MASKS], device="soft")
    attention = nn.MultiheadAttention(16, 4, bias=False, kdim=6, vdim=10)
    k, v = torch.randn(7, 2, 6), torch.randn(7, 2, 10)
    padding = torch.arange(7).expand(2, 7) > 4
    same(attention, torch.randn(5, 2, 16), k, v, need_weights=False, key_padding_mask=padding)
    assert masks == [torch.bool]


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({}, {"key_padding_mask": PADDING}),  # the weights are asked for
        ({}, {"need_weights": False}),
        ({}, {"need_weights": False, "attn_mask": CAUSAL.float() * -1e9}),
        ({}, {"need_weights": False, "attn_mask": CAUSAL, "is_causal": True}),
        ({"add_zero_attn": True}, {"need_weights": False, "key_padding_mask": PADDING}),
        ({"add_bias_kv": True}, {"need_weights": False, "key_padding_mask": PADDING}),
    ],
)
def test_other_calls_are_torchs(engine: Any, masks: list[Any], options: Any, given: Any) -> None:
    engine(patches__only=[MASKS], device="soft")
    x = torch.randn(5, 2, 16)
    same(nn.MultiheadAttention(16, 4, **options), x, x, x, **given)
    assert torch.bool not in masks


def test_errors_and_revert(engine: Any) -> None:
    own = F.multi_head_attention_forward
    attention, x = nn.MultiheadAttention(16, 4).npu(), torch.randn(5, 2, 16, device="npu")
    wrong = torch.zeros(3, 3, dtype=torch.bool, device="npu")
    messages = []
    for active in (False, True):
        if active:
            engine(patches__only=[MASKS], device="soft")
            assert F.multi_head_attention_forward is not own
        with pytest.raises(RuntimeError) as error:
            attention(x, x, x, attn_mask=wrong, need_weights=False)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    bootstrap.deactivate()
    assert F.multi_head_attention_forward is own


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_compiles_torchs_own(engine: Any) -> None:
    layer, x = nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True), torch.randn(2, 5, 16)
    engine(patches__only=[MASKS, FAST], device="soft")
    torch.testing.assert_close(torch.jit.script(layer)(x), layer(x))


def test_compiled_on_the_cpu_without_a_break(engine: Any) -> None:
    engine(patches__only=[MASKS], device="soft")
    attention, x = nn.MultiheadAttention(16, 4), torch.randn(5, 2, 16)

    def function(x: Any) -> Any:
        return attention(x, x, x, key_padding_mask=PADDING, need_weights=False)[0]

    compiled = torch.compile(function, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), function(x))
    torch._dynamo.reset()


def test_masks_that_are_written_to_are_what_they_are(engine: Any, masks: list[Any]) -> None:
    engine(patches__only=[MASKS], device="soft")
    attention, x = nn.MultiheadAttention(16, 4).npu(), torch.randn(5, 2, 16, device="npu")
    padding = PADDING.npu()
    floating = F._canonical_mask(padding, "mask", None, "", torch.float32, False)
    attention(x, x, x, key_padding_mask=floating, need_weights=False)
    floating[0, 0] = -1.0
    attention(x, x, x, key_padding_mask=floating, need_weights=False)
    again = F._canonical_mask(padding, "mask", None, "", torch.float32, False)
    padding[0, 0] = True
    attention(x, x, x, key_padding_mask=again, need_weights=False)
    assert masks == [torch.bool, torch.float32, torch.float32]


# -- the fast path ---------------------------------------------------------------------------


def encoder() -> Any:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    return nn.TransformerEncoder(layer, 2).eval()


def test_an_encoder_with_padding_runs_in_inference(engine: Any, masks: list[Any]) -> None:
    """Without the patch torch makes a nested tensor, which no NPU has."""
    transformer = importlib.import_module("torch.nn.modules.transformer")
    activation = importlib.import_module("torch.nn.modules.activation")
    own = (
        transformer.TransformerEncoder.forward,
        transformer.TransformerEncoderLayer.forward,
        activation._check_arg_device,
    )
    model, x = encoder(), torch.randn(2, 5, 16)
    on_npu, x_on_npu, padding = copy.deepcopy(model).npu(), x.npu(), PADDING.npu()
    with torch.no_grad(), pytest.raises((RuntimeError, NotImplementedError), match="ested"):
        on_npu(x_on_npu, src_key_padding_mask=padding)
    report = engine(patches__only=[FAST, MASKS], device="soft")
    assert {o.status for o in report().of(FAST)} == {Status.LATE}
    with torch.no_grad():
        wanted = model(x, src_key_padding_mask=PADDING)
        result = on_npu(x_on_npu, src_key_padding_mask=padding)
        torch.testing.assert_close(result.cpu()[~PADDING], wanted[~PADDING], rtol=0, atol=1e-5)
        assert masks == [torch.bool] * 2
        assert model.layers[0](x).shape == x.shape  # of the CPU as before
        attention = nn.MultiheadAttention(16, 4).eval().npu()
        attention(x_on_npu, x_on_npu, x_on_npu, need_weights=False)
    assert masks[2:] == [None]
    bootstrap.deactivate()
    assert own == (
        transformer.TransformerEncoder.forward,
        transformer.TransformerEncoderLayer.forward,
        activation._check_arg_device,
    )


# -- mmcv's and projects' --------------------------------------------------------------------


@pytest.fixture
def mmcv_attention() -> Any:
    if importlib.util.find_spec("mmcv") is None:
        pytest.skip("mmcv is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own deprecations
        return importlib.import_module("mmcv.cnn.bricks.transformer").MultiheadAttention


def test_mmcv_asks_for_no_weights(engine: Any, masks: list[Any], mmcv_attention: Any) -> None:
    own = mmcv_attention.forward
    report = engine(patches__only=[PROJECTS, MASKS], device="soft")
    outcomes = [o for o in report().of(PROJECTS) if o.trigger.startswith("mmengine")]
    assert "mmcv.cnn.bricks.transformer:MultiheadAttention" in outcomes[0].reason
    module = mmcv_attention(16, 4)
    same(module, torch.randn(5, 2, 16))
    assert masks == [None]
    same(module, torch.randn(5, 2, 16), key_padding_mask=PADDING, attn_mask=CAUSAL)
    assert masks == [None, torch.bool]
    bootstrap.deactivate()
    assert mmcv_attention.forward is own


def test_classes_of_projects(engine: Any, masks: list[Any]) -> None:
    """Those that come later, too; attention that is none of torch's gets what was written."""
    base = pytest.importorskip("mmengine.model").BaseModule
    report = engine(patches__only=[PROJECTS], device="soft")

    class PETRMultiheadAttention(base):  # type: ignore[misc, valid-type]
        def __init__(self, attention: Any) -> None:
            super().__init__()
            self.attn = attention

        def forward(self, x: Any, attn_mask: Any = None, key_padding_mask: Any = None) -> Any:
            out = self.attn(
                query=x, key=x, value=x, attn_mask=attn_mask, key_padding_mask=key_padding_mask
            )[0]
            return x + out

    class Own(nn.Module):
        def forward(
            self, query: Any, key: Any, value: Any, attn_mask: Any, key_padding_mask: Any
        ) -> Any:
            return (query * 2,)

    reasons = " ".join(o.reason for o in report().of(PROJECTS))
    assert "PETRMultiheadAttention (it drops the weights of self.attn(query, key, " in reasons
    same(PETRMultiheadAttention(nn.MultiheadAttention(16, 4)), torch.randn(5, 2, 16))
    assert masks == [None]
    same(PETRMultiheadAttention(Own()), torch.randn(5, 2, 16))
    looked_at = PETRMultiheadAttention(nn.MultiheadAttention(16, 4)).npu()
    weights: list[Any] = []
    looked_at.attn.register_forward_hook(lambda module, args, result: weights.append(result[1]))
    looked_at(torch.randn(5, 2, 16, device="npu"))
    assert weights[0].shape == (2, 5, 5)
    assert masks == [None]

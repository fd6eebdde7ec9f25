"""rms_norm, rotary embeddings and SwiGLU by torch_npu's kernels on the soft device.

On modules as projects write them, and on transformers' and mmpretrain's own.
"""

from __future__ import annotations

import copy
import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any, Callable

import pytest
from helpers import HERE, environment, python

from mx_autopatch import bootstrap
from mx_autopatch.model import Status

torch = pytest.importorskip("torch")
torch_npu = pytest.importorskip("torch_npu")

CALLS = ("npu_rms_norm", "npu_rotary_mul", "npu_swiglu")
LLAMA = "transformers.models.llama.modeling_llama"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of torch_npu's operators."""
    names: list[str] = []

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            names.append(name)
            return function(*args, **kwargs)

        return counted

    for name in CALLS:
        monkeypatch.setattr(torch_npu, name, counting(name, getattr(torch_npu, name)))
    return names


@pytest.fixture
def projects() -> Any:
    """The project's modules, imported anew, so that their classes are the patch's to find."""
    sys.modules.pop("npu_projects", None)
    yield importlib.import_module("npu_projects")
    sys.modules.pop("npu_projects", None)


def same(module: Any, *inputs: Any, atol: float = 1e-5, **more: Any) -> None:
    """Equal results, and gradients of inputs and parameters, on the CPU and on the device."""
    found = []
    for device in ("cpu", "npu"):
        here = copy.deepcopy(module).to(device) if isinstance(module, torch.nn.Module) else module
        given = [
            x.detach().to(device).requires_grad_(x.is_floating_point() and x.requires_grad)
            for x in inputs
        ]
        results = here(*given, **more)
        results = results if isinstance(results, tuple) else (results,)
        sum(r.float().square().sum() for r in results).backward()
        grads = [x.grad for x in given]
        if isinstance(module, torch.nn.Module):
            grads += [p.grad for p in here.parameters()]
        found.append([t.detach().cpu() for t in (*results, *grads) if t is not None])
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=1e-5 if atol < 1e-3 else 2e-2, atol=atol)


# -- torch.rms_norm --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("eps", [None, 1e-3])
def test_rms_norm_of_torch(engine: Any, called: list[str], dtype: str, eps: float | None) -> None:
    before = torch._C._dispatch_dump_table("aten::rms_norm")
    report = engine(patches__only=["torch.rms_norm"], device="soft")
    assert [o.status for o in report().of("torch.rms_norm")] == [Status.LATE]
    norm = torch.nn.RMSNorm(16, eps=eps)
    norm.weight.data.normal_()
    norm = norm.to(getattr(torch, dtype))
    x = (torch.randn(3, 5, 16) * 1e-2).to(getattr(torch, dtype)).requires_grad_()
    same(norm, x, atol=1e-5 if dtype == "float32" else 2e-2)
    assert called == ["npu_rms_norm"]
    bootstrap.deactivate()
    assert torch._C._dispatch_dump_table("aten::rms_norm") == before


def test_rms_norm_that_is_composed(engine: Any, called: list[str]) -> None:
    engine(patches__only=["torch.rms_norm"], device="soft")
    x = torch.randn(3, 4, 8, requires_grad=True)
    same(torch.nn.RMSNorm(8, elementwise_affine=False), x)
    same(torch.nn.RMSNorm(8).double(), x.detach().double().requires_grad_())
    same(torch.nn.RMSNorm((3, 4, 8)), x)  # over all dimensions
    assert called == []
    same(torch.nn.RMSNorm((4, 8)), x)
    assert called == ["npu_rms_norm"]
    with torch.inference_mode():
        torch.nn.RMSNorm(8).npu()(x.detach().npu())
    assert called == ["npu_rms_norm"] * 2
    with pytest.raises(RuntimeError, match="normalized_shape"):
        torch.nn.functional.rms_norm(x.npu(), (5,), torch.ones(5, device="npu"))


# -- projects --------------------------------------------------------------------------------


def test_rms_norms_of_projects(engine: Any, called: list[str], projects: Any) -> None:
    own = {name: vars(getattr(projects, name))["forward"] for name in vars(projects)
           if name.endswith("RMSNorm")}  # fmt: skip
    report = engine(patches__only=["projects.rms_norm"], device="soft")
    x = torch.randn(2, 3, 16, requires_grad=True)
    for cls, calls in (
        (projects.LlamaLikeRMSNorm, 1),
        (projects.GemmaLikeRMSNorm, 1),
        (projects.MeanRMSNorm, 0),
        (projects.BrokenRMSNorm, 0),
    ):
        called.clear()
        norm = cls(16)
        norm.weight.data.normal_()
        same(norm, x)
        half = x.detach().bfloat16().requires_grad_()
        same(copy.deepcopy(norm).bfloat16(), half, atol=0.1)
        assert len(called) == 2 * calls, cls
    (outcome,) = report().of("projects.rms_norm")
    assert outcome.status is Status.LATE
    assert "npu_projects:LlamaLikeRMSNorm (LlamaLikeRMSNorm.forward(hidden_states))" in (
        outcome.reason
    )
    bootstrap.deactivate()
    assert {name: vars(getattr(projects, name))["forward"] for name in own} == own


def test_swiglu_of_projects(engine: Any, called: list[str], projects: Any) -> None:
    own = projects.SwiGLUBlock.forward, projects.SwiGLUThatLooksAgain.forward
    report = engine(patches__only=["projects.swiglu"], device="soft")
    x = torch.randn(2, 3, 8, requires_grad=True)
    same(projects.SwiGLUBlock(8, 6), x)
    assert called == ["npu_swiglu"]
    same(projects.SwiGLUThatLooksAgain(8, 6), x)
    same(projects.SwiGLUBlock(8, 6).double(), x.detach().double().requires_grad_())
    assert called == ["npu_swiglu"]
    (outcome,) = report().of("projects.swiglu")
    assert outcome.status is Status.LATE
    assert "SwiGLUBlock (it has silu(x1) * x2 of two halves)" in outcome.reason
    assert "LooksAgain" not in outcome.reason
    bootstrap.deactivate()
    assert (projects.SwiGLUBlock.forward, projects.SwiGLUThatLooksAgain.forward) == own


@pytest.fixture
def llama(projects: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module under the name of transformers' Llama, with its function."""
    parts = LLAMA.split(".")
    for end in range(1, len(parts)):
        name = ".".join(parts[:end])
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    module = types.ModuleType(LLAMA)
    module.apply_rotary_pos_emb = projects.apply_rotary_pos_emb  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, LLAMA, module)
    return module


def angles(batch: int, length: int, width: int) -> tuple[Any, Any]:
    angle = torch.rand(batch, length, width // 2).repeat(1, 1, 2)
    return angle.cos(), angle.sin()


@pytest.mark.parametrize("batch", [1, 2])
def test_rotary(engine: Any, called: list[str], llama: Any, batch: int) -> None:
    own = llama.apply_rotary_pos_emb
    report = engine(patches__only=["transformers.rotary"], device="soft")
    done = [o for o in report().of("transformers.rotary") if o.status is Status.LATE]
    assert [o.trigger for o in done] == [LLAMA]
    q = torch.randn(2, 4, 5, 8, requires_grad=True)
    k = torch.randn(2, 2, 5, 8, requires_grad=True)
    same(llama.apply_rotary_pos_emb, q, k, *angles(batch, 5, 8))
    assert called == ["npu_rotary_mul"] * 2
    # Behind the heads; a width of 12 bytes; cosines that learn.
    same(
        llama.apply_rotary_pos_emb, *(t.detach().transpose(1, 2).requires_grad_() for t in (q, k)),
        *angles(2, 5, 8), unsqueeze_dim=2,
    )  # fmt: skip
    narrow = (t.detach()[..., :6].requires_grad_() for t in (q, k))
    same(llama.apply_rotary_pos_emb, *narrow, *angles(2, 5, 6))
    same(llama.apply_rotary_pos_emb, q, k, *(t.requires_grad_() for t in angles(2, 5, 8)))
    assert called == ["npu_rotary_mul"] * 2
    bootstrap.deactivate()
    assert llama.apply_rotary_pos_emb is own


# -- transformers and mmpretrain ---------------------------------------------------------------


def test_their_own_modules(tmp_path: Path) -> None:
    """Llama, Gemma, T5 and DINOv2 of transformers and mmpretrain's block, in a process apart."""
    # Where the Makefile puts what others would import if it were on the path.
    folder = Path(torch.__file__).parents[4]
    folders = [folder / "transformers", folder / "apart"]
    if not all(each.is_dir() for each in folders):
        pytest.skip("transformers and mmpretrain are not installed")
    env = environment(folders, active=True)
    script = HERE / "patches" / "transformers_trial.py"
    done = python(script, cwd=tmp_path, env=env, warnings=False, timeout=200)
    found = json.loads(done.stdout.splitlines()[-1])
    called = {name: each["called"] for name, each in found.items()}
    assert called == {
        "LlamaRMSNorm": {"npu_rms_norm": 1},
        "GemmaRMSNorm": {"npu_rms_norm": 1},
        "T5LayerNorm": {"npu_rms_norm": 1},
        "LlamaModel": {"npu_rms_norm": 5, "npu_rotary_mul": 4},
        "Dinov2SwiGLUFFN": {"npu_swiglu": 1},
        "SwiGLUFFN": {"npu_swiglu": 1},
    }
    for name, each in found.items():
        assert each["difference"] < 1e-5, name
        assert each["gradients"] < 1e-4, name

"""transformers' and mmpretrain's own modules on the CPU and on the soft NPU.

Prints which of torch_npu's operators each came to, and how far results and gradients differ.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import torch  # noqa: E402
import torch_npu  # noqa: E402
from torch import Tensor, nn  # noqa: E402

CALLS = ("npu_rms_norm", "npu_rotary_mul", "npu_swiglu")
called: Counter[str] = Counter()


def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        called[name] += 1
        return function(*args, **kwargs)

    return counted


def modules() -> Iterator[tuple[nn.Module, Tensor]]:
    def of(name: str) -> Any:
        return importlib.import_module(f"transformers.models.{name}.modeling_{name}")

    x = torch.randn(2, 3, 16, requires_grad=True)
    for cls in (of("llama").LlamaRMSNorm, of("gemma").GemmaRMSNorm, of("t5").T5LayerNorm):
        norm = cls(16)
        norm.weight.data.normal_()
        yield norm, x
    config = of("llama").LlamaConfig(
        vocab_size=20,
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    yield of("llama").LlamaModel(config), torch.randint(0, 20, (2, 7))
    config = of("dinov2").Dinov2Config(hidden_size=16, use_swiglu_ffn=True)
    yield of("dinov2").Dinov2SwiGLUFFN(config), x
    # Of mmpretrain the file alone: its packages import what is not installed.
    spec = importlib.util.find_spec("mmpretrain")
    assert spec is not None
    for name in ("mmpretrain", "mmpretrain.models", "mmpretrain.models.utils"):
        package = types.ModuleType(name)
        folders = name.split(".")[1:]
        package.__path__ = [str(Path(str(spec.origin)).parent.joinpath(*folders))]
        sys.modules[name] = package
    yield importlib.import_module("mmpretrain.models.utils.swiglu_ffn").SwiGLUFFN(16, 12), x


def trial(module: nn.Module, x: Tensor) -> dict[str, Any]:
    called.clear()
    results, gradients = [], []
    for device in ("cpu", "npu"):
        here = copy.deepcopy(module).to(device)
        result = here(x.detach().to(device))
        result = getattr(result, "last_hidden_state", result)
        result.square().mean().backward()
        results.append(result.detach().cpu())
        gradients.append([p.grad.cpu() for p in here.parameters() if p.grad is not None])
    pairs = zip(*gradients)
    return {
        "called": dict(called),
        "difference": float((results[0] - results[1]).abs().max()),
        "gradients": max(float((one - other).abs().max()) for one, other in pairs),
    }


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name in CALLS:
        setattr(torch_npu, name, counting(name, getattr(torch_npu, name)))
    print(json.dumps({type(module).__name__: trial(module, x) for module, x in modules()}))


if __name__ == "__main__":
    main()

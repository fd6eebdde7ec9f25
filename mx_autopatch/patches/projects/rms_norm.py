"""RMSNorm classes of transformers and of projects by one kernel, on NPUs.

Why: LlamaRMSNorm, T5LayerNorm and the many classes like them compose the norm out of a cast,
     a square, a mean, a root and two products. 9 of 61 published migrations replace
     their forward by npu_rms_norm.
How: the forward of every class whose name ends in RMSNorm or is T5LayerNorm, and that takes
     one tensor. What it computes is found by computing it, once a class, on the CPU:
     x / sqrt(mean(x^2) + eps) times its ``weight``, or times 1 + ``weight`` as in Gemma, with
     an ``eps`` or ``variance_epsilon``. For tensors of the device npu it is then
     torch_npu.npu_rms_norm; for what computes anything else, and on every other device, the
     class's own. Rounding differs in half precision: they round before the product.
Upstream: transformers/models/*/modeling_*.py; InternLM, Qwen, DeepSeek and EVA in projects.
Remove when: torch.nn.RMSNorm is what they use (see torch.rms_norm).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from mx_autopatch.model import Patch, Replace, Subclasses

if TYPE_CHECKING:
    from torch import Tensor

#: Class -> what is added to its weight, None if it computes something else.
_offsets: dict[type, float | None] = {}


def _is_named_so(cls: type) -> bool | str:
    if not cls.__name__.endswith(("RMSNorm", "T5LayerNorm")) or "forward" not in vars(cls):
        return False
    if cls.__module__.partition(".")[0] == "torch":
        return False
    try:
        parameters = list(inspect.signature(vars(cls)["forward"]).parameters.values())
    except (TypeError, ValueError):
        return False
    plain = parameters[1:2] and parameters[1].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    return f"{cls.__name__}.forward({parameters[1].name})" if plain and len(parameters) == 2 else ""


def _eps_of(module: Any) -> float | None:
    given = [getattr(module, name, None) for name in ("eps", "variance_epsilon")]
    found = [eps for eps in given if isinstance(eps, float)]
    return found[0] if len(found) == 1 else None


def _offset_of(module: Any) -> float | None:
    """What the class adds to its weight, 0 or 1; None if it does not compute this norm."""
    cls = type(module)
    if cls not in _offsets:
        import torch
        from torch.utils._python_dispatch import _disable_current_modes

        if torch.compiler.is_compiling():
            return None  # a compiler fuses by itself, and has no values to compare
        _offsets[cls] = None  # also while its forward runs, which comes here
        with _disable_current_modes():  # of fake tensors, say
            _offsets[cls] = _found_offset(module)
    return _offsets[cls]


def _found_offset(module: Any) -> float | None:
    import torch
    from torch import nn

    # An object like it, small and on the CPU.
    trial: Any = object.__new__(type(module))
    nn.Module.__init__(trial)
    vars(trial).update({k: v for k, v in vars(module).items() if k not in vars(nn.Module())})
    weight = torch.linspace(0.5, 2, 8)
    trial.weight = nn.Parameter(weight)
    value = torch.linspace(-2, 1, 32).view(2, 2, 8) * 1e-2
    eps = _eps_of(module)
    assert eps is not None
    try:
        with torch.no_grad():
            result = trial.forward(value)
    except Exception:  # whatever it is, it is not this norm
        return None
    for offset in (0.0, 1.0):
        wanted = value * (value.square().mean(-1, keepdim=True) + eps).rsqrt() * (weight + offset)
        if result.shape == wanted.shape and torch.allclose(result, wanted):
            return offset
    return None


def _forward(self: Any, x: Tensor) -> Tensor:
    from mx_autopatch.patches.npu_calls import rms_norm

    eps, weight = _eps_of(self), self.weight
    assert eps is not None
    # In float32, as they add.
    return rms_norm(x, weight.float() + 1 if _offset_of(self) else weight, eps)


def _on_npu(self: Any, *args: Any, **kwargs: Any) -> bool:
    x: Any = args[0] if args else next(iter(kwargs.values()), None)
    if getattr(getattr(x, "device", None), "type", "") != "npu":
        return False
    from mx_autopatch.patches.npu_calls import can_rms_norm

    weight: Any = vars(self)["_parameters"].get("weight")
    return (
        weight is not None
        and weight.dim() == 1
        and weight.dtype is x.dtype
        and can_rms_norm(x, weight)
        and _eps_of(self) is not None
        and _offset_of(self) is not None
    )


PATCHES = (
    Patch(
        name="projects.rms_norm",
        edits=(
            Subclasses(
                "torch.nn.modules.module:Module",
                match=_is_named_so,
                edits=(Replace("*:forward", _forward, guard=_on_npu),),
            ),
        ),
        requires=("device:npu",),
    ),
)

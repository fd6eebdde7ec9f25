"""The gated activation of SwiGLU blocks by one kernel, on NPUs.

Why: ``x1, x2 = x12.chunk(2, dim=-1); hidden = F.silu(x1) * x2`` copies halves that are not
     contiguous, and writes and reads the activated half once more.
How: in the forward of each class below nn.Module with SwiGLU in its name, those two
     statements become torch_npu.npu_swiglu for tensors of the device npu; elsewhere they are
     as written. Blocks with two separate projections stay as they are: to lay their results
     together would cost what the kernel saves.
Upstream: SwiGLUFFN of mmpretrain 1.x, DINOv2 and EVA; transformers' Dinov2SwiGLUFFN.
Remove when: torch has such an activation.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import TYPE_CHECKING, Any, Callable

from mx_autopatch.model import Patch, Rewrite, Subclasses

if TYPE_CHECKING:
    from torch import Tensor

_FIND = "$a, $b = $x.chunk(2, dim=-1); $gated = $act($a) * $b"


def _gate(x: Tensor, act: Callable[..., Any]) -> Tensor:
    if x.device.type == "npu":
        import torch.nn.functional as F

        from mx_autopatch.patches.npu_calls import can_swiglu, swiglu

        if act is F.silu and can_swiglu(x):
            return swiglu(x)
    a, b = x.chunk(2, dim=-1)
    result: Tensor = act(a) * b
    return result


def _is_gated(cls: type) -> bool | str:
    forward = vars(cls).get("forward")
    if "swiglu" not in cls.__name__.lower() or not inspect.isfunction(forward):
        return False
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(forward)))
    except (OSError, TypeError, SyntaxError):
        return False
    text = ast.unparse(tree)
    halves = [
        [name.id for name in node.targets[0].elts if isinstance(name, ast.Name)]
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Tuple)
        and ast.unparse(node.value).endswith(".chunk(2, dim=-1)")
    ]
    if len(halves) != 1 or len(halves[0]) != 2:
        return False
    a, b = halves[0]
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    once = names.count(a) == names.count(b) == 2  # bound, and read by the product alone
    product = f"silu({a}) * {b}" in text
    return f"it has silu({a}) * {b} of two halves" if once and product else False


PATCHES = (
    Patch(
        name="projects.swiglu",
        edits=(
            Subclasses(
                "torch.nn.modules.module:Module",
                match=_is_gated,
                edits=(
                    Rewrite(
                        "*:forward",
                        find=_FIND,
                        replace="$gated = _gate($x, $act)",
                        names={"_gate": _gate},
                    ),
                ),
            ),
        ),
        requires=("device:npu",),
    ),
)

"""Calls a project's own operators on one device; run by test_project_functions.py.

Prints, as one JSON object: output and gradients of each call, flattened, or the error that it
raised; and what the patches say.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any, Callable

import torch
from torch import Tensor

torch.set_num_threads(1)
warnings.simplefilter("ignore", FutureWarning)  # torch.cuda.amp.custom_fwd

from project_inputs import SIZE, V2_SHAPE, inputs, weighed  # noqa: E402
from projects import decoys  # noqa: E402
from projects.plugin.ms_deform_attn_func import MSDeformAttnFunction  # noqa: E402
from projects.plugin.multi_scale_deformable_attn_function import (  # noqa: E402
    MultiScaleDeformableAttnFunction_fp16,
    MultiScaleDeformableAttnFunction_fp32,
    ext_module,
)
from projects.plugin.ops import bev_pool, bev_pool_v2  # noqa: E402
from projects.plugin.ops.deformable_aggregation import (  # noqa: E402
    deformable_aggregation_function,
)

from mx_autopatch import report  # noqa: E402


def attention(function: Any) -> Callable[..., Tensor]:
    def attend(value: Tensor, at: Tensor, by: Tensor, shapes: Tensor, starts: Tensor) -> Tensor:
        return function.apply(value, shapes, starts, at, by, 64)

    return attend


def pool_v2(
    depth: Tensor, feat: Tensor, by: Tensor, of: Tensor, bev: Tensor, starts: Tensor, n: Tensor
) -> Tensor:
    return bev_pool_v2(depth, feat, by, of, bev, V2_SHAPE, starts, n)


CALLS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "bev_pool": ("bev_pool", lambda feats, cells: bev_pool(feats, cells, *SIZE)),
    "bev_pool_v2": ("bev_pool_v2", pool_v2),
    "deformable_aggregation": (
        "deformable_aggregation",
        lambda maps, at, by, shapes, starts: deformable_aggregation_function(
            maps, shapes, starts, at, by
        ),
    ),
    "MSDeformAttnFunction": ("attention", attention(MSDeformAttnFunction)),
    "fp32": ("attention", attention(MultiScaleDeformableAttnFunction_fp32)),
    "fp16": ("attention", attention(MultiScaleDeformableAttnFunction_fp16)),
}


def results(
    function: Callable[..., Tensor], given: list[Tensor], dtype: torch.dtype = torch.float32
) -> list[Any]:
    """The output's dtype, the output, and gradients."""
    leaves = [t.to(dtype).requires_grad_() for t in given if t.is_floating_point()]
    output = function(*leaves, *given[len(leaves) :])
    grads = torch.autograd.grad(weighed(output), leaves)
    flat = [t.detach().double().cpu().flatten().tolist() for t in (output, *grads)]
    return [str(output.dtype), *flat]


def autocast(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def called(*tensors: Tensor) -> Tensor:
        with torch.autocast("npu", dtype=torch.bfloat16):
            return function(*tensors)

    return called


def refuse(first: Tensor, *rest: Any, **options: Any) -> None:
    raise RuntimeError(f"ms_deform_attn: not compiled for {first.device.type}")


def main(device: str) -> dict[str, Any]:
    for name in ("forward", "backward"):
        setattr(ext_module, f"ms_deform_attn_{name}", refuse)
    given = {name: [t.to(device) for t in tensors] for name, tensors in inputs().items()}
    found: dict[str, Any] = {}
    for name, (key, function) in CALLS.items():
        tensors = given[key]
        # The sort before bev_pool's Function is no matter of a graph.
        compiled = torch.compile(function, fullgraph=name != "bev_pool", backend="aot_eager")
        try:
            found[name] = results(function, tensors)
            found[f"{name}, compiled"] = results(compiled, tensors)
            if name in ("fp16", "fp32"):
                found[f"{name}, half"] = results(function, tensors, torch.float16)
                found[f"{name}, cast"] = results(autocast(function), tensors)
                found[f"{name}, cast and compiled"] = results(autocast(compiled), tensors)
        except RuntimeError as error:
            found[name] = str(error)
    found["decoys"] = decoys.run(device)
    outcomes = [o for o in report() if o.patch.endswith("_function") and o.patch[:9] == "projects."]
    found["outcomes"] = [[o.patch, str(o.status), o.reason] for o in outcomes]
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))

"""projects.*: a project with compiled operators of its own runs without compiling them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from driving_project import FILES
from helpers import HAS_TORCH_NPU, environment, python, write_files

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "mmcv")), reason="needs torch and mmcv"
)

SCRIPT = """
import json
import sys
import warnings

import torch

torch.set_num_threads(1)
warnings.simplefilter("ignore", FutureWarning)  # torch.cuda.amp.custom_fwd
from projects.plugin.ms_deform_attn_func import MSDeformAttnFunction
from projects.plugin.multi_scale_deformable_attn_function import (
    MultiScaleDeformableAttnFunction_fp16,
    MultiScaleDeformableAttnFunction_fp32,
)
from projects.plugin.ops import DeformableAggregationFunction, bev_pool, bev_pool_v2

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
g = torch.Generator().manual_seed(0)


def leaf(*shape):
    return torch.rand(shape, generator=g).to(device).requires_grad_()


def table(*rows):
    return torch.tensor(rows).to(device)


def summed(output, *leaves):
    # A loss that weighs every element differently, so that no exchange goes unseen.
    weight = torch.arange(1.0, output.numel() + 1).cos().view(output.shape).to(output)
    (output * weight).sum().backward()
    tensors = output, *(each.grad for each in leaves)
    return [t.detach().double().cpu().flatten().tolist() for t in tensors]


results = {}

feats = leaf(50, 8)
results["device"] = feats.device.type
coords = torch.stack([torch.randint(0, n, (50,), generator=g) for n in (3, 4, 2, 2)], 1).to(device)
results["bev_pool"] = summed(bev_pool(feats, coords, 2, 2, 3, 4), feats)

depth, feat = leaf(1, 2, 6, 2, 2), leaf(1, 2, 2, 2, 8)
ranks_bev = torch.randint(0, 24, (30,), generator=g).sort()[0].to(device)
ranks_depth = torch.randperm(48, generator=g)[:30].to(device)
ranks_feat = torch.randint(0, 8, (30,), generator=g).to(device)
first = torch.cat((ranks_bev.new_ones(1).bool(), ranks_bev[1:] != ranks_bev[:-1]))
starts = torch.where(first)[0]
lengths = torch.diff(torch.cat((starts, starts.new_full((1,), 30))))
pooled = bev_pool_v2(
    depth, feat, ranks_depth, ranks_feat, ranks_bev, (1, 2, 3, 4, 8), starts, lengths
)
results["bev_pool_v2"] = summed(pooled, depth, feat)

maps, location, weights = leaf(2, 23, 16), leaf(2, 3, 2, 2, 2), leaf(2, 3, 2, 2, 2, 8)
shapes = table([[3, 4], [2, 2]], [[2, 3], [1, 1]])
out = DeformableAggregationFunction.apply(maps, shapes, table([0, 12], [16, 22]), location, weights)
results["deformable_aggregation"] = summed(out, maps, location, weights)

value, location, weights = leaf(2, 16, 2, 8), leaf(2, 5, 2, 2, 3, 2), leaf(2, 5, 2, 2, 3)
levels = table([3, 4], [2, 2]), table(0, 12)
for function in (MSDeformAttnFunction, MultiScaleDeformableAttnFunction_fp32):
    for tensor in (value, location, weights):
        tensor.grad = None
    out = function.apply(value, *levels, location, weights, 64)
    results[function.__qualname__] = summed(out, value, location, weights)
half = [t.detach().half().requires_grad_() for t in (value, location, weights)]
out = MultiScaleDeformableAttnFunction_fp16.apply(half[0], *levels, *half[1:], 64)
results["half"] = [str(out.dtype), *summed(out, *half)]
with torch.autocast(device.type, dtype=torch.float16, enabled=device.type != "cpu"):
    out = MultiScaleDeformableAttnFunction_fp16.apply(value, *levels, location, weights, 64)
results["cast"] = [str(out.dtype), *summed(out, value)]

from mx_autopatch import report

results["outcomes"] = {
    o.target: [o.patch, str(o.status), o.reason]
    for o in report()
    if o.patch.startswith("projects.") and o.kind == "provide"
}
print(json.dumps(results))
"""

OPS = "projects.plugin.ops"
SOURCE = "from mx_autopatch.provided.projects"


def run(folder: Path, device: str) -> dict[str, Any]:
    write_files(folder, {**FILES, "train.py": SCRIPT})
    more = {"MX_AUTOPATCH_DEVICE": device, "OMP_NUM_THREADS": "1"}
    # Those let the project's own Functions call no extension on an NPU.
    env = environment([folder], active=True, MX_AUTOPATCH_DISABLE="projects.*_function", **more)
    done = python("train.py", cwd=folder, env=env, warnings=False, timeout=300)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("project"), "soft" if HAS_TORCH_NPU else "cpu")


def test_the_outcome_names_what_matched(results: dict[str, Any]) -> None:
    assert results["outcomes"] == {
        f"{OPS}.bev_pool.bev_pool_ext": [*("projects.bev_pool", "APPLIED", f"{SOURCE}.bev_pool")],
        f"{OPS}.bev_pool_v2.bev_pool_v2_ext": [
            *("projects.bev_pool_v2", "APPLIED", f"{SOURCE}.bev_pool_v2")
        ],
        f"{OPS}.deformable_aggregation_ext": [
            *("projects.deformable_aggregation", "APPLIED"),
            f"{SOURCE}.deformable_aggregation",
        ],
        "MultiScaleDeformableAttention": [
            *("projects.ms_deform_attn", "APPLIED"),
            f"{SOURCE}.ms_deform_attn",
        ],
    }


def test_on_the_device_of_the_lane(results: dict[str, Any]) -> None:
    assert results["device"] == ("npu" if HAS_TORCH_NPU else "cpu")


def test_numbers_and_gradients(results: dict[str, Any]) -> None:
    """The project's own Functions give what the operators and their formulas give."""
    import torch

    from mx_autopatch import ops

    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=g).double().requires_grad_()

    def close(name: str, output: torch.Tensor, *leaves: torch.Tensor) -> None:
        weight = torch.arange(1.0, output.numel() + 1).cos().view(output.shape).to(output)
        grads = torch.autograd.grad((output * weight).sum(), leaves)
        for got, want in zip(results[name], (output, *grads)):
            torch.testing.assert_close(
                torch.tensor(got).double(), want.detach().flatten(), rtol=1e-4, atol=1e-4
            )

    feats = leaf(50, 8)
    coords = torch.stack([torch.randint(0, n, (50,), generator=g) for n in (3, 4, 2, 2)], 1)
    close("bev_pool", ops.bev_pool(feats, coords, 2, 2, 3, 4), feats)
    depth, feat = leaf(1, 2, 6, 2, 2), leaf(1, 2, 2, 2, 8)
    cell = torch.randint(0, 24, (30,), generator=g).sort()[0]
    at = torch.randperm(48, generator=g)[:30]
    pixel = torch.randint(0, 8, (30,), generator=g)
    pooled = ops.bev_pool_v2(depth, feat, at, pixel, cell, (1, 2, 3, 4, 8))
    close("bev_pool_v2", pooled, depth, feat)
    maps, location, weights = leaf(2, 23, 16), leaf(2, 3, 2, 2, 2), leaf(2, 3, 2, 2, 2, 8)
    shapes = torch.tensor([[[3, 4], [2, 2]], [[2, 3], [1, 1]]])
    starts = torch.tensor([[0, 12], [16, 22]])
    out = ops.deformable_aggregation(maps, shapes, starts, location, weights)
    close("deformable_aggregation", out, maps, location, weights)
    value, location, weights = leaf(2, 16, 2, 8), leaf(2, 5, 2, 2, 3, 2), leaf(2, 5, 2, 2, 3)
    levels = torch.tensor([[3, 4], [2, 2]]), torch.tensor([0, 12])
    out = ops.ms_deform_attn(value, *levels, location, weights)
    close("MSDeformAttnFunction", out, value, location, weights)
    close(
        "MultiScaleDeformableAttnFunction_fp32",
        ops.ms_deform_attn(value, *levels, location, weights),
        *(value, location, weights),
    )


def test_half_precision(results: dict[str, Any]) -> None:
    """As BEVFormer's fp16 Function calls it, and as autocast casts for it on a device."""
    import torch

    want = results["MSDeformAttnFunction"]
    assert results["half"][0] == "torch.float16"
    assert results["cast"][0] == ("torch.float16" if HAS_TORCH_NPU else "torch.float32")
    for name in ("half", "cast"):
        for got, exact in zip(results[name][1:2], want):
            torch.testing.assert_close(torch.tensor(got), torch.tensor(exact), rtol=1e-2, atol=1e-2)


def test_without_the_patches(tmp_path: Path) -> None:
    write_files(tmp_path, {**FILES, "train.py": "import projects.plugin.ops\n"})
    env = environment([tmp_path], active=True, MX_AUTOPATCH_DISABLE="projects.*")
    done = python("train.py", cwd=tmp_path, env=env, warnings=False, fails=True)
    assert "cannot import name 'bev_pool_ext'" in done.stderr


def test_only_points_of_intervals_count() -> None:
    """Projects may pass intervals that skip points; an interval has its first point's cell."""
    import torch

    from mx_autopatch.provided.projects import bev_pool, bev_pool_v2

    x = torch.tensor([[1.0], [2.0], [4.0], [8.0], [16.0]])
    cells = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    lengths, starts = torch.tensor([2, 1]), torch.tensor([1, 4])
    out = bev_pool.bev_pool_forward(x, cells.int(), lengths.int(), starts.int(), 1, 1, 1, 2)
    assert out.shape == (1, 1, 1, 2, 1)
    assert out.flatten().tolist() == [16, 6]
    grad = torch.tensor([3.0, 5.0]).view(1, 1, 1, 2, 1)
    back = bev_pool.bev_pool_backward(grad, cells.int(), lengths, starts, 1, 1, 1, 2)
    assert back.flatten().tolist() == [0, 5, 5, 0, 3]
    out = torch.full((1, 1, 1, 2, 1), 7.0)
    ranks = torch.arange(5), torch.arange(5), cells[:, 1]
    bev_pool_v2.bev_pool_v2_forward(torch.ones(5), x, out, *ranks, lengths, starts)
    assert out.flatten().tolist() == [16, 6]


def test_a_compiled_module_that_loads_is_left_alone(tmp_path: Path) -> None:
    files = {
        "one/__init__.py": "from . import bev_pool_ext\n",
        "one/bev_pool_ext.py": "bev_pool_forward = 'compiled'\n",
        "two/__init__.py": "from . import bev_pool_ext\n",
        "two/bev_pool_ext.py": "raise ImportError('libcudart.so.11.0: cannot open')\n",
        "train.py": """
            import one, two
            from mx_autopatch import report
            print(one.bev_pool_ext.bev_pool_forward, callable(two.bev_pool_ext.bev_pool_forward))
            for outcome in report().of("projects.bev_pool"):
                if str(outcome.status) != "PENDING":
                    print(outcome.target, outcome.status, outcome.reason)
        """,
    }
    write_files(tmp_path, files)
    done = python("train.py", cwd=tmp_path, env=environment([tmp_path], active=True))
    assert done.stdout.splitlines() == [
        "compiled True",
        "one.bev_pool_ext UNMET one.bev_pool_ext is installed",
        "two.bev_pool_ext APPLIED the installed one does not load: libcudart.so.11.0: cannot open",
    ]

"""projects.*_function: a project's own autograd.Functions on an NPU, by class name and signature.

Its extensions are there and load, but have no kernels for NPUs.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from driving_project import COMPILED, FILES
from helpers import HAS_TORCH_NPU, HERE, environment, python, write_files

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "mmcv")), reason="needs torch and mmcv"
)

SCRIPT = HERE / "patches" / "project_calls.py"

# Classes of the same name that are something else, and the same under another name.
DECOYS = """
    import torch

    class QuickCumsumCuda(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, geom_feats, B, D, H, W):
            return x + 1

        @staticmethod
        def backward(ctx, grad):
            return grad, None, None, None, None, None

    class TwoResults:
        class QuickCumsumCuda(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, geom_feats, ranks, B, D, H, W):
                return x + 2, geom_feats

            @staticmethod
            def backward(ctx, grad_x, grad_geom):
                return (grad_x, *[None] * 6)

    class QuickCumsumOther(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, geom_feats, ranks, B, D, H, W):
            return x + 3

        @staticmethod
        def backward(ctx, grad):
            return (grad, *[None] * 6)

    class MSDeformAttnFunction:
        @staticmethod
        def forward(ctx, value, value_spatial_shapes, value_level_start_index,
                    sampling_locations, attention_weights, im2col_step):
            return value + 4

        @staticmethod
        def backward(ctx, grad_output):
            return grad_output

    def run(device):
        x = torch.zeros(1, device=device)
        return [
            QuickCumsumCuda.apply(x, x, 1, 1, 1, 1).item(),
            TwoResults.QuickCumsumCuda.apply(x, x, x, 1, 1, 1, 1)[0].item(),
            QuickCumsumOther.apply(x, x, x, 1, 1, 1, 1).item(),
            MSDeformAttnFunction.forward(None, x, x, x, x, x, 1).item(),
        ]
"""

PLUGIN = "projects.plugin"
ATTENTION = (
    "forward(value, value_spatial_shapes, value_level_start_index, sampling_locations, "
    "attention_weights, im2col_step)"
)
MATCHED = {
    "projects.bev_pool_function": [
        f"in {PLUGIN}.ops.bev_pool.bev_pool:QuickCumsumCuda (class QuickCumsumCuda with "
        "forward(x, geom_feats, ranks, B, D, H, W))"
    ],
    "projects.bev_pool_v2_function": [
        f"in {PLUGIN}.ops.bev_pool_v2.bev_pool:QuickCumsumCuda (class QuickCumsumCuda with "
        "forward(depth, feat, ranks_depth, ranks_feat, ranks_bev, bev_feat_shape, "
        "interval_starts, interval_lengths))"
    ],
    "projects.deformable_aggregation_function": [
        f"in {PLUGIN}.ops.deformable_aggregation:DeformableAggregationFunction (class "
        "DeformableAggregationFunction with forward(mc_ms_feat, spatial_shape, "
        "scale_start_index, sampling_location, weights))"
    ],
    "projects.ms_deform_attn_function": [
        f"in {PLUGIN}.ms_deform_attn_func:MSDeformAttnFunction (class MSDeformAttnFunction "
        f"with {ATTENTION})",
        *(
            f"in {PLUGIN}.multi_scale_deformable_attn_function:{name} (class {name} with "
            f"{ATTENTION})"
            for name in (f"MultiScaleDeformableAttnFunction_fp{bits}" for bits in (32, 16))
        ),
    ],
}


def run(folder: Path, device: str) -> dict[str, Any]:
    write_files(folder, {**FILES, **COMPILED, "projects/decoys.py": DECOYS})
    env = environment([folder], active=True, OMP_NUM_THREADS="1")
    done = python(SCRIPT, device, cwd=folder, env=env, warnings=False, timeout=300)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_elsewhere_the_projects_own_code_runs(tmp_path: Path) -> None:
    results = run(tmp_path, "cpu")
    outcomes = results.pop("outcomes")
    assert {status for _, status, _ in outcomes} == {"APPLIED" if HAS_TORCH_NPU else "UNMET"}
    assert results == {
        "bev_pool": "bev_pool_forward: not compiled for cpu",
        "bev_pool_v2": "bev_pool_v2_forward: not compiled for cpu",
        "deformable_aggregation": "deformable_aggregation_forward: not compiled for cpu",
        "MSDeformAttnFunction": "ms_deform_attn_forward: not compiled for cpu",
        "fp32": "ms_deform_attn: not compiled for cpu",
        "fp16": "ms_deform_attn: not compiled for cpu",
        "decoys": [1, 2, 3, 4],
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not HAS_TORCH_NPU:
        pytest.skip("needs torch-npu")
    return run(tmp_path_factory.mktemp("project"), "npu")


def test_the_outcome_says_what_matched_and_why(results: dict[str, Any]) -> None:
    found: dict[str, list[str]] = {}
    for patch, status, reason in results["outcomes"]:
        assert status == "APPLIED"
        found.setdefault(patch, []).append(reason)
    assert found == MATCHED


def test_name_or_signature_alone_is_no_match(results: dict[str, Any]) -> None:
    assert results["decoys"] == [1, 2, 3, 4]


def test_numbers_and_gradients(results: dict[str, Any]) -> None:
    """Those of the operators in float64 on the CPU, compiled or not."""
    for name, want in references().items():
        for key in (name, f"{name}, compiled"):
            dtype, *got = results[key]
            assert dtype == "torch.float32"
            close(got, want, 1e-4)


def test_half_precision(results: dict[str, Any]) -> None:
    """As the projects call them with half tensors, and as autocast casts by their names."""
    exact, of_half = references()["fp32"], references(half=True)["fp32"]
    for name, dtype in (("fp16", "torch.float16"), ("fp32", "torch.float32")):
        for key in ("cast", "cast and compiled"):
            found, *got = results[f"{name}, {key}"]
            assert found == dtype
            close(got, *((of_half, 4e-3) if name == "fp16" else (exact, 1e-4)))
        found, *got = results[f"{name}, half"]
        assert found == "torch.float16"  # without autocast nothing is cast
        close(got, of_half, 4e-3)


def references(half: bool = False) -> dict[str, list[Any]]:
    """Outputs and gradients in float64 on the CPU; of arguments rounded to half precision."""
    import torch
    from project_inputs import SIZE, V2_SHAPE, inputs, weighed

    from mx_autopatch import ops

    def attend(value: Any, at: Any, by: Any, shapes: Any, starts: Any) -> Any:
        return ops.ms_deform_attn(value, shapes, starts, at, by)

    calls = {
        "bev_pool": ("bev_pool", lambda feats, cells: ops.bev_pool(feats, cells, *SIZE)),
        "bev_pool_v2": ("bev_pool_v2", lambda *t: ops.bev_pool_v2(*t[:5], V2_SHAPE)),
        "deformable_aggregation": (
            "deformable_aggregation",
            lambda maps, at, by, *tables: ops.deformable_aggregation(maps, *tables, at, by),
        ),
        "MSDeformAttnFunction": ("attention", attend),
        "fp32": ("attention", attend),
    }
    found = {}
    for name, (key, function) in calls.items():
        given = inputs()[key]
        leaves = [
            (t.half() if half else t).double().requires_grad_()
            for t in given
            if t.is_floating_point()
        ]
        output = function(*leaves, *given[len(leaves) :])
        found[name] = [output.detach(), *torch.autograd.grad(weighed(output), leaves)]
    return found


def close(got: list[Any], want: list[Any], tolerance: float) -> None:
    import torch

    assert len(got) == len(want)
    for a, b in zip(got, want):
        found = torch.tensor(a, dtype=torch.float64)
        torch.testing.assert_close(found, b.flatten(), rtol=tolerance, atol=tolerance)

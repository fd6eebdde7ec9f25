"""The virtual mmcv._ext, under the public API of an installed mmcv-lite."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from mx_autopatch import mmcv_ext
from mx_autopatch.mmcv_ext._missing import MissingOperator
from mx_autopatch.mmcv_ext.names import NAMES, NAMES_2_2, RETIRED_NAMES

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
CASES = [
    *(f"nms_{i}" for i in range(4)),
    "nms_empty",
    "nms_score_max",
    *("nms_match", "nms_rotated", "nms_quadri"),
    *("hard_voxelize", "dynamic_voxelize", "points_in_boxes_cpu"),
    *(f"soft_nms_{m}" for m in ("naive", "linear", "gaussian")),
    *(
        f"{kind}_{m}_{a}"
        for kind in ("bbox_overlaps", "box_iou_rotated", "box_iou_quadri")
        for m in ("iou", "iof")
        for a in (0, 1)
    ),
    "batched_nms",
    *(f"roi_align_{m}_{a}_{r}" for m in ("avg", "max") for a in (0, 1) for r in (0, 2)),
    *(f"deform_conv2d_{i}" for i in range(5)),
    *(f"roi_align_rotated_{i}" for i in (0, 1)),
    "bezier_align",
    "active_rotated_filter",
    "rotated_feature_align",
    *(f"psa_mask_{t}" for t in ("collect", "distribute")),
    *(f"ms_deform_attn_{i}" for i in range(3)),
    *(f"modulated_deform_conv2d_{i}" for i in (0, 1, 2, 4)),
    "upfirdn2d",
]

needs_mmcv = pytest.mark.skipif(
    importlib.util.find_spec("mmcv") is None, reason="mmcv is not installed"
)


@pytest.fixture(scope="module")
def replay() -> types.ModuleType:
    if not GOLDEN.parent.is_dir():  # a checkout by itself
        pytest.skip(f"golden data of mmcv's compiled operators not found at {GOLDEN}")
    spec = importlib.util.spec_from_file_location("replay", GOLDEN / "replay.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_recorded_cases_are_replayed(replay):
    folder = GOLDEN / "mmcv_ops"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    recorded = sorted(case["file"] for case in manifest)
    assert sorted(f"{name}.npz" for name in CASES) == recorded
    assert sorted(path.name for path in folder.glob("*.npz")) == recorded


@needs_mmcv
# mmcv's own.
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:Since aten.cudnn_convolution:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_mmcv_gives_what_its_compiled_operators_gave(ops, replay, name):
    folder = GOLDEN / "mmcv_ops"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    case = next(c for c in manifest if c["file"] == f"{name}.npz")
    with np.load(folder / case["file"]) as npz:
        data = dict(npz)
    tensors = {k[3:]: torch.from_numpy(v) for k, v in data.items() if k.startswith("in_")}
    for grad in case["grads"]:
        tensors[grad].requires_grad_()
    table = replay.calls(ops)
    call = table[max((k for k in table if f"{name}_".startswith(f"{k}_")), key=len)]
    outputs = replay.flat(call(tensors, case["kwargs"]))
    assert len(outputs) == len(case["outputs"])
    for i, output in enumerate(outputs):
        assert replay.close(name, output, data[f"out_{i}"]) is None
    if case["grads"]:
        (outputs[0] * torch.from_numpy(data["cotangent"])).sum().backward()
    for grad in case["grads"]:
        assert replay.close(name, tensors[grad].grad, data[f"grad_{grad}"]) is None


@needs_mmcv
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weight", [None, torch.tensor([0.5, 2.0, 1.0])])
def test_focal_loss_of_mmcv(ops, reduction, weight):
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (8,), generator=g)
    x = torch.randn(8, 3, generator=g).requires_grad_()
    loss = ops.sigmoid_focal_loss(x, target, 2.0, 0.25, weight, reduction)
    one_hot = torch.nn.functional.one_hot(target, 3)
    p = x.sigmoid()
    each = -(one_hot * 0.25 * (1 - p) ** 2 * p.log() + (1 - one_hot) * 0.75 * p**2 * (1 - p).log())
    if weight is not None:
        each = each * weight[target][:, None]
    expected = {"none": each, "sum": each.sum(), "mean": each.sum() / 8}[reduction]
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(t.square().sum(), x)[0] for t in (loss, expected))
    )


@needs_mmcv
def test_layers_of_mmcv_in_half_precision(ops):
    x = torch.ones(1, 4, 8, 8, dtype=torch.float16, requires_grad=True)
    rois = torch.tensor([[0, 1.0, 1.0, 6.0, 6.0]], dtype=torch.float16)
    for mode in ("avg", "max"):
        output = ops.RoIAlign(2, sampling_ratio=2, pool_mode=mode)(x, rois)
        output.sum().backward()
        assert output.dtype == x.grad.dtype == torch.float16
        assert output.eq(1).all()


@needs_mmcv
def test_environment_report(ops):
    assert "mx_autopatch" in ops.get_compiler_version()
    assert ops.get_compiling_cuda_version() == "not available"


def asked_for() -> set[str]:
    """The names in all ``load_ext("_ext", [...])`` calls of the installed mmcv."""
    names: set[str] = set()
    (folder,) = importlib.util.find_spec("mmcv").submodule_search_locations
    for path in Path(folder, "ops").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "load_ext":
                name, functions = (ast.literal_eval(a) for a in node.args)
                assert name == "_ext"
                names.update(functions)
    return names


@needs_mmcv
def test_names_are_those_that_mmcv_asks_for():
    from importlib.metadata import version

    try:
        installed = version("mmcv-lite")
    except ModuleNotFoundError:
        installed = version("mmcv")
    assert asked_for() <= set(NAMES)
    if installed == "2.2.0":
        assert asked_for() == set(NAMES_2_2)


def test_names_are_in_order():
    assert list(NAMES) == sorted({*NAMES_2_2, *RETIRED_NAMES})
    assert (len(NAMES_2_2), len(RETIRED_NAMES)) == (112, 16)
    assert set(mmcv_ext.__all__) <= set(NAMES)


@pytest.mark.parametrize("fresh", [False, True])
def test_hasattr_tells_the_truth(fresh, fresh_module):
    module = fresh_module if fresh else mmcv_ext
    assert dir(module) == list(NAMES)
    assert all(callable(getattr(module, name)) for name in NAMES)
    assert module.carafe_forward is module.carafe_forward
    for name in ("carafe", "nms_forward", "__wrapped__"):
        assert not hasattr(module, name)
    with pytest.raises(AttributeError, match=r"module 'mmcv\._ext' has no attribute 'carafe'"):
        module.carafe  # noqa: B018


def test_an_operator_that_is_not_there_says_what_to_do():
    operator = MissingOperator("carafe_forward")
    assert repr(operator) == "<operator mmcv._ext.carafe_forward, not available>"
    assert (operator.__module__, operator.__name__) == ("mmcv._ext", "carafe_forward")
    with pytest.raises(NotImplementedError, match=r"mmcv\._ext\.carafe_forward: .*compiled mmcv"):
        operator(1, mask=2)


def test_results_are_written_into_the_arguments():
    x, rois = torch.ones(1, 2, 6, 6), torch.tensor([[0, 1.0, 1.0, 4.0, 4.0]])
    output, argmax_y, argmax_x = (torch.full((1, 2, 2, 2), 9.0) for _ in range(3))
    options = {
        "aligned_height": 2,
        "aligned_width": 2,
        "spatial_scale": 1.0,
        "sampling_ratio": 2,
        "pool_mode": 0,
        "aligned": True,
    }
    assert mmcv_ext.roi_align_forward(x, rois, output, argmax_y, argmax_x, **options) is None
    assert output.eq(1).all()
    assert argmax_y.lt(6).all()
    assert argmax_x.lt(6).all()
    grad_input = torch.full_like(x, 9.0)
    mmcv_ext.roi_align_backward(output, rois, argmax_y, argmax_x, grad_input, **options)
    assert grad_input.sum() == output.numel()

    logits, target, weight = torch.zeros(3, 2), torch.tensor([0, 1, 2]), torch.zeros(0)
    loss, grad = torch.full_like(logits, 9.0), torch.full_like(logits, 9.0)
    mmcv_ext.sigmoid_focal_loss_forward(logits, target, weight, loss, gamma=0.0, alpha=0.5)
    mmcv_ext.sigmoid_focal_loss_backward(logits, target, weight, grad, gamma=0.0, alpha=0.5)
    torch.testing.assert_close(loss, torch.full_like(loss, np.log(2) / 2))
    torch.testing.assert_close(grad, torch.tensor([[-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]) / 4)


def test_importing_it_imports_neither_torch_nor_mmcv():
    code = (
        "import sys, mx_autopatch.mmcv_ext as ext; ext.carafe_forward; "
        "assert not {'torch', 'mmcv', 'numpy'} & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)

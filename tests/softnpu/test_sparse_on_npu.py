"""mmcv.sparse_conv3d and mmcv.voxelization on the soft NPU: numbers and gradients of the CPU.

mmcv-lite and mmdet3d, unmodified, in processes of their own; see sparse_on_npu.py.
"""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import HERE, environment, python, write_files

if importlib.util.find_spec("mmcv") is None:
    pytest.skip("mmcv is not installed", allow_module_level=True)

SCRIPT = HERE / "softnpu" / "sparse_on_npu.py"

# A stand-in for mmcv's extension as its wheels have it: no kernels for NPUs.
COMPILED = """
import sys
from importlib.machinery import ModuleSpec




class Extension:
    @staticmethod
    def find_spec(name, path, target=None):
        if name == "mmcv._ext":
            return ModuleSpec(name, Extension, origin="compiled")

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        from mx_autopatch.mmcv_ext import names

        def function(name):
            def refuse(first, *rest, **options):
                raise RuntimeError(f"{name}: implementation for device {first.device} not found")
            return refuse

        for name in names.NAMES:
            setattr(module, name, function(name))


sys.meta_path.append(Extension)
import torch
from mmcv.ops import SparseConvTensor, SubMConv3d, Voxelization

features, cells = torch.ones(2, 1), torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]]).int()
layer = SubMConv3d(1, 1, 3, bias=False)
torch.nn.init.ones_(layer.weight)
for device in "cpu", "npu":
    features, cells, layer = features.to(device), cells.to(device), layer.to(device)
    try:
        output = layer(SparseConvTensor(features.requires_grad_(), cells, [2, 2, 2], 1)).features
        output.sum().backward()
        print(output.tolist(), layer.weight.grad.sum().item())
    except RuntimeError as error:
        print(error)
    try:
        points = torch.ones(2, 3, device=device)
        print(Voxelization([1, 1, 1], [0, 0, 0, 2, 2, 2], -1)(points))
    except RuntimeError as error:
        print(error)
"""


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    env = environment([HERE / "softnpu"], active=True)
    # mmcv and what it imports warn of deprecations of their own.
    done = python(SCRIPT, *arguments, cwd=folder, env=env, warnings=False, timeout=300)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Without mx_driving and with a fake of it, at the same time."""
    with ThreadPoolExecutor() as pool:
        both = (
            pool.submit(run, tmp_path_factory.mktemp("alone")),
            pool.submit(run, tmp_path_factory.mktemp("with"), "mx_driving"),
        )
        return [future.result() for future in both]


@pytest.mark.parametrize("with_mx_driving", [False, True])
def test_everything_is_as_on_the_cpu(runs: list[dict[str, Any]], with_mx_driving: bool) -> None:
    results = runs[with_mx_driving]["wrong"]
    assert {name: text for name, text in results.items() if text} == {}
    assert len(results) >= 22
    assert ("SparseUNet" in results) is (importlib.util.find_spec("mmdet3d") is not None)


def test_what_mx_driving_computes(runs: list[dict[str, Any]]) -> None:
    assert runs[0]["calls"] == {}
    calls = runs[1]["calls"]
    # Layers of one key share their pairs: found once, used again.
    assert calls["pairs"] < calls["SubMConv3d"] + calls["SparseConv3d"]
    assert {"SubMConv3d", "SparseConv3d", "hard", "dynamic"} < set(calls)
    if importlib.util.find_spec("mmdet3d") is not None:
        assert {"SubMConv3d", "SparseConv3d"} < set(runs[1]["of the encoders"])


def test_the_outcomes(runs: list[dict[str, Any]]) -> None:
    for outcomes in (run["outcomes"] for run in runs):
        statuses = {target: (status, reason) for _, target, status, reason in outcomes}
        of_extension = {statuses.pop(t) for t in list(statuses) if t.startswith("mmcv._ext:")}
        assert of_extension == {("UNMET", "mmcv._ext is mx_autopatch.mmcv_ext")}
        assert {status for status, _ in statuses.values()} == {"APPLIED"}


def test_a_compiled_extension_without_kernels_for_npus(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": COMPILED})
    env = environment(active=True)
    done = python("train.py", cwd=tmp_path, env=env, warnings=False, timeout=120)
    refused = "implementation for device cpu not found"
    assert done.stdout.splitlines() == [
        f"get_indice_pairs_3d_forward: {refused}",
        f"dynamic_voxelize_forward: {refused}",
        "[[2.0], [2.0]] 4.0",
        "tensor([[1, 1, 1],",
        "        [1, 1, 1]], device='npu:0', dtype=torch.int32)",
    ]

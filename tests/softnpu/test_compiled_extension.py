"""mmcv.ext_on_npu: a compiled mmcv._ext whose kernels are for other devices.

A stand-in for it, which is found as the compiled one would be, says what that says.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from helpers import environment, python, write_files

if importlib.util.find_spec("mmcv") is None:
    pytest.skip("mmcv is not installed", allow_module_level=True)

SCRIPT = """
import json
import sys
from collections import Counter
from importlib.machinery import ModuleSpec

CALLS = Counter()


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
            def refuse(*args, **options):
                device = next(a.device for a in args if hasattr(a, "device"))
                CALLS[name, device.type] += 1
                if name.startswith("get_indice_pairs"):
                    raise RuntimeError("get_indice_pairs is not implemented on CPU")
                if name == "points_in_polygons_forward":
                    raise RuntimeError("CUDA error: out of memory")
                if name == "bbox_overlaps" and device.type == "npu":
                    return args[2].fill_(7)  # it has a kernel for this one
                raise RuntimeError(f"{name}_impl: implementation for device {device} not found.")
            return refuse

        for name in names.NAMES_2_2:
            setattr(module, name, function(name))
        module.get_compiler_version = lambda: "GCC 9.3"


sys.meta_path.append(Extension)
import torch
from mmcv import ops
from mmcv.ops import SparseConvTensor, SubMConv3d

from mx_autopatch import report

cells = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]]).int()
layer = SubMConv3d(1, 1, 3, bias=False)
torch.nn.init.ones_(layer.weight)
points = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [9, 0, 0]]])


def sparse(device):
    features = torch.ones(2, 1, device=device, requires_grad=True)
    scene = SparseConvTensor(features, cells.to(device), [2, 2, 2], 1)
    output = layer.to(device)(scene).features
    output.sum().backward()
    return [output.tolist(), features.grad.tolist()]


calls = {
    "ball_query": lambda d: ops.ball_query(0, 2.0, 2, points.to(d), points.to(d)).tolist(),
    "three_nn": lambda d: ops.three_nn(points.to(d), points.to(d))[1].tolist(),
    "sparse": sparse,
    "bbox_overlaps": lambda d: ops.bbox_overlaps(*[torch.rand(1, 4, device=d)] * 2).tolist(),
    "points_in_polygons": lambda d: ops.points_in_polygons(
        torch.rand(1, 2, device=d), torch.rand(1, 8, device=d)).tolist(),
}
found = {}
for name, call in calls.items():
    for device in "npu", "npu", "cpu":
        try:
            found[f"{name} {device}"] = call(device)
        except RuntimeError as error:
            found[f"{name} {device}"] = str(error)
found["asked"] = CALLS["ball_query_forward", "npu"]
found["compiler"] = ops.get_compiler_version()
found["outcomes"] = [[str(o.status), o.reason] for o in report().of("mmcv.ext_on_npu")]
print(json.dumps(found))
"""


def test_functions_without_a_kernel(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": SCRIPT})
    env = environment(active=True)
    done = python("train.py", cwd=tmp_path, env=env, warnings=False, timeout=120)
    found = json.loads(done.stdout)
    for name in ("ball_query_forward", "three_nn_forward"):
        key = f"{name.rpartition('_')[0]} cpu"
        assert found.pop(key) == f"{name}_impl: implementation for device cpu not found."
    refused = "bbox_overlaps_impl: implementation for device cpu not found."
    assert found == {
        "ball_query npu": [[[0, 1], [0, 1], [2, 2]]],
        "three_nn npu": [[[0, 1, 2], [1, 0, 2], [2, 1, 0]]],
        "sparse npu": [[[2.0], [2.0]], [[2.0], [2.0]]],
        "sparse cpu": "get_indice_pairs is not implemented on CPU",
        "bbox_overlaps npu": [[7.0]],  # a kernel that is there is used
        "bbox_overlaps cpu": refused,
        "points_in_polygons npu": "CUDA error: out of memory",  # no fault of ours to hide
        "points_in_polygons cpu": "CUDA error: out of memory",
        "asked": 1,
        "compiler": "GCC 9.3",
        "outcomes": [["APPLIED", "112 functions"]],
    }


def test_our_own_is_complete(tmp_path: Path) -> None:
    script = """
        import mmcv.ops
        from mx_autopatch import report
        print([[str(o.status), o.reason] for o in report().of("mmcv.ext_on_npu")])
    """
    write_files(tmp_path, {"train.py": script})
    env = environment(active=True)
    done = python("train.py", cwd=tmp_path, env=env, warnings=False, timeout=120)
    assert done.stdout == "[['UNMET', 'mmcv._ext is mx_autopatch.mmcv_ext']]\n"

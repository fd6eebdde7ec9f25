"""What scan finds in sources, beside lists that were made by hand."""

from __future__ import annotations

import runpy
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import ROOT

from mx_autopatch.patches.index import INDEX
from mx_autopatch.scan.rules import OPERATORS, RULES
from mx_autopatch.scan.skeleton import skeleton
from mx_autopatch.scan.tree import scan

GONE = {"numpy.bool": "numpy.aliases", "collections.Mapping": "python.collections_aliases"}

#: A project as such projects are written, with the rule that each line comes under.
PROJECT = {
    "tools/train-dist.py": """
        import argparse
        import torch
        import torch.cuda.amp as amp  #
        from torch import cuda as gpu
        from torch.cuda import nvtx  # cuda-only

        parser = argparse.ArgumentParser()
        parser.add_argument("--local_rank", type=int)  # local-rank
        parser.add_argument("--rank", "--local_rank", "--local-rank", type=int)
        torch.distributed.init_process_group(backend="nccl")  # nccl
        gpu.set_device(0)  # torch-cuda
        nvtx.range_push("step")  # cuda-only
        model = torch.nn.Linear(2, 2).cuda()  # cuda-method
        with amp.autocast():  # cuda-amp
            x = torch.ones(2, device="cuda:0")  # cuda-string
        path = "/data/cuda/x.pth"
        y = x.to(torch.device("cuda"), dtype=torch.float32)  # cuda-string
    """,
    "plugin/__init__.py": "",
    "plugin/ops/__init__.py": "",
    "plugin/ops/helper_ext.py": "",
    "plugin/ops/functions.py": """
        import MultiScaleDeformableAttention as MSDA  # own-operator
        from mmcv.ops import MultiScaleDeformableAttention
        from . import bev_pool_ext, helper_ext  # own-operator
        from . import roi_cuda  # cuda-extension
        from ..ops.helper_ext import anything
        from flash_attn import flash_attn_func  # flash-attn
        import torch_scatter  # torch-scatter
        import spconv.pytorch as spconv  # spconv
        from apex import amp  # apex
    """,
    "plugin/ops/src/kernel.cu": "__global__ void f() {}",
    "plugin/head.py": """
        import collections
        import numpy as np
        import torch
        from torch import float64, nn
        from collections import Mapping  # gone-name

        KINDS = (np.bool, np.bool_)  # gone-name

        class Head(nn.Module):
            def __init__(self):
                self.rates = [r.item() for r in torch.linspace(0, 1, 4)]
                self.weights = torch.ones(2, dtype=torch.double)  # float64

            def forward(self, x, y):
                keep = (x > 0) & ~(y == 1)
                first = x[keep]  # mask-index
                keep = keep.nonzero()
                second = x[keep]
                x[x != x] = 0  # mask-index
                if x.dtype == torch.float64 or x.dtype is float64:
                    return x.double()  # float64
                for i in range(len(x)):
                    total = x[i].sum().item()  # item-in-loop
                while float(total) > x.item():  # item-in-loop
                    total -= 1
                return self.extra(first, second, total.item())

            def extra(self, x):
                return x[x > 0]

        def build(cfg: collections.Mapping):  # gone-name
            return Head()
    """,
    "plugin/arrays.py": """
        import numpy as np

        class Reader:
            def forward(self, a):
                return [a[a > 0], *(v.item() for v in a)], np.float64(1)
    """,
    "setup.py": """
        from setuptools import setup
        from torch.utils.cpp_extension import BuildExtension, CUDAExtension

        setup(ext_modules=[CUDAExtension("plugin.ops.roi_cuda", [])])  # cuda-extension
    """,
    "broken.py": "def (",
    ".hidden/x.py": "x.cuda()",
    "env/pyvenv.cfg": "",
    "env/lib/x.py": "x.cuda()",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
    return tmp_path


def by_hand() -> set[tuple[str, int, str]]:
    marked = {
        (name, number, line.partition("  # ")[2])
        for name, text in PROJECT.items()
        for number, line in enumerate(textwrap.dedent(text).lstrip("\n").splitlines(), 1)
        if "  # " in line
    }
    return {*marked, ("plugin/ops/src/kernel.cu", 1, "cuda-source")}


def test_every_finding_is_one_of_the_list_and_none_is_missing(project: Path) -> None:
    found = scan(project, GONE)
    assert {(f.file.replace("\\", "/"), f.line, f.rule) for f in found.findings} == by_hand()
    assert list(found.unread) == ["broken.py"]
    assert found.unread["broken.py"].startswith("SyntaxError: ")
    assert found.package == ""


def test_a_finding_names_function_patch_and_source(project: Path) -> None:
    found = scan(project / "plugin", GONE)
    assert found.package == "plugin"
    head = {f.rule: f for f in found.findings if f.file == "head.py"}
    assert head["item-in-loop"].qualname == "Head.forward"
    assert head["item-in-loop"].patch == ""
    assert head["mask-index"].patch == "torch.index"
    assert {f.patch for f in found.findings if f.rule == "gone-name"} == set(GONE.values())
    own = [f.patch for f in found.findings if f.rule == "own-operator"]
    assert own == ["projects.ms_deform_attn", "projects.bev_pool"]


def test_one_file(project: Path) -> None:
    found = scan(project / "plugin" / "head.py", GONE)
    assert (found.files, found.package) == (1, "plugin")
    assert {f.file for f in found.findings} == {"head.py"}


def test_the_skeleton_is_a_plugin_that_changes_nothing_yet(project: Path, tmp_path: Path) -> None:
    found = scan(project / "plugin", GONE)
    text = skeleton(found.findings, "mine.py", found.package)
    assert "# ops/src/kernel.cu:1 [cuda-source] kernel.cu" in text
    (tmp_path / "mine.py").write_text(text)
    patches = runpy.run_path(str(tmp_path / "mine.py"))["PATCHES"]
    targets = [patch.edits[0].target for patch in patches]
    assert targets == ["plugin.head:Head.__init__", "plugin.head:Head.forward"]
    assert not any(patch.default for patch in patches)
    empty = skeleton([], "none.py")
    (tmp_path / "none.py").write_text(empty)
    assert runpy.run_path(str(tmp_path / "none.py"))["PATCHES"] == ()


def test_the_rules_name_patches_that_exist() -> None:
    named = {rule.patch for rule in RULES.values()} | set(OPERATORS.values())
    assert named - {""} <= set(INDEX)


def test_the_examples_of_the_repository() -> None:
    found = scan(ROOT / "examples" / "train_cuda.py", GONE)
    source = (ROOT / "examples" / "train_cuda.py").read_text().splitlines()
    expected = {
        *((n, "cuda-method") for n, line in enumerate(source, 1) if ".cuda(" in line),
        *((n, "cuda-string") for n, line in enumerate(source, 1) if '"cuda"' in line),
        *((n, "cuda-amp") for n, line in enumerate(source, 1) if "torch.cuda.amp." in line),
        *((n, "nccl") for n, line in enumerate(source, 1) if '"nccl"' in line),
        *((n, "local-rank") for n, line in enumerate(source, 1) if '"--local_rank"' in line),
    }
    expected |= {
        (n, "torch-cuda")
        for n, line in enumerate(source, 1)
        if "torch.cuda." in line and "torch.cuda.amp." not in line
    }
    # Once in an epoch; and the only thing that no patch takes care of.
    (line,) = (n for n, text in enumerate(source, 1) if ".mean().item()" in text)
    expected.add((line, "item-in-loop"))
    assert {(f.line, f.rule) for f in found.findings} == expected


@pytest.mark.skipif(not find_spec("mmdet"), reason="needs mmdet")
def test_nothing_of_mmdet_is_beyond_reading() -> None:
    spec = find_spec("mmdet")
    assert spec is not None
    assert spec.origin is not None
    found = scan(Path(spec.origin).parent, GONE)
    assert found.files > 400
    assert found.unread == {}
    assert "mmdet" not in sys.modules or found.package == "mmdet"
    open_ones = {f.rule for f in found.findings if not f.patch}
    assert open_ones == {"item-in-loop"}

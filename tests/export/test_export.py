"""Export of a small library, written as those of OpenMMLab are, and of mmdet."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable

import pytest
from helpers import environment, python

from mx_autopatch.export.config import ExportError
from mx_autopatch.export.package import Package, build

pytestmark = pytest.mark.skipif(not find_spec("mmengine"), reason="needs mmengine")

LIBRARY = {
    "fakelib/__init__.py": "raise ImportError('whoever exports imports nothing of it')\n",
    "fakelib/registry.py": """
        # Copyright of the library.
        from mmengine.registry import MODELS as MMENGINE_MODELS
        from mmengine.registry import Registry

        MODELS = Registry("model", parent=MMENGINE_MODELS, locations=["fakelib.models"])
        UNUSED = Registry("unused")
    """,
    "fakelib/models/__init__.py": """
        from .builder import HEADS
        from .heads import *
        from .necks.neck import Neck

        SCALE = 2.0
    """,
    "fakelib/models/builder.py": "from fakelib.registry import MODELS\nHEADS = NECKS = MODELS\n",
    "fakelib/models/necks/__init__.py": "",
    "fakelib/models/necks/neck.py": """
        # Copyright of the neck.
        import math
        import os  # not used by what is exported
        from typing import Optional

        import torch
        from torch import nn

        from fakelib import models
        from fakelib.utils import helpers as h, twice
        from ..builder import NECKS

        # How wide it is.
        WIDTH: int = 4
        try:
            import package_of_nowhere
        except ImportError:
            package_of_nowhere = None

        def unused():
            return os.getcwd()

        @NECKS.register_module()
        class Neck(nn.Module):
            \"\"\"A neck.\"\"\"

            def __init__(self, part=dict(type="Part"), scale: Optional[float] = None):
                super().__init__()
                self.layer = nn.Linear(WIDTH, twice(WIDTH))  # twice as wide
                self.part = NECKS.build(part)
                self.scale = scale or models.SCALE

            def forward(self, x):
                from fakelib.utils.helpers import late, unused_too as other
                assert package_of_nowhere is None
                return late(self.part(h.double(self.layer(x)))) * self.scale * math.pi
    """,
    "fakelib/models/heads.py": """
        import torch
        from torch import nn
        from .builder import HEADS
        from .necks.neck import Neck as Base, WIDTH

        __all__ = ["Head", "Part"]

        @HEADS.register_module(name=["Head", "HeadAgain"])
        class Head(Base):
            def forward(self, x):
                return super().forward(x).sum(-1, keepdim=True)

        @HEADS.register_module()
        class Part(nn.Module):
            def forward(self, x):
                return x + WIDTH

        HEADS.register_module("Flat", module=nn.Flatten)

        @HEADS.register_module()
        class NotNeeded(nn.Module):
            pass
    """,
    "fakelib/utils/__init__.py": "from .helpers import double, twice\n",
    "fakelib/utils/helpers.py": """
        def twice(number):
            return 2 * number

        def double(tensor):
            return twice(tensor)

        def late(tensor):
            return tensor - 1

        unused_too = None
        never = print("never")
    """,
}


@pytest.fixture
def library(write: Callable[..., Path], tmp_path: Path) -> Path:
    write(LIBRARY)
    path = tmp_path / "x+y.config.py"
    path.write_text(
        """
default_scope = "fakelib"
model = dict(type="Head", scale=3.0)
extra = [dict(type="Flat"), dict(type="fakelib.Neck")]
"""
    )
    return path


def written(package: Package, folder: Path) -> Path:
    package.write(folder)
    return folder


def test_what_is_needed_is_there_and_nothing_else(library: Path) -> None:
    package = build(str(library))
    assert sorted(name for name in package.files if package.files[name]) == [
        "manifest.json",
        "pack/__init__.py",
        "pack/configs/x_y_config.py",
        "pack/models/heads.py",
        "pack/models/necks/neck.py",
        "pack/models/package.py",
        "pack/registry.py",
        "pack/utils/helpers.py",
        "tools/test.py",
        "tools/train.py",
    ]
    names = {
        file: {
            n.name for n in ast.parse(text).body if isinstance(n, (ast.ClassDef, ast.FunctionDef))
        }
        for file, text in package.files.items()
        if file.startswith("pack/") and file.endswith(".py")
    }
    assert names["pack/models/heads.py"] == {"Head", "Part"}
    assert names["pack/models/necks/neck.py"] == {"Neck"}
    assert names["pack/utils/helpers.py"] == {"twice", "double", "late"}
    assert "UNUSED" not in package.files["pack/registry.py"]


def test_text_comments_and_licence_are_kept(library: Path) -> None:
    text = build(str(library)).files["pack/models/necks/neck.py"]
    assert text.startswith("# Copyright of the neck.\n")
    assert "# How wide it is.\nWIDTH: int = 4" in text
    assert "# twice as wide" in text
    assert '"""A neck."""' in text
    assert "import os" not in text
    assert "from pack.registry import MODELS as NECKS" in text


def test_the_config_names_the_pack(library: Path) -> None:
    namespace: dict[str, Any] = {}
    exec(build(str(library)).files["pack/configs/x_y_config.py"], namespace)
    assert namespace["default_scope"] == "pack"
    assert namespace["custom_imports"] == {"imports": ["pack"], "allow_failed_imports": False}
    assert [each["type"] for each in namespace["extra"]] == ["Flat", "Neck"]


def test_it_is_linted_and_the_same_each_time(library: Path, tmp_path: Path) -> None:
    first, second = build(str(library)), build(str(library))
    assert first.files == second.files
    folder = written(first, tmp_path / "out")
    if find_spec("ruff") is not None:
        command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    manifest = json.loads(first.files["manifest.json"])
    assert manifest["unresolved"] == []
    assert manifest["modules"]["pack.models.heads"] == {
        "from": "fakelib.models.heads",
        "symbols": ["Head", "Part"],
    }


RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
import pack
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
config = Config.fromfile(sys.argv[1] + "/pack/configs/x_y_config.py")
init_default_scope("pack")
torch.manual_seed(0)
head = MODELS.build(config.model)
x = torch.ones(2, 4)
expected = (head.layer(x) * 2 + 4 - 1) * 3.0 * torch.pi
assert torch.equal(head(x), expected.sum(-1, keepdim=True))
assert type(head).__mro__[1] is MODELS.build(config.extra[1]).__class__
assert type(MODELS.build(config.extra[0])) is torch.nn.Flatten
assert not [name for name in sys.modules if name.startswith(("fakelib", "mx_autopatch"))]
"""


@pytest.mark.skipif(not find_spec("torch"), reason="needs torch")
def test_it_computes_what_the_library_does(library: Path, tmp_path: Path) -> None:
    folder = written(build(str(library)), tmp_path / "out")
    script = tmp_path / "run.py"
    script.write_text(RUN)
    python(script, folder, cwd=tmp_path, env=environment(), warnings=False)


def test_what_nobody_registers_is_an_error_that_names_the_key(library: Path) -> None:
    library.write_text('default_scope = "fakelib"\nmodel = dict(neck=dict(type="fakelib.Nock"))\n')
    with pytest.raises(ExportError, match=r"model\.neck: type 'fakelib.Nock': nothing registers"):
        build(str(library))
    with pytest.raises(ExportError, match="no such file; a config of a package is PACKAGE::PATH"):
        build("nowhere.py")
    with pytest.raises(ExportError, match="'no_such_package' is not installed"):
        build("no_such_package::x.py")


@pytest.mark.skipif(not find_spec("mmdet"), reason="needs mmdet")
def test_a_detector_of_mmdet_works_alone(tmp_path: Path) -> None:
    """Its operators included, where mmcv has none; the check compares it with the original."""
    folder = tmp_path / "retinanet"
    config = "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py"
    done = python(
        *("-m", "mx_autopatch", "export", config, "-o", folder, "--model-only"),
        cwd=tmp_path,
        env=environment(),
        warnings=False,
        timeout=250,
    )
    assert "parameters and buffers, those of the original" in done.stdout
    assert (folder / "pack" / "ops" / "nms.py").exists()
    text = (folder / "pack" / "models" / "detectors" / "retinanet.py").read_text()
    assert text.startswith("# Copyright (c) OpenMMLab. All rights reserved.\n# From mmdet 3.3.0, ")

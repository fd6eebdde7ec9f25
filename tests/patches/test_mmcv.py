"""mmcv.version_gate and mmcv.ext on the installed mmcv-lite, mmdet, mmseg and mmdet3d."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers import device_environment

from mx_autopatch.patches.mmcv.version_gate import patch_mmcv_version

# mmdet cannot be imported here without us, so importorskip will not do.
pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "mmcv", "mmdet", "mmseg", "mmdet3d")),
    reason="needs torch and the OpenMMLab packages",
)

START = "from mx_autopatch.bootstrap import start, report; start()\n"


def run(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process, in an empty folder; the summary at exit is off."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MX_AUTOPATCH")}
    environ.update(device_environment(active="MX_AUTOPATCH" in environment))
    environ.update(MX_AUTOPATCH_REPORT_LEVEL="silent", **environment)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environ, cwd=cwd, capture_output=True, text=True)


def test_without_us_the_stack_does_not_import(tmp_path: Path) -> None:
    done = run("import mmdet", tmp_path)
    assert done.returncode == 1
    assert "MMCV==2.2.0 is used but incompatible" in done.stderr
    done = run("import mmcv.ops", tmp_path)
    assert "No module named 'mmcv._ext'" in done.stderr


def test_with_us_it_does_and_the_version_stays_true(tmp_path: Path) -> None:
    code = (
        START
        + """
import mmdet.apis, mmseg.apis, mmdet3d
import mmcv, mmcv.ops, mmcv.version
print(mmcv.__version__, mmcv.version.__version__, type(mmcv).__name__)
"""
    )
    done = run(code, tmp_path, MX_AUTOPATCH="1")
    assert (done.returncode, done.stdout) == (0, "2.2.0 2.2.0 module\n"), done.stderr


def test_the_gate_alone_and_what_it_says(tmp_path: Path) -> None:
    code = (
        START
        + """
import mmdet
for outcome in report().of("mmcv.version_gate"):
    if str(outcome.status) != "PENDING":
        print(outcome.trigger, outcome.status, outcome.reason)
"""
    )
    only = "mmcv.version_gate,torch.soft_npu"  # the latter is off where no device is asked for
    done = run(code, tmp_path, MX_AUTOPATCH="1", MX_AUTOPATCH_ONLY=only)
    assert done.stdout == "mmdet APPLIED read as '2.1.0'\n", done.stderr


@pytest.mark.parametrize("how", ["configuration", "environment", "function"])
def test_any_version_can_be_shown(tmp_path: Path, how: str) -> None:
    (tmp_path / "mmrotate").mkdir()
    (tmp_path / "mmrotate" / "__init__.py").write_text(
        "import mmcv\nSEEN = mmcv.__version__\nassert SEEN == '1.6.0'\n"
    )
    code, environment = START, {"MX_AUTOPATCH": "1"}
    if how == "configuration":
        (tmp_path / "autopatch.toml").write_text('[mmcv]\nversion = "1.6.0"\n')
    elif how == "environment":
        environment["MX_AUTOPATCH_MMCV_VERSION"] = "1.6.0"
    else:
        code += "from mx_autopatch import patch_mmcv_version\npatch_mmcv_version('1.6.0')\n"
    code += "import mmrotate, mmcv\nprint(mmrotate.SEEN, mmcv.__version__)"
    done = run(code, tmp_path, **environment)
    assert done.stdout == "1.6.0 2.2.0\n", done.stderr


@pytest.mark.parametrize(
    ("bounds", "shown"),
    [
        ("mmcv_minimum_version = '2.0.0rc4'\nmmcv_maximum_version = '2.2.0'\n", "2.1.0"),
        ("mmcv_minimum_version = '2.0.0rc4'\nmmcv_maximum_version = '2.1.0'\n", "2.0.1"),
        ("MMCV_MIN = '1.3.13'\nMMCV_MAX = '1.8.0'\n", "1.7.2"),
        ("MMCV_MIN = '2.0.0rc4'\nMMCV_MAX = '2.3.0'\n", "2.2.0"),
        ("", "2.2.0"),
    ],
)
def test_the_shown_version_is_within_the_declared_bounds(
    tmp_path: Path, bounds: str, shown: str
) -> None:
    (tmp_path / "mmyolo.py").write_text(bounds + "import mmcv\nSEEN = mmcv.__version__\n")
    done = run(START + "import mmyolo\nprint(mmyolo.SEEN)", tmp_path, MX_AUTOPATCH="1")
    assert done.stdout == shown + "\n", done.stderr


def test_a_bad_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"patch_mmcv_version: 'one\.six' is not a version"):
        patch_mmcv_version("one.six")


def test_operators_compute_and_other_names_are_missing(tmp_path: Path) -> None:
    code = (
        START
        + """
import torch
from mmcv.ops import nms
boxes = torch.tensor([[0., 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
print(nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)[1].tolist())
import mmcv._ext
print(mmcv._ext.__name__, hasattr(mmcv._ext, "carafe_forward"), hasattr(mmcv._ext, "nonsense"))
"""
    )
    done = run(code, tmp_path, MX_AUTOPATCH="1")
    assert done.stdout == "[1, 2]\nmmcv._ext True False\n", done.stderr


def test_ext_is_taken_back(tmp_path: Path) -> None:
    code = (
        START
        + """
import sys, mmcv.ops
from mx_autopatch import deactivate
assert "mmcv._ext" in sys.modules
deactivate()
assert "mmcv._ext" not in sys.modules
try:
    import mmcv._ext
except ImportError as error:
    print(error)
"""
    )
    assert run(code, tmp_path, MX_AUTOPATCH="1").stdout == "No module named 'mmcv._ext'\n"


def test_a_checkpoint_of_the_real_runner_resumes(tmp_path: Path) -> None:
    code = START + RESUME
    done = run(code, tmp_path, MX_AUTOPATCH="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "resumed at 2, ended at 4"


RESUME: Any = """
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
    def forward(self, x, mode="tensor"):
        return {"loss": self.layer(self.layer.weight).sum()}

def runner(epochs, resume):
    return Runner(
        model=Model(), work_dir="work", resume=resume, log_level="ERROR",
        train_dataloader=dict(dataset=[{"x": 0}] * 2, batch_size=1,
                              sampler=dict(type="DefaultSampler", shuffle=False)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
    )

runner(2, False).train()
second = runner(4, True)
second.load_or_resume()
start = second.epoch
second.train()
print(f"resumed at {start}, ended at {second.epoch}")
"""

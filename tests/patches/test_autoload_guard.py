"""torch.autoload_guard where torch-npu is installed, and where only its name is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import environment, python, write_files

from mx_autopatch import bootstrap
from mx_autopatch.model import Status

NAME = "torch.autoload_guard"
SWITCH = "TORCH_DEVICE_BACKEND_AUTOLOAD"
NO_CANN = "mx_autopatch: torch_npu is installed, but CANN's runtime is not to be found"

LOOK = """
    import json, os, subprocess, sys
    before = dict(os.environ)
    import torch

    seen = {"same environment": dict(os.environ) == before, "npu": hasattr(torch, "npu")}
    show = "import os; print(os.environ.get('TORCH_DEVICE_BACKEND_AUTOLOAD'))"
    child = subprocess.run([sys.executable, "-S", "-c", show], capture_output=True, text=True)
    seen["child"] = child.stdout.strip()
    seen["sum"] = torch.ones(2).sum().item()
    try:
        import torch_npu
    except ImportError as error:
        seen["error"] = str(error)
    from mmengine.device import get_device, is_npu_available

    seen["mmengine"] = [is_npu_available(), get_device()]
    print(json.dumps(seen))
"""


def bare(folders: Iterable[Path] = (), active: bool = False, **more: str) -> dict[str, str]:
    """An environment without what lets the other tests import torch."""
    env = environment(folders, active)
    for name in (SWITCH, "MX_AUTOPATCH_DEVICE"):
        env.pop(name, None)
    return {**env, **more}


@pytest.mark.skipif(find_spec("torch_npu") is None, reason="needs torch-npu")
def test_torch_imports_without_cann(tmp_path: Path) -> None:
    write_files(tmp_path, {"look.py": LOOK})
    switch = {SWITCH: "1"}
    runs = {
        "unset": bare(active=True),
        "set, device = cpu": bare(active=True, MX_AUTOPATCH_DEVICE="cpu", **switch),
        "a rank of torchrun": bare(active=True, TORCHELASTIC_RUN_ID="x"),
    }
    with ThreadPoolExecutor(2) as pool:
        without = pool.submit(python, "-c", "import torch", cwd=tmp_path, env=bare(), fails=True)
        started = {
            name: pool.submit(python, "look.py", cwd=tmp_path, env=env, warnings=False)
            for name, env in runs.items()
        }
        done = {name: run.result() for name, run in started.items()}
    assert "Failed to load the backend extension: torch_npu" in without.result().stderr
    for name, run in done.items():
        seen = json.loads(run.stdout)
        assert seen["same environment"], name
        assert seen["child"] == ("1" if name.startswith("set") else "None")
        assert seen["sum"] == 2
        assert not seen["npu"]
        assert "libhccl.so" in seen["error"]
        assert seen["mmengine"] == [False, "cpu"]
        # In this process one line; none where nobody wants an NPU, or the launcher has said it.
        assert run.stderr.count(NO_CANN) == (name == "unset")
    for remedy in ("set_env.sh", "MX_AUTOPATCH_DEVICE=soft", "MX_AUTOPATCH_DEVICE=cpu"):
        assert remedy in done["unset"].stderr


#: Not the real ones: what the pair torch 2.13 and torch_npu 2.1 looks like to an importer.
FAKE_PAIR = {
    "torch/__init__.py": """
        import os
        if os.getenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "1") == "1":
            try:
                import torch_npu
            except Exception as error:
                raise RuntimeError("Failed to load the backend extension: torch_npu.") from error
    """,
    "torch-2.13.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\n",
    "torch_npu/__init__.py": "raise ImportError('undefined symbol: fake_torch_npu')\n",
    "torch_npu-2.1.0.dist-info/METADATA": (
        "Metadata-Version: 2.1\nName: torch-npu\nVersion: 2.1.0.post10\n"
    ),
    "other_backend.py": "loads = []\ndef autoload():\n    loads.append(1)\n",
    "other_backend-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n",
    "other_backend-1.0.dist-info/entry_points.txt": (
        "[torch.backends]\nother = other_backend:autoload\n"
    ),
    "torch_npu-2.1.0.dist-info/entry_points.txt": (
        "[torch.backends]\ntorch_npu = torch_npu:_autoload\n"
    ),
}


@pytest.fixture
def fake_pair(tmp_path: Path) -> Path:
    return write_files(tmp_path / "fakes", FAKE_PAIR)


TELL = """
    import json, sys
    from mx_autopatch import bootstrap, device

    device.has_cann = lambda: {cann}
    only = {{"patches.only": ["torch.autoload_guard"], "report.level": "silent"}}
    bootstrap.activate(overrides={{**only, "device": "cuda"}})
    error = ""
    try:
        import torch
    except RuntimeError as raised:
        error = str(raised)
    loads = sys.modules["other_backend"].loads if "other_backend" in sys.modules else None
    (outcome,) = bootstrap.report().of("torch.autoload_guard")
    print(json.dumps([error, loads, outcome.status, outcome.reason]))
"""


@pytest.mark.skipif(sys.version_info < (3, 10), reason="torch with autoload needs Python 3.10")
@pytest.mark.parametrize("cann", [False, True])
def test_a_wrong_pair_and_other_backends(fake_pair: Path, tmp_path: Path, cann: bool) -> None:
    write_files(tmp_path, {"tell.py": TELL.format(cann=cann)})
    run = python("tell.py", cwd=tmp_path, env=bare([fake_pair]))
    error, loads, status, reason = json.loads(run.stdout)
    assert status == "APPLIED", reason
    if cann:
        # A device would be lost silently: the error stands, and is explained.
        assert error == "Failed to load the backend extension: torch_npu."
        assert "pip install torch==2.1.* torch-npu==2.1.*" in reason
        assert reason.startswith("torch_npu 2.1.0.post10 is made for torch 2.1, this is torch 2.13")
        assert run.stderr == f"mx_autopatch: {reason}\n"
    else:
        assert (error, loads, run.stderr) == ("", [1], "")


def test_torch_that_is_loaded_is_left_alone(engine: object) -> None:
    pytest.importorskip("torch")
    engine(patches__only=[NAME])  # type: ignore[operator]
    (outcome,) = bootstrap.report().of(NAME)
    assert outcome.status is Status.UNMET
    expected = "before mx_autopatch was active" if find_spec("torch_npu") else "torch_npu"
    assert expected in outcome.reason

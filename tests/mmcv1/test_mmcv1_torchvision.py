"""mmcv.torchvision_urls: what mmcv reads, what nobody else sees, and other people's torchvision."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mmcv
import pytest
from helpers import environment, python, write_files
from mmcv.runner import checkpoint

from mx_autopatch.provided.torchvision import models

OLD = Path(mmcv.__file__).parent / "model_zoo" / "torchvision_0.12.json"
PLACE = "https://download.pytorch.org/models/"


def test_mmcv_knows_the_addresses() -> None:
    urls = checkpoint.get_torchvision_models()
    assert urls["resnet50"] == PLACE + "resnet50-0676ba61.pth"
    assert urls["resnet50.imagenet1k_v1"] == urls["resnet50"]
    assert urls["resnet50.default"] == urls["resnet50.imagenet1k_v2"]
    assert urls["resnet50.imagenet1k_v2"] == PLACE + "resnet50-11ad3fa6.pth"
    assert urls["vgg16.imagenet1k_features"].startswith(PLACE)
    assert len(models.list_models()) == 80


def test_they_are_those_of_torchvision_0_12_where_that_has_them() -> None:
    """mmcv brings the table of that release along; our own was made from a later one."""
    old = json.loads(OLD.read_text())
    named = {model: models.get_model_weights(model) for model in models.list_models()}
    both = old.keys() & named.keys()
    assert len(both) == 50
    differ = {model for model in both if old[model] not in {w.url for w in named[model]}}
    # Whose files torchvision replaced since, under another hash.
    assert differ == {f"efficientnet_b{size}" for size in range(8)}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("torchvision://resnet18", "resnet18-f37072fd.pth"),
        ("torchvision://ResNet50_Weights.IMAGENET1K_V2", "resnet50-11ad3fa6.pth"),
        ("torchvision://swin_t.default", "swin_t-704ceda3.pth"),
    ],
)
def test_a_checkpoint_is_looked_for_there(
    name: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "load_from_http", lambda url, map_location: url)
    assert checkpoint.CheckpointLoader.load_checkpoint(name) == PLACE + file


def test_nobody_else_sees_it() -> None:
    assert "torchvision" not in sys.modules
    assert importlib.util.find_spec("torchvision") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("torchvision")


@pytest.mark.parametrize("part", ["ops", "transforms", "models.resnet50", "models.detection"])
def test_a_missing_part_is_named(part: str) -> None:
    *above, name = part.split(".")
    module: Any = checkpoint.torchvision.models if above else checkpoint.torchvision
    with pytest.raises(AttributeError, match=rf"^torchvision\.{part} is not there: .*Install"):
        getattr(module, name)


def test_an_unknown_model_is_an_error() -> None:
    with pytest.raises(ValueError, match="Unknown model resnet5000"):
        models.get_model_weights("resnet5000")


#: Not the real ones: one as it is where it was built for another torch, and one that works.
FAKES = {
    "broken/torchvision/__init__.py": """
        from torchvision import extension
        raise RuntimeError("operator torchvision::nms does not exist")
    """,
    "broken/torchvision/extension.py": "",
    "working/torchvision/__init__.py": "__version__ = '0.28.0'\nimport torchvision.models",
    "working/torchvision/models.py": "",
}

SCRIPT = """
    import json, sys
    import mmcv.runner.checkpoint as checkpoint

    seen = {"file": checkpoint.torchvision.__file__, "there": "torchvision" in sys.modules}
    try:
        import torchvision
    except RuntimeError as error:
        seen["error"] = str(error)
    from mx_autopatch import report
    (outcome,) = report().of("mmcv.torchvision_urls")
    print(json.dumps({**seen, "status": outcome.status, "reason": outcome.reason}))
"""


def test_one_that_does_not_load_and_one_that_does(tmp_path: Path) -> None:
    write_files(tmp_path, {**FAKES, "script.py": SCRIPT})

    def run(which: str) -> subprocess.CompletedProcess[str]:
        env = environment([tmp_path / which], active=True)
        return python("script.py", cwd=tmp_path, env=env, warnings=False)

    with ThreadPoolExecutor(2) as pool:
        broken, working = (json.loads(d.stdout) for d in pool.map(run, ["broken", "working"]))
    assert "mx_autopatch" in broken["file"]
    assert (broken["status"], broken["there"]) == ("APPLIED", False)
    assert "RuntimeError: operator torchvision::nms does not exist" in broken["reason"]
    # To the user's own import it is as broken as without us.
    assert broken["error"] == "operator torchvision::nms does not exist"
    assert working["file"] == str(tmp_path / "working" / "torchvision" / "__init__.py")
    assert working["there"]
    assert (working["status"], working["reason"]) == ("UNMET", "torchvision is installed")

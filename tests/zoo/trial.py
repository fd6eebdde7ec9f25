"""One config: build the model, take a loss step with gradients, predict.

What is changed in a config before that: no weights are loaded; at most 100 candidates come
before NMS and 20 after it, and all scores pass, so that the post-processing of a model that
knows nothing has something to do; samplers take at most 32 boxes of an image; batches are not
padded or resized to more than the images' size, and SECOND sees 18 x 20 m.
"""

from __future__ import annotations

import copy
import importlib
import math
import time
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DATA = {"mmdet": "detection", "mmseg": "segmentation", "mmdet3d": "detection3d"}

_LIMITS = {
    "nms_pre": 100,
    "max_per_img": 20,
    "num_proposals": 20,
    "max_num": 20,
    "nms_post": 20,
    "num": 32,
    "num_points": 1024,
}
_FILES = ("pretrained", "teacher_ckpt")
_PADDING = ("SegDataPreProcessor", "BatchFixedSizePad")
_SCORES = ("score_thr", "filter_thr")


@dataclass
class Result:
    """How far a config came: ``stage`` is where it failed, ``cause`` is the error's line."""

    library: str
    config: str
    stage: str = "build"
    cause: str = ""
    done: dict[str, float] = field(default_factory=dict)

    as_dict = asdict


def folder_of_configs(library: str) -> Path:
    """Where the package keeps its configs; it is not imported for that."""
    spec = find_spec(library)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {library!r}")
    return Path(spec.origin).parent / ".mim" / "configs"


def run(library: str, config: str) -> Result:
    """Try one config, in this process; never raises what the model raised."""
    import torch

    result = Result(library, config)
    torch.manual_seed(0)
    start = time.perf_counter()
    try:
        for stage in _stages(library, config):
            result.done[result.stage] = time.perf_counter() - start
            result.stage, start = stage, time.perf_counter()
    except Exception as raised:
        error: BaseException = raised
        while error.__cause__ is not None:
            error = error.__cause__
        first = str(error).strip().partition("\n")[0]
        result.cause = f"{type(error).__name__}: {' '.join(first.split())}"
    return result


def _stages(library: str, name: str) -> Any:
    """Do the work, and say what comes next after each part."""
    import torch
    from mmengine.config import Config
    from mmengine.logging import MessageHub
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope

    init_default_scope(library)
    config = Config.fromfile(folder_of_configs(library) / name)
    inputs = importlib.import_module(DATA[library])
    side = inputs.image_size(name)
    _prepare(library, config.model, side)
    if library == "mmdet3d":
        inputs.shrink(config.model)
    registry = importlib.import_module(f"{library}.registry")
    model = revert_sync_batchnorm(registry.MODELS.build(config.model))
    model.init_weights()
    batches = inputs.data(config, side)
    yield "loss"

    # What hooks tell a model before the first iteration.
    for key in ("iter", "epoch"):
        MessageHub.get_current_instance().update_info(key, 0)
    model.train()
    batch = model.data_preprocessor(copy.deepcopy(batches["loss"]), True)
    losses = model(**batch, mode="loss")
    loss, _ = model.parse_losses(losses)
    loss.backward()
    if not math.isfinite(loss.detach()):
        raise AssertionError(f"the loss is {float(loss.detach())}")
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not gradients or not all(bool(gradient.isfinite().all()) for gradient in gradients):
        raise AssertionError("gradients are missing or not finite")
    yield "predict"

    model.eval()
    with torch.no_grad():
        batch = model.data_preprocessor(copy.deepcopy(batches["predict"]), False)
        results = model(**batch, mode="predict")
    if len(results) != len(batches["predict"]["data_samples"]):
        raise AssertionError(f"{len(results)} results of predict")
    yield "all"


def _prepare(library: str, config: Any, side: int) -> None:
    """Take out what asks for files, and bound the work."""
    if isinstance(config, dict):
        for key, value in list(config.items()):
            if key in _FILES or _is_pretrained(value):
                config[key] = None
            elif key == "teacher_config":
                config[key] = _teacher(library, value, side)
            elif key in _LIMITS and isinstance(value, int):
                config[key] = min(value, _LIMITS[key]) if value > 0 else value
            elif key in _SCORES and isinstance(value, float):
                config[key] = 0.0
            elif key == "size" and value and config.get("type") in _PADDING:
                config[key] = (side, side)
            elif key == "clip_border":  # a mask is not pasted where there is no image
                config[key] = True
            elif value == "MMSyncBN":  # which cannot even be built outside of a process group
                config[key] = "BN"
            elif key == "num_cp":  # gradient checkpointing needs a package, and saves memory
                config[key] = 0
            elif key == "random_size_range":
                config[key] = (side, side + 32)
            elif key == "img_size" and library == "mmseg":
                config[key] = (side, side)
            else:
                _prepare(library, value, side)
    elif isinstance(config, (list, tuple)):
        for value in config:
            _prepare(library, value, side)


def _teacher(library: str, name: str, side: int) -> Any:
    """The config that one gives by its path in a checkout, where it need not be."""
    from mmengine.config import Config

    config = Config.fromfile(folder_of_configs(library).parent / name)
    _prepare(library, config.model, side)
    return config


def _is_pretrained(value: Any) -> bool:
    return isinstance(value, dict) and "checkpoint" in value

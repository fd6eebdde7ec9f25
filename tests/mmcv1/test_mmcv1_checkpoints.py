"""mmcv.checkpoint_load: what mmcv 1.x's own hooks and runner write is read again."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.runner import EpochBasedRunner, IterBasedRunner, load_checkpoint

from mx_autopatch import bootstrap

NAME = "mmcv.checkpoint_load"
# torch's words, or those of torch_npu, which has a torch.load of its own.
REFUSED = "Weights only|Unsupported global"


def runner(folder: Path, cls: Any = EpochBasedRunner) -> Any:
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    model.train_step = None  # the runner asks for it; nothing is trained here
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    logger = logging.getLogger("mmcv1 checkpoints")
    logger.setLevel(logging.CRITICAL)
    return cls(model, optimizer=optimizer, work_dir=str(folder), logger=logger)


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    """With a best score as mmseg's evaluation gives it to mmcv's hook: one of numpy's numbers."""
    writer = runner(tmp_path)
    writer.model(torch.ones(1, 2)).sum().backward()
    writer.optimizer.step()
    writer.meta = {"hook_msgs": {"best_score": np.float64(0.5)}, "seen": np.arange(3)}
    writer._epoch, writer._iter = 2, 7
    writer.save_checkpoint(str(tmp_path), create_symlink=False)
    return str(tmp_path / "epoch_3.pth")


def test_refused_without_loads_and_resumes_with(
    checkpoint: str, tmp_path: Path, engine: Any
) -> None:
    with pytest.raises(pickle.UnpicklingError, match=REFUSED):
        load_checkpoint(torch.nn.Linear(2, 1), checkpoint)
    engine(patches__only=[NAME])
    reader = runner(tmp_path)
    reader.resume(checkpoint, map_location="cpu")
    assert (reader.epoch, reader.iter) == (3, 7)
    assert reader.meta["hook_msgs"]["best_score"] == 0.5
    assert reader.meta["seen"].tolist() == [0, 1, 2]
    (state, *_) = reader.optimizer.state.values()
    assert state["momentum_buffer"].tolist() == [[1, 1]]
    bootstrap.deactivate()
    with pytest.raises(pickle.UnpicklingError, match=REFUSED):
        torch.load(checkpoint)


def test_nothing_else_becomes_loadable(tmp_path: Path, engine: Any) -> None:
    engine(patches__only=[NAME])
    path = tmp_path / "own.pth"
    torch.save({"x": Path("somewhere")}, path)
    for options in ({}, {"weights_only": True}):
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, **options)
    assert torch.load(path, weights_only=False) == {"x": Path("somewhere")}


def test_an_iteration_based_runner_resumes_without_a_gpu(
    checkpoint: str, tmp_path: Path, engine: Any
) -> None:
    engine(patches__only=[NAME])
    with pytest.raises((AssertionError, RuntimeError), match="CUDA"):
        runner(tmp_path, IterBasedRunner).resume(checkpoint)
    before = IterBasedRunner.resume
    bootstrap.activate(overrides={"patches.only": [NAME, "mmcv.iter_resume"]})
    for options in ({}, {"map_location": "default"}, {"resume_optimizer": True}):
        reader = runner(tmp_path, IterBasedRunner)
        reader.resume(checkpoint, **options)
        assert (reader.epoch, reader.iter) == (3, 7)
    # A caller's own is handed on.
    reader = runner(tmp_path, IterBasedRunner)
    reader.load_checkpoint = lambda file, map_location: {"meta": {"epoch": 1, "iter": map_location}}
    for arguments in ((checkpoint, True, "meta"), (checkpoint,)):
        reader.resume(*arguments, **({} if len(arguments) > 1 else {"map_location": "meta"}))
        assert reader.iter == "meta"
    bootstrap.deactivate()
    assert IterBasedRunner.resume is before

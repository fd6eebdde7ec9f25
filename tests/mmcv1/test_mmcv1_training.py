"""mmdet 2.28 trains on today's torch, numpy and Python: scripts of its time, nothing edited."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mmdet
import pytest
from helpers import ROOT, environment

EXAMPLE = ROOT / "examples" / "train_detector_mmcv1.py"
CONFIG = ROOT / "examples" / "configs" / "mmcv1" / "retinanet_r18_shapes.py"
# Comes with mmdet's wheel.
TOOL = Path(mmdet.__file__).parent / ".mim" / "tools" / "train.py"
SMALL = [
    *("image_size=64", "shapes.size=64", "shapes.train=8", "shapes.val=2"),
    *("data.workers_per_gpu=0", "data.train_dataloader.persistent_workers=False"),
    *("data.samples_per_gpu=2", "runner.max_epochs=1", "evaluation.interval=1"),
    "model.test_cfg.score_thr=0",  # so that there is something to evaluate
    *("log_config.interval=1", "checkpoint_config.interval=1", "lr_config.warmup_iters=2"),
]
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def run(folder: Path, *command: Any, device: str = "cpu", active: bool = True) -> Any:
    """A script's process, with us on that device or without us on the CPU."""
    env = environment(active=active, OMP_NUM_THREADS="1")
    if active:
        env["MX_AUTOPATCH_DEVICE"] = device
        env["MX_AUTOPATCH_REPORT_PATH"] = str(folder / "reports" / "{rank}-{pid}.json")
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def records(work_dir: Path) -> list[dict[str, Any]]:
    """What mmcv's TextLoggerHook wrote, of all runs in this folder."""
    files = sorted(work_dir.glob("*.log.json"))
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [record for record in map(json.loads, lines) if "mode" in record]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Any]]]:
    """All of them at once: most of their time is imports."""
    folder = tmp_path_factory.mktemp("training")
    data = [sys.executable, ROOT / "examples" / "shapes.py", "data/shapes", "--train", "8"]
    subprocess.run([*map(str, data), "--val", "2", "--size", "64"], cwd=folder, check=True)
    options = ["--cfg-options", *SMALL]
    script = [EXAMPLE, "--work-dir", "cpu", *options]
    tool = [TOOL, CONFIG, "--seed", "0"]
    soft = [*LAUNCH, *tool, "--work-dir", "soft", "--launcher", "pytorch", *options]
    with ThreadPoolExecutor(2) as pool:
        yield {
            "without": pool.submit(run, folder, *tool, active=False),
            "soft": pool.submit(run, folder, *soft, device="soft"),
            "cpu": pool.submit(in_turn, folder, [*tool, "--work-dir", "cpu", *options], script),
        }


def in_turn(folder: Path, tool: list[Any], script: list[Any]) -> Any:
    """mmdet's tool from the start, and the example from its checkpoint for an epoch more."""
    done = run(folder, *tool)
    if done.returncode == 0:
        more = ["runner.max_epochs=2", "--resume-from", "cpu/epoch_1.pth"]
        done = run(folder, *script, *more)
    done.folder = folder
    return done


def succeeded(run: Future[Any]) -> Any:
    done = run.result()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def test_without_us_it_does_not_even_start(runs: dict[str, Future[Any]]) -> None:
    done = runs["without"].result()
    assert done.returncode == 1
    assert "No module named 'torchvision'" in done.stderr


def test_mmdets_own_tool_trains_and_the_example_goes_on(runs: dict[str, Future[Any]]) -> None:
    rows = records(succeeded(runs["cpu"]).folder / "cpu")
    train = [row for row in rows if row["mode"] == "train"]
    assert [(r["epoch"], r["iter"]) for r in train] == [
        (e, i) for e in (1, 2) for i in (1, 2, 3, 4)
    ]
    losses = [row["loss"] for row in train]
    assert all(map(math.isfinite, losses))
    assert sum(losses[4:]) < sum(losses[:4])
    assert [row["epoch"] for row in rows if "bbox_mAP" in row] == [1, 2]


def test_two_processes_on_the_soft_npu(runs: dict[str, Future[Any]]) -> None:
    """In half precision, as mmdet 2.28 has it on NPUs; evaluation calls the wrapped model."""
    succeeded(runs["soft"])
    folder = succeeded(runs["cpu"]).folder
    train = [r for r in records(folder / "soft") if r["mode"] == "train"]
    assert [r["iter"] for r in train] == [1, 2]
    assert all(math.isfinite(r["loss"]) for r in train)
    first = records(folder / "cpu")[0]
    # The mean of two processes' batches, of which none is the first one's: the same model.
    assert train[0]["loss"] == pytest.approx(first["loss"], rel=0.05)
    assert any("bbox_mAP" in r for r in records(folder / "soft"))
    outcomes = [
        outcome
        for file in (folder / "reports").glob("[01]-*.json")
        for outcome in json.loads(file.read_text())["outcomes"]
        if outcome["patch"] in ("mmcv.stream", "mmcv.ddp", "mmcv.ddp_forward")
    ]
    assert {
        (o["patch"], o["status"]) for o in outcomes if o["trigger"] == "mmcv.parallel.distributed"
    } >= {
        ("mmcv.ddp", "APPLIED"),
        ("mmcv.ddp_forward", "APPLIED"),
    }

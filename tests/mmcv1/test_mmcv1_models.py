"""Architectures of mmdet 2.28, and a segmentor of mmseg 0.30, on the CPU and on the soft NPU."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import environment, python

HERE = Path(__file__).resolve().parent


def run(folder: Path, device: str, script: str, *arguments: str) -> Any:
    folder.mkdir(exist_ok=True)
    env = environment(active=True, OMP_NUM_THREADS="1", MX_AUTOPATCH_DEVICE=device)
    return python(HERE / script, *arguments, cwd=folder, env=env, warnings=False, timeout=240)


def last(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout.splitlines()[-1])


def segmented(folder: Path, device: str) -> Any:
    """What it was trained on, and the rows of the log."""
    where = last(run(folder, device, "segment_small.py"))["device"]
    lines = map(json.loads, (folder / "work" / "t.log.json").read_text().splitlines())
    return where, [line for line in lines if "mode" in line]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Any]]]:
    """All at once: most of their time is imports."""
    folder = tmp_path_factory.mktemp("models")
    with ThreadPoolExecutor(2) as pool:
        yield {
            "detectors, cpu": pool.submit(run, folder, "cpu", "detectors_small.py", "cpu"),
            "detectors, soft": pool.submit(run, folder, "soft", "detectors_small.py", "npu"),
            "segmentor, cpu": pool.submit(segmented, folder / "cpu", "cpu"),
            "segmentor, soft": pool.submit(segmented, folder / "soft", "soft"),
        }


def test_detectors_have_the_same_numbers_on_both(runs: dict[str, Future[Any]]) -> None:
    cpu, soft = (last(runs[f"detectors, {device}"].result()) for device in ("cpu", "soft"))
    assert len(cpu) == 6
    for name, (loss, gradients, classes) in cpu.items():
        assert loss > 0
        assert classes == 80
        assert soft[name] == pytest.approx([loss, gradients, classes], rel=1e-5), name


@pytest.mark.parametrize("device", ["cpu", "soft"])
def test_a_segmentor_trains(device: str, runs: dict[str, Future[Any]]) -> None:
    where, rows = runs[f"segmentor, {device}"].result()
    assert where == ("cpu" if device == "cpu" else "npu")
    losses = [row["loss"] for row in rows if row["mode"] == "train"]
    assert len(losses) == 4
    assert losses == sorted(losses, reverse=True)
    assert [row["mIoU"] > 0.4 for row in rows if row["mode"] == "val"] == [True] * 2

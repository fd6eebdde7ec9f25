"""The Patcher API 1.0, which was written for mmcv 1.x, on the training of a detector of mmdet 2.x.

One process: what each block takes back is what the next one begins with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, environment, python, write_files

PATCH = """
    from mx_driving.patcher import Patch, PatcherBuilder, default_patcher_builder
    from mx_driving.patcher import batch_matmul, ddp, index, numpy_type, optimizer_hooks, stream
    from mx_driving.patcher import resnet_add_relu, resnet_maxpool

    calls = []

    def mmcv_optimizer(hooks, options):
        original = hooks.OptimizerHook

        @hooks.HOOKS.register_module(force=True, name="OptimizerHook")
        class Counted(original):
            def after_train_iter(self, runner):
                calls.append("hook")
                super().after_train_iter(runner)

    def halve(mmdet, options):
        original = mmdet.models.losses.focal_loss.FocalLoss.forward

        def forward(self, *args, **kwargs):
            return options["by"] * original(self, *args, **kwargs)

        mmdet.models.losses.focal_loss.FocalLoss.forward = forward

    def builder():
        return (
            PatcherBuilder()
            .add_module_patch("torch", Patch(index), Patch(batch_matmul))
            .add_module_patch("numpy", Patch(numpy_type))
            .add_module_patch("mmcv", Patch(ddp), Patch(stream))
            .add_module_patch("mmdet", Patch(resnet_add_relu), Patch(resnet_maxpool))
            .add_module_patch("mmcv.runner.hooks.optimizer", Patch(mmcv_optimizer))
            .add_module_patch("mmdet", Patch(halve, {"by": 0.5}))
        )
"""

TRAIN = """
    import glob, json, os, sys

    import shapes
    import train_detector_mmcv1 as example
    from mmcv.runner import HOOKS
    from mx_driving.patcher import Patch, default_patcher_builder
    from patch import builder, calls, mmcv_optimizer

    config, *options = sys.argv[1:]

    def main(name):
        sys.argv[1:] = [config, "--work-dir", name, "--no-validate", "--cfg-options", *options]
        example.main()
        (log,) = glob.glob(name + "/*.log.json")
        lines = map(json.loads, open(log))
        return [line["loss"] for line in lines if line.get("mode") == "train"]

    if __name__ == "__main__":
        shapes.generate("data/shapes", train=4, val=1, size=64)
        original = HOOKS.get("OptimizerHook")
        result = {"plain": main("plain")}
        with default_patcher_builder.build() as patcher:
            result["default"] = main("default")
        with builder().build():
            result["custom"] = main("custom")
        result["calls"] = list(calls)
        calls.clear()
        mixed = default_patcher_builder.add_module_patch(
            "mmcv.runner.hooks.optimizer", Patch(mmcv_optimizer)
        )
        with mixed.build():
            result["mixed"] = main("mixed")
        result["mixed calls"] = list(calls)
        calls.clear()
        result["plain again"] = main("again")
        result["left over"] = [len(calls), HOOKS.get("OptimizerHook") is original]
        try:
            with builder().brake_at(1).build():
                main("brake")
        except SystemExit as ended:
            result["brake"] = [ended.code, len(calls)]
        print(json.dumps(result))
"""

SMALL = (
    *("image_size=64", "data.workers_per_gpu=0", "data.samples_per_gpu=2", "runner.max_epochs=1"),
    *("data.train_dataloader.persistent_workers=False", "log_config.interval=1"),
    *("lr_config.warmup_iters=2", "checkpoint_config.interval=9"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    folder: Path = tmp_path_factory.mktemp("patcher")
    write_files(folder, {"patch.py": PATCH, "train.py": TRAIN})
    env = environment([folder, ROOT / "examples"], active=True, OMP_NUM_THREADS="1")
    env["MX_AUTOPATCH_DEVICE"] = "cpu"
    config = ROOT / "examples" / "configs" / "mmcv1" / "retinanet_r18_shapes.py"
    done = python("train.py", config, *SMALL, cwd=folder, env=env, timeout=280, warnings=False)
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_the_styles_train_and_are_taken_back(run: tuple[dict[str, Any], str]) -> None:
    result, _ = run
    plain = result["plain"]
    assert len(plain) == 2
    assert result["default"] == pytest.approx(plain, rel=1e-4)
    assert result["mixed"] == pytest.approx(plain, rel=1e-4)
    assert result["plain again"] == plain
    assert result["custom"][0] < 0.9 * plain[0]
    assert result["calls"] == result["mixed calls"] == ["hook"] * 2
    assert result["left over"] == [0, True]


def test_a_brake_ends_the_run_after_the_step(run: tuple[dict[str, Any], str]) -> None:
    assert run[0]["brake"] == [0, 1]


def test_what_was_said(run: tuple[dict[str, Any], str]) -> None:
    said = [line for line in run[1].splitlines() if line.startswith("[Patcher]")]
    assert not [line for line in said if "Failed" in line]
    line = "INFO: Applied patch mmcv_optimizer to module mmcv.runner.hooks.optimizer ("
    assert any(line in text for text in said)

"""The styles of the Patcher API's documentation on the training of a detector of mmdet.

One process: what each block takes back is what the next one begins with. The detector and
its data are those of ``examples``, made smaller still.
"""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest
from helpers import HAS_TORCH_NPU, ROOT, environment, python, write_files

if importlib.util.find_spec("mmdet") is None:
    pytest.skip("mmdet is not installed", allow_module_level=True)

PATCH = """
    # The API 1.0, as its documentation has it: functions, a builder of one's own, a mixed one.
    import os
    from types import ModuleType
    from typing import Dict

    from mx_driving.patcher import Patch, Patcher, PatcherBuilder, default_patcher_builder
    from mx_driving.patcher.mmcv_patch import dc, mdc, msda, patch_mmcv_version
    from mx_driving.patcher.mmdet_patch import pseudo_sampler, resnet_add_relu, resnet_maxpool
    from mx_driving.patcher.mmengine_patch import ddp, optimizer_wrapper, stream
    from mx_driving.patcher.numpy_patch import numpy_type
    from mx_driving.patcher.torch_patch import batch_matmul, index

    calls = []

    def count_targets(mmdet: ModuleType, options: Dict):
        if hasattr(mmdet.models.dense_heads.anchor_head, "AnchorHead"):
            original = mmdet.models.dense_heads.anchor_head.AnchorHead.get_targets

            def get_targets(self, *args, **kwargs):
                calls.append(options["name"])
                return original(self, *args, **kwargs)

            mmdet.models.dense_heads.anchor_head.AnchorHead.get_targets = get_targets
        else:
            raise AttributeError("mmdet.models.dense_heads.anchor_head.AnchorHead not found")

    def halve_focal_loss(losses: ModuleType, options: Dict):
        original = losses.FocalLoss.forward
        losses.FocalLoss.forward = lambda self, *a, **k: options["by"] * original(self, *a, **k)

    def mark_in_workers(transforms: ModuleType, options: Dict):
        original = transforms.PackDetInputs.transform

        def transform(self, results):
            with open(os.path.join(options["folder"], str(os.getpid())), "w"):
                pass
            return original(self, results)

        transforms.PackDetInputs.transform = transform

    def not_there(mmdet: ModuleType, options: Dict):
        raise AttributeError("mmdet.gpu_affine_func not found")

    custom = (
        PatcherBuilder()
        .add_module_patch("mmcv", Patch(msda), Patch(dc), Patch(mdc), Patch(stream), Patch(ddp))
        .add_module_patch("torch", Patch(index), Patch(batch_matmul))
        .add_module_patch("numpy", Patch(numpy_type))
        .add_module_patch("mmdet", Patch(pseudo_sampler), Patch(resnet_add_relu))
        .add_module_patch("mmdet", Patch(resnet_maxpool), Patch(not_there))
        .add_module_patch("mmdet", Patch(count_targets, {"name": "custom"}))
        .add_module_patch("mmdet.models.losses.focal_loss", Patch(halve_focal_loss, {"by": 0.5}))
        .add_module_patch(
            "mmdet.datasets.transforms.formatting", Patch(mark_in_workers, {"folder": "marks"})
        )
    )

    def mixed():
        return default_patcher_builder.add_module_patch(
            "mmdet", Patch(count_targets, {"name": "mixed"})
        )
"""

CONFIGURE = """
    # The API 2.0: groups of targets, added to the default patcher.
    from mx_driving.patcher import (
        AtomicPatch, Patch, Patcher, RegistryPatch, default_patcher, mmcv_version
    )
    from mx_driving.patcher.patch import with_imports

    seen = []

    class Focal(Patch):
        name = "project_focal"

        @classmethod
        def patches(cls, options=None):
            return [
                AtomicPatch(
                    "mmdet.models.losses.focal_loss.FocalLoss.forward",
                    target_wrapper=cls._wrap,
                    aliases=["mmdet.models.losses.FocalLoss.forward"],
                    precheck=lambda: mmcv_version.is_v2x,
                ),
                AtomicPatch(
                    "mmdet.models.utils.misc.multi_apply",
                    cls._multi_apply,
                    runtime_check=cls._is_of_a_head,
                ),
            ]

        @staticmethod
        def _wrap(original):
            def forward(self, *args, **kwargs):
                seen.append("focal")
                return original(self, *args, **kwargs)
            return forward

        @staticmethod
        def _is_of_a_head(func, *args, **kwargs):
            return func.__name__ == "loss_by_feat_single"

        @staticmethod
        @with_imports(("functools", "partial"))
        def _multi_apply(func, *args, **kwargs):
            seen.append("multi_apply")
            pfunc = partial(func, **kwargs) if kwargs else func
            return tuple(map(list, zip(*map(pfunc, *args))))

    def configure_patcher(patcher):
        patcher.skip_import("a_cuda_library")
        return patcher.add(
            Focal, RegistryPatch("mmdet.registry.HOOKS", name="Noted", module_factory=make_hook)
        )

    def make_hook():
        from mmengine.hooks import Hook

        class Noted(Hook):
            def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
                seen.append("hook")

        return Noted
"""

TRAIN = """
    import sys

    if __name__ == "__main__":  # 2.0: first of all
        from mx_driving.patcher import default_patcher
        from configure import configure_patcher, seen

        configure_patcher(default_patcher)
        default_patcher.apply()
        assert not {"torch", "mmdet"} & set(sys.modules)

    import json
    import os

    import shapes
    import torch
    from mmdet.models.dense_heads import anchor_head
    from mmdet.models.losses import focal_loss
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    torch.set_num_threads(1)

    def main(hooks=(), workers=0):
        cfg = Config.fromfile(sys.argv[1])
        cfg.randomness = {"seed": 0, "deterministic": True}
        cfg.work_dir = "work"
        cfg.custom_hooks = list(hooks)
        cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=2, val_interval=10)
        cfg.param_scheduler = []
        cfg.default_hooks.checkpoint = None
        cfg.default_hooks.logger = None
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
        cfg.train_dataloader.batch_size = 2
        cfg.train_dataloader.num_workers = workers
        cfg.train_dataloader.persistent_workers = bool(workers)
        cfg.env_cfg.mp_cfg.mp_start_method = "spawn"
        cfg.train_dataloader.dataset.pipeline[2].scale = (64, 64)
        losses = []
        runner = Runner.from_cfg(cfg)

        class Losses(Hook):
            def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
                losses.append(float(outputs["loss"]))
        runner.register_hook(Losses())
        runner.train()
        return losses

    def places():
        return (
            anchor_head.AnchorHead.__dict__["get_targets"],
            focal_loss.FocalLoss.__dict__["forward"],
            torch.Tensor.__getitem__,
            torch.matmul,
        )

    if __name__ == "__main__":
        import a_cuda_library
        register_all_modules(init_default_scope=False)
        shapes.generate("data/shapes", train=4, val=1, size=64)
        os.mkdir("marks")
        result = {}
        result["two"] = main(hooks=[dict(type="Noted")])
        result["seen"] = {name: seen.count(name) for name in seen}
        default_patcher.revert()
        seen.clear()
        from mmdet.registry import HOOKS
        result["registered"] = "Noted" in HOOKS.module_dict
        originals = places()
        result["plain"] = main()

        from mx_driving.patcher import default_patcher_builder
        with default_patcher_builder.build() as patcher:
            result["default"] = main()

        import patch
        with patch.custom.build():
            result["custom"] = main(workers=1)
        result["marks"] = [str(os.getpid()) in os.listdir("marks"), len(os.listdir("marks"))]
        result["calls"] = list(patch.calls)

        patch.calls.clear()
        with patch.mixed().build() as patcher:
            patcher.apply().apply()
            result["mixed"] = main()
        result["mixed calls"] = list(patch.calls)
        result["plain again"] = main()
        result["left over"] = [len(patch.calls), len(seen)]
        try:
            steps = dict(skip_first=0, wait=0, warmup=0)
            builder = patch.PatcherBuilder().with_profiling("traces", 1, **steps).brake_at(1)
            with builder.build():
                main()
        except SystemExit as ended:
            result["brake"] = [ended.code, [f for _, _, fs in os.walk("traces") for f in fs]]
        result["identical"] = [was is is_ for was, is_ in zip(originals, places())]
        print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("training")
    write_files(folder, {"patch.py": PATCH, "configure.py": CONFIGURE, "train.py": TRAIN})
    env = environment([folder, ROOT / "examples"], active=True, OMP_NUM_THREADS="1")
    config = ROOT / "examples" / "configs" / "retinanet_r18_shapes.py"
    done = python("train.py", config, cwd=folder, env=env, timeout=280, warnings=False)
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_the_styles_train_and_change_nothing_but_what_they_say(run: Any) -> None:
    result, _ = run
    plain = result["plain"]
    assert len(plain) == 2
    assert result["two"] == pytest.approx(plain, rel=1e-5)
    assert result["default"] == pytest.approx(plain, rel=1e-5)
    assert result["mixed"] == pytest.approx(plain, rel=1e-5)
    assert result["plain again"] == plain
    assert result["custom"][0] < 0.9 * plain[0]  # half of the focal loss


def test_the_custom_patches_were_in_force_and_are_not_any_more(run: Any) -> None:
    result, _ = run
    assert result["calls"] == ["custom"] * 2
    assert result["mixed calls"] == ["mixed"] * 2
    assert result["seen"] == {"focal": 10, "multi_apply": 2, "hook": 2}
    assert result["left over"] == [2, 0]  # those two of the mixed one, and no later ones
    assert result["registered"] is False
    assert result["identical"] == [True] * 4


def test_a_spawned_worker_had_the_custom_patch_too(run: Any) -> None:
    in_this_process, processes = run[0]["marks"]
    assert (in_this_process, processes) == (False, 1)


def test_a_profile_is_written_and_the_brake_ends_the_run(run: Any) -> None:
    status, files = run[0]["brake"]
    assert status == 0
    assert [file for file in files if "trace" in file]


def test_what_was_said(run: Any) -> None:
    _, stderr = run
    said = [line for line in stderr.splitlines() if line.startswith("[Patcher]")]
    failed = {line for line in said if "Failed" in line}  # in the spawned worker as well
    assert failed == {
        "[Patcher] WARNING: Failed to apply patch not_there to module mmdet: target not found: "
        "mmdet.gpu_affine_func not found"
    }
    for patch, module in {
        "count_targets": "mmdet",
        "halve_focal_loss": "mmdet.models.losses.focal_loss",
        "project_focal": "mmdet.models.losses.focal_loss",
    }.items():
        assert any(f"INFO: Applied patch {patch} to module {module} (" in line for line in said)
    predefined = {line.split()[4] for line in said if "INFO: Applied patch" in line}
    assert ({"tensor_index", "batch_matmul"} <= predefined) is HAS_TORCH_NPU

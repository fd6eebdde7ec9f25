"""What the soft NPU costs: an iteration of RetinaNet beside the CPU's, and ``import torch``.

The model, the data and the optimizer are those of examples/train_detector.py: RetinaNet with
ResNet-18, batches of 4 pictures of 128 x 128, AdamW, clipped gradients. In one process two
copies with the same weights take one training step each, on the CPU and on ``npu:0``, in
random order: moving the batch, forward, backward, step, and the losses as numbers. One
thread, CPU time.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any, Callable

from _common import (
    HERE,
    Command,
    Options,
    Row,
    Target,
    run_together,
    run_workers,
    save,
    scratch,
    table,
)

EXAMPLES = HERE.parent / "examples"
CPU, NPU = "iteration, cpu", "iteration, npu:0 (soft)"

OFF = "torch.transfer_to_npu"
SOFT = {"MX_AUTOPATCH": "1", "MX_AUTOPATCH_DEVICE": "soft", "MX_AUTOPATCH_REPORT_LEVEL": "silent"}
BARE = {**SOFT, "MX_AUTOPATCH_PATCHES_DISABLE": OFF}
BY_HAND = "import torch, warnings; warnings.simplefilter('ignore')\n"
BY_HAND += "from torch_npu.contrib import transfer_to_npu"
ALONE, SOFT_ONLY, PATCHED = "torch alone", "+ torch_npu, soft NPU", "+ torch.transfer_to_npu"
IMPORTS: dict[str, tuple[str, Mapping[str, str]]] = {
    ALONE: ("import torch", {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}),
    "no CANN: torch.autoload_guard": ("import torch", {**SOFT, "MX_AUTOPATCH_DEVICE": "cpu"}),
    "+ torch_npu, no kernels": ("import torch", {**SOFT, "MX_AUTOPATCH_DEVICE": "contract"}),
    SOFT_ONLY: ("import torch", BARE),
    PATCHED: ("import torch", SOFT),
    "the same, by hand": (BY_HAND, BARE),
}


def fill(folder: Path) -> None:
    """Make the pictures."""
    sys.path.insert(0, str(EXAMPLES))
    import shapes

    shapes.generate(folder / "data" / "shapes", train=32, val=1)


def tasks(folder: Path) -> Mapping[str, Callable[[], float]]:
    """A function for each device that takes one step and returns how long it took."""
    from mx_autopatch import bootstrap

    settings = {"device": "soft", "report.level": "silent"}
    bootstrap.activate(overrides=settings, script=str(folder / "x.py"))
    import torch
    from mmdet.registry import DATASETS, MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.dataset import pseudo_collate
    from mmengine.optim import build_optim_wrapper
    from torch.utils.data import DataLoader

    register_all_modules()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cfg = Config.fromfile(EXAMPLES / "configs" / "retinanet_r18_shapes.py")
    dataset = dict(cfg.train_dataloader.dataset, data_root=str(folder / "data" / "shapes"))
    with contextlib.redirect_stdout(sys.stderr):  # pycocotools has things to say
        data = DATASETS.build(dataset)
    batches = list(DataLoader(data, batch_size=4, collate_fn=pseudo_collate))
    start = MODELS.build(cfg.model)
    start.init_weights()

    def stepping(device: str) -> Callable[[], float]:
        model = MODELS.build(cfg.model)
        model.load_state_dict(start.state_dict())
        model.to(device).train()
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
        source = cycle(batches)

        def step() -> float:
            batch = next(source)
            began = time.process_time()
            losses = model.train_step(batch, optimizer)
            losses["loss"].item()
            return time.process_time() - began

        return step

    return {CPU: stepping("cpu"), NPU: stepping("npu:0")}


def main() -> None:
    options = Options(__doc__, rounds=15, processes=3, pairs=5)
    args = options.parse()
    for name, extra in (("torch_npu", "npu"), ("mmdet", "openmmlab")):
        if find_spec(name) is None:
            raise SystemExit(f"not installed: {name}; pip install -e '.[{extra}]'")
    with scratch(args, fill) as folder:
        steps: Any = run_workers(args, partial(tasks, folder))
    if steps is None:
        return
    rows = [Row(CPU), Row(NPU, CPU, Target(2.0, CPU, is_ratio=True))]
    print(table("One iteration of RetinaNet-R18, CPU time of one thread", steps, rows))
    print()
    place = Path(tempfile.gettempdir())
    commands = {
        label: Command(sys.executable, code, env, place) for label, (code, env) in IMPORTS.items()
    }
    imports = run_together(commands, args.pairs)
    against = {PATCHED: SOFT_ONLY, "the same, by hand": SOFT_ONLY}
    rows = [Row(label, None if label == ALONE else against.get(label, ALONE)) for label in IMPORTS]
    print(table("CPU time of a process that imports torch", imports, rows))
    save(args.output, steps, imports)


if __name__ == "__main__":
    main()

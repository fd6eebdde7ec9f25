"""From the start of the interpreter to the first training step, with all default patches.

The script is examples/train_detector.py: RetinaNet with ResNet-18, stopped after its first
iteration by a hook. Without patches it does not run on mmcv-lite 2.2, mmdet 3.3 and a current
setuptools; so the process to compare with does by hand what lets it (see import_mmdet.py),
and has no finder. CPU time of the whole process, one thread, no DataLoader workers.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from _common import HERE, Command, Options, Row, Target, run_together, save, scratch, table
from import_mmdet import BY_HAND

EXAMPLES = HERE.parent / "examples"
SCRIPT = EXAMPLES / "train_detector.py"

#: The versions above want this, too.
BY_HAND_TOO = """\
from mx_autopatch.provided import pkg_resources
sys.modules["pkg_resources"] = pkg_resources
"""

FIRST_STEP = f"""\
import os, sys
sys.path.insert(0, {str(EXAMPLES)!r})
import torch
torch.set_num_threads(1)
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Stop(Hook):
    def after_train_iter(self, runner, *args, **kwargs):
        os._exit(0)

options = "default_hooks.stop.type=Stop"
options += " train_dataloader.num_workers=0 train_dataloader.persistent_workers=False"
options += " val_dataloader.num_workers=0 val_dataloader.persistent_workers=False"
sys.argv = [{str(SCRIPT)!r}, "--cfg-options", *options.split()]
import train_detector
train_detector.main()
raise SystemExit("no step was taken")
"""

ON = {"MX_AUTOPATCH": "1", "MX_AUTOPATCH_REPORT_LEVEL": "silent"}


def fill(folder: Path) -> None:
    """Make the pictures."""
    sys.path.insert(0, str(EXAMPLES))
    import shapes

    shapes.generate(folder / "data" / "shapes", train=8, val=1)


def main() -> None:
    options = Options(__doc__, pairs=5)
    args = options.parse()
    missing = [name for name in ("torch", "mmcv", "mmdet") if find_spec(name) is None]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}; pip install -e '.[openmmlab]'")
    by_hand, ours = "by hand, no finder", "all default patches"
    with scratch(args, fill) as folder:
        # Absent in both: torch_npu, where it is installed, would be loaded by torch.
        alone = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
        values = run_together(
            {
                by_hand: Command(sys.executable, BY_HAND + BY_HAND_TOO + FIRST_STEP, alone, folder),
                ours: Command(sys.executable, FIRST_STEP, {**alone, **ON}, folder),
            },
            args.pairs,
        )
    rows = [Row(by_hand), Row(ours, by_hand, Target(1.05, by_hand, is_ratio=True))]
    print(table("CPU time to the end of the first training step", values, rows))
    save(args.output, values)


if __name__ == "__main__":
    main()

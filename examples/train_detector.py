"""Train an mmdet detector on a small data set of coloured shapes.

    python examples/train_detector.py [CONFIG] [--work-dir DIR] [--cfg-options KEY=VALUE ...]

The data set is made on the first run, in the folder ``data/shapes`` of the working folder.
"""

import argparse
import os

import shapes
from mmdet.utils import register_all_modules
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

HERE = os.path.dirname(os.path.abspath(__file__))


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train a detector on coloured shapes")
    parser.add_argument(
        "config",
        nargs="?",
        default=os.path.join(HERE, "configs", "retinanet_r18_shapes.py"),
        help="the config file (default: RetinaNet-R18)",
    )
    parser.add_argument(
        "--work-dir", help="folder for logs and checkpoints (default: work_dirs/<config>)"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="go on from this checkpoint, or from the newest one in the work folder",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        help="settings that override the config's, as key=value",
    )
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    # Given by torch.distributed.launch; torchrun sets the environment variable itself.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def main():
    """Make the data if it is not there, then train and evaluate."""
    args = parse_args()
    register_all_modules(init_default_scope=False)

    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    cfg.randomness = {"seed": args.seed}
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get("work_dir") is None:
        name = os.path.splitext(os.path.basename(args.config))[0]
        cfg.work_dir = os.path.join("work_dirs", name)
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == "auto" else args.resume

    if not os.path.exists(cfg.shapes.data.root):
        shapes.generate(**cfg.shapes.data)

    runner = Runner.from_cfg(cfg)
    runner.train()


if __name__ == "__main__":
    main()

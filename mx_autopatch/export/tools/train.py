"""Train the exported model: python tools/train.py [CONFIG] [--work-dir DIR] ..."""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import pack  # noqa: E402, F401  registers its models
from mmengine.config import Config, DictAction  # noqa: E402
from mmengine.runner import Runner  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train the exported model")
    configs = sorted(p for p in (ROOT / "pack" / "configs").glob("*.py") if p.stem != "__init__")
    parser.add_argument("config", nargs="?", default=str(configs[0]), help="default: %(default)s")
    parser.add_argument("--work-dir", help="folder for logs and checkpoints")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument(
        "--resume", nargs="?", const="auto", help="go on from this checkpoint, or the newest one"
    )
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="key=value ...")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def main() -> None:
    """Train as the config says."""
    args = parse_args()
    config = Config.fromfile(args.config)
    config.launcher = args.launcher
    if args.cfg_options is not None:
        config.merge_from_dict(args.cfg_options)
    config.work_dir = (
        args.work_dir or config.get("work_dir") or f"work_dirs/{Path(args.config).stem}"
    )
    if args.amp:
        config.optim_wrapper.type = "AmpOptimWrapper"
        config.optim_wrapper.loss_scale = "dynamic"
    if args.resume is not None:
        config.resume = True
        config.load_from = None if args.resume == "auto" else args.resume
    Runner.from_cfg(config).train()


if __name__ == "__main__":
    main()

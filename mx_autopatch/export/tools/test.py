"""Evaluate the exported model: python tools/test.py CHECKPOINT [CONFIG] ..."""

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
    parser = argparse.ArgumentParser(description="Evaluate the exported model")
    configs = sorted(p for p in (ROOT / "pack" / "configs").glob("*.py") if p.stem != "__init__")
    parser.add_argument("checkpoint")
    parser.add_argument("config", nargs="?", default=str(configs[0]), help="default: %(default)s")
    parser.add_argument("--work-dir", help="folder for logs and results")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="key=value ...")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def main() -> None:
    """Evaluate as the config says."""
    args = parse_args()
    config = Config.fromfile(args.config)
    config.launcher = args.launcher
    if args.cfg_options is not None:
        config.merge_from_dict(args.cfg_options)
    config.work_dir = (
        args.work_dir or config.get("work_dir") or f"work_dirs/{Path(args.config).stem}"
    )
    config.load_from = args.checkpoint
    Runner.from_cfg(config).test()


if __name__ == "__main__":
    main()

"""Train a detector of mmdet 2.x, on mmcv 1.x, on a small data set of coloured shapes.

    python examples/train_detector_mmcv1.py [CONFIG] [--work-dir DIR] [--cfg-options KEY=VALUE ...]

The data set is made on the first run, in the folder ``data/shapes`` of the working folder.
"""

import argparse
import os
import os.path as osp
import time

import mmcv
import shapes
from mmcv import Config, DictAction
from mmcv.runner import get_dist_info, init_dist
from mmdet import __version__
from mmdet.apis import init_random_seed, set_random_seed, train_detector
from mmdet.datasets import build_dataset
from mmdet.models import build_detector
from mmdet.utils import collect_env, get_device, get_root_logger, setup_multi_processes

HERE = osp.dirname(osp.abspath(__file__))


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train a detector on coloured shapes")
    parser.add_argument(
        "config",
        nargs="?",
        default=osp.join(HERE, "configs", "mmcv1", "retinanet_r18_shapes.py"),
        help="the config file (default: RetinaNet-R18)",
    )
    parser.add_argument(
        "--work-dir", help="folder for logs and checkpoints (default: work_dirs/mmcv1/<config>)"
    )
    parser.add_argument("--resume-from", help="go on from this checkpoint")
    parser.add_argument("--no-validate", action="store_true", help="do not evaluate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        help="settings that override the config's, as key=value",
    )
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local_rank", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def main():
    """Make the data if it is not there, then train and evaluate."""
    args = parse_args()
    cfg = Config.fromfile(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    setup_multi_processes(cfg)
    name = osp.splitext(osp.basename(args.config))[0]
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or osp.join("work_dirs", "mmcv1", name)
    if args.resume_from is not None:
        cfg.resume_from = args.resume_from
    if not osp.exists(cfg.shapes.root):
        shapes.generate(**cfg.shapes)

    # First of all, since the logger writes in one process alone.
    distributed = args.launcher != "none"
    cfg.gpu_ids = [0]
    if distributed:
        init_dist(args.launcher, **cfg.dist_params)
        cfg.gpu_ids = range(get_dist_info()[1])

    mmcv.mkdir_or_exist(osp.abspath(cfg.work_dir))
    cfg.dump(osp.join(cfg.work_dir, osp.basename(args.config)))
    timestamp = time.strftime("%Y%m%d_%H%M%S", time.localtime())
    logger = get_root_logger(
        log_file=osp.join(cfg.work_dir, f"{timestamp}.log"), log_level=cfg.log_level
    )
    environment = "\n".join(f"{key}: {value}" for key, value in collect_env().items())
    logger.info("Environment:\n%s", environment)
    logger.info("Config:\n%s", cfg.pretty_text)

    cfg.device = get_device()
    cfg.seed = init_random_seed(args.seed, device=cfg.device)
    set_random_seed(cfg.seed)

    model = build_detector(cfg.model)
    model.init_weights()
    dataset = build_dataset(cfg.data.train)
    model.CLASSES = dataset.CLASSES
    cfg.checkpoint_config.meta = {"mmdet_version": __version__, "CLASSES": dataset.CLASSES}
    train_detector(
        model,
        [dataset],
        cfg,
        distributed=distributed,
        validate=not args.no_validate,
        timestamp=timestamp,
        meta={"env_info": environment, "config": cfg.pretty_text, "seed": cfg.seed},
    )


if __name__ == "__main__":
    main()

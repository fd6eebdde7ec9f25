"""Rehearse the two training scripts of this folder on an NPU that is not there.

    python examples/demo_npu.py [--short]

1. ``train_detector.py`` on the CPU and on ``npu:0`` of the soft device, from the same
   weights and with the same data: the losses side by side, and an exit status of 1 if one
   of the first ten differs by more than 1e-4.
2. ``train_cuda.py``, two processes on two NPUs, then once more from its checkpoint: an exit
   status of 1 if the loss does not fall.

The scripts know nothing of this one, nor of mx_autopatch. They run in the folder
``work_dirs/demo_npu`` of the working folder.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "configs" / "retinanet_r18_shapes.py"
TOLERANCE = 1e-4
COMPARED = 10  # iterations
# Sums in the same order in both runs, and no threads that wait for one another.
ENVIRONMENT = {**os.environ, "MX_AUTOPATCH": "1", "OMP_NUM_THREADS": "1"}


def parse_args():
    parser = argparse.ArgumentParser(description="Rehearse the examples on the soft NPU")
    parser.add_argument("--short", action="store_true", help="ten iterations, and two epochs")
    parser.add_argument("--work-dir", default=Path("work_dirs", "demo_npu"), type=Path)
    parser.add_argument("--make-weights", metavar="FILE", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_weights(file):
    """Write weights for both runs: random numbers are the device's own, on any device."""
    import torch
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(CONFIG).model)
    model.init_weights()
    torch.save({"state_dict": model.state_dict()}, file)


def start(folder, log, *arguments, **environment):
    """Start Python with these arguments, its output going to a file."""
    with open(folder / log, "w", encoding="utf-8") as file:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=folder,
            env={**ENVIRONMENT, **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def finish(process, folder, log):
    """Wait for it; the output, of which the end is shown if it failed."""
    status = process.wait()
    text = (folder / log).read_text(encoding="utf-8")
    if status:
        lines = text.splitlines()[-40:]
        raise SystemExit("\n".join([*lines, f"{folder / log}: exit status {status}"]))
    return text


def train_detector(folder, images):
    """Losses of the detector, by iteration, on the CPU and on the soft NPU."""
    weights, script = folder / "weights.pth", HERE / "train_detector.py"
    making = start(folder, "weights.log", "-m", "mx_autopatch", __file__, "--make-weights", weights,
                   MX_AUTOPATCH_DEVICE="cpu")  # fmt: skip
    data = start(folder, "data.log", HERE / "shapes.py", "data/shapes", "--train", images,
                 "--val", 8)  # fmt: skip
    finish(data, folder, "data.log")
    finish(making, folder, "weights.log")
    options = [
        f"load_from={weights}",
        *("train_cfg.max_epochs=1", "default_hooks.logger.interval=1"),
        "log_processor.window_size=1",
    ]
    runs = {}
    for device in ("cpu", "soft"):
        command = ["-m", "mx_autopatch", "--device", device, script, "--work-dir", device]
        runs[device] = start(folder, f"{device}.log", *command, "--cfg-options", *options)
    losses = {}
    for device, run in runs.items():
        finish(run, folder, f"{device}.log")
        (scalars,) = (folder / device).glob("*/vis_data/scalars.json")
        rows = map(json.loads, scalars.read_text().splitlines())
        losses[device] = {row["step"]: row["loss"] for row in rows if "loss" in row}
    return losses["cpu"], losses["soft"]


def compare(cpu, soft):
    """Print both, and return whether the first ones agree."""
    assert cpu.keys() == soft.keys()
    assert len(cpu) >= COMPARED
    print(f"{'iteration':>9}  {'loss, CPU':>12}  {'loss, npu:0':>12}  relative difference")
    agree = True
    for step in sorted(cpu):
        difference = abs(soft[step] - cpu[step]) / abs(cpu[step])
        is_compared = step <= COMPARED
        if is_compared or step % 10 == 0:
            agree &= not is_compared or difference <= TOLERANCE
            print(f"{step:9}  {cpu[step]:12.7f}  {soft[step]:12.7f}  {difference:.1e}")
    print(f"first {COMPARED} within {TOLERANCE:g}: {'yes' if agree else 'NO'}\n", flush=True)
    return agree


def train_cuda(folder, epochs):
    """Train with two processes, then from the checkpoint; return whether the loss falls."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    script = ["-m", "mx_autopatch", "--device", "soft", HERE / "train_cuda.py"]
    text = ""
    for last, resume in ((epochs, []), (epochs + 1, ["--resume", "work_dirs/train_cuda/last.pth"])):
        log = f"train_cuda_{last}.log"
        command = [*launch, *script, "--epochs", last, *resume]
        # torchrun itself needs no device; its processes say theirs.
        text += finish(start(folder, log, *command, MX_AUTOPATCH_DEVICE="cpu"), folder, log)
    lines = re.findall(r"^epoch .*", text, re.MULTILINE)
    print("\n".join(lines))
    losses = [float(re.search(r"loss ([\d.]+)", line)[1]) for line in lines]
    assert len(losses) == epochs + 1
    falls = losses == sorted(losses, reverse=True) and losses[-1] < 0.95 * losses[0]
    print(f"two processes on two NPUs, the last epoch from a checkpoint: "
          f"{'the loss falls' if falls else 'the loss does NOT fall'}")  # fmt: skip
    return falls


def main():
    args = parse_args()
    if args.make_weights:
        make_weights(args.make_weights)
        return 0
    folder = args.work_dir.resolve()
    if folder.exists():
        raise SystemExit(f"{folder} exists already: remove it, or give another --work-dir")
    folder.mkdir(parents=True)
    print("RetinaNet with ResNet-18 on the CPU and on the soft NPU ...", flush=True)
    agree = compare(*train_detector(folder, images=40 if args.short else 240))
    print("A classifier written for CUDA, DistributedDataParallel over nccl ...", flush=True)
    falls = train_cuda(folder, epochs=1 if args.short else 3)
    return 0 if agree and falls else 1


if __name__ == "__main__":
    sys.exit(main())

"""What recording adds to a training step on the soft NPU: mmdet's RetinaNet-R18.

    .venv-npu/bin/python -m mx_autopatch --device soft benchmarks/rehearse.py [--steps N]

Both kinds of step take turns in one process, and the time is that of the processor, so that
what else the machine does hits neither, or both.
Printed are the medians, the median of the quotients of neighbours, and how many operators a
step calls.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData

from mx_autopatch.softnpu.recorder import Recorder

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = os.path.join(HERE, os.pardir, "examples", "configs", "retinanet_r18_shapes.py")


def batch(images: int, size: int) -> dict[str, Any]:
    """Images with two objects each."""
    samples = []
    for _ in range(images):
        sample = DetDataSample(metainfo={"img_shape": (size, size), "pad_shape": (size, size)})
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[8.0, 8.0, 60.0, 60.0], [30.0, 20.0, 100.0, 90.0]]),
            labels=torch.tensor([0, 2]),
        )
        samples.append(sample)
    inputs = [torch.randint(0, 255, (3, size, size), dtype=torch.uint8) for _ in range(images)]
    return {"inputs": inputs, "data_samples": samples}


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of a rehearsal's recorder")
    parser.add_argument("--steps", type=int, default=20, help="of each kind (default: 20)")
    options = parser.parse_args()
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(CONFIG).model).to("npu").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    data = batch(4, 128)

    def step() -> float:
        start = time.process_time()
        losses = model(**model.data_preprocessor(data, True), mode="loss")
        loss, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return time.process_time() - start

    recorder = Recorder([HERE])
    for _ in range(3):
        step()
    plain, recorded = [], []
    for _ in range(options.steps):
        plain.append(step())
        with recorder.attached():
            recorded.append(step())
    calls = sum(recorder.operators().values()) // options.steps
    ratio = statistics.median(r / p for p, r in zip(plain, recorded))
    print(f"a step without recording  {statistics.median(plain) * 1000:7.1f} ms")
    print(f"a step with recording     {statistics.median(recorded) * 1000:7.1f} ms")
    print(f"recorded / plain          {ratio:7.3f}")
    print(f"operators in a step       {calls:7d}")


if __name__ == "__main__":
    main()

"""Pseudo samplers and the losses behind them, without mmdet.pseudo_sampler and with it.

Run by test_pseudo_sampler.py, and by tests/mmcv1/test_mmdet2_pseudo_sampler.py on mmdet 2.x.
Prints one JSON object. Devices are its arguments.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")  # what the libraries say about themselves

from mx_autopatch import bootstrap  # noqa: E402

NAME = "mmdet.pseudo_sampler"
DEVICES = sys.argv[1:]


def start(**patches: Any) -> None:
    settings = {f"patches.{key}": value for key, value in patches.items()}
    settings.update({"report.level": "silent", "device": "soft"})
    bootstrap.activate(overrides=settings, script=str(Path.cwd() / "x.py"))


start(disable=[NAME, *([] if "npu" in DEVICES else ["torch.*"])])
import mmdet  # noqa: E402
import torch  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

torch.set_num_threads(1)
OLD = mmdet.__version__ < "3"
tasks = import_module("mmdet.core.bbox" if OLD else "mmdet.models.task_modules")
samplers = import_module(
    "mmdet.core.bbox.samplers" if OLD else "mmdet.models.task_modules.samplers"
)
heads = import_module("mmdet.models.dense_heads")
FUNCTIONS = [(samplers.PseudoSampler, "sample"), (samplers.MaskPseudoSampler, "sample")]
if not OLD:
    samplers3d = import_module("mmdet3d.models.task_modules.samplers")
    FUNCTIONS += [(samplers3d.PseudoSampler, "sample"), (heads.DETRHead, "_get_targets_single")]
PRIORS, CLASSES = 40, 3


class Calls(TorchDispatchMode):
    """Counts the operators whose result has a length that the host has to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.nonzero.default, torch.ops.aten._unique2.default):
            self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def instances(**fields: Any) -> Any:
    return import_module("mmengine.structures").InstanceData(**fields)


def assigned(device: str, found: int, seed: int) -> tuple[Any, Any, Any]:
    """An assignment of ``found`` objects to priors, the priors, and the objects."""
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randint(-1, found + 1, (PRIORS,), generator=generator)
    labels = torch.randint(0, CLASSES, (found,), generator=generator)
    of_priors = torch.full((PRIORS,), -1)
    of_priors[indices > 0] = labels[indices[indices > 0] - 1]
    overlaps = torch.rand(PRIORS, generator=generator)
    result = tasks.AssignResult(
        found, indices.to(device), overlaps.to(device), of_priors.to(device)
    )
    boxes = [torch.rand(n, 4, generator=generator).to(device) for n in (PRIORS, found)]
    return result, *boxes


def sampled(device: str, found: int, seed: int) -> dict[str, Any]:
    result, priors, objects = assigned(device, found, seed)
    sampler = samplers.PseudoSampler()
    if OLD:
        given: tuple[Any, ...] = (priors, objects)
    else:
        given = instances(priors=priors), instances(bboxes=objects)
    sample = sampler.sample(result, *given)
    return {name: bits(value) for name, value in sorted(vars(sample).items())}


def sampled_by_others(device: str) -> list[Any]:
    """By the sampler of mmdet3d, and by the head of DETR in place."""
    result, priors, objects = assigned(device, 3, 6)
    given = instances(priors=priors), instances(bboxes_3d=objects)
    sample = samplers3d.PseudoSampler().sample(result, *given)
    found = [bits(value) for _, value in sorted(vars(sample).items())]
    generator = torch.Generator().manual_seed(7)
    scores = torch.randn(PRIORS, CLASSES + 1, generator=generator).to(device)
    objects = instances(bboxes=objects * 99, labels=torch.tensor([0, 2, 1], device=device))
    meta = {"img_shape": (128, 128)}
    return found + [bits(v) for v in DETR._get_targets_single(scores, priors, objects, meta)]


def sampled_masks(device: str) -> dict[str, Any]:
    result, _, _ = assigned(device, 3, 5)
    masks = [torch.arange(n * 16.0).reshape(n, 4, 4).to(device) for n in (PRIORS, 3)]
    sampler = samplers.MaskPseudoSampler()
    if not OLD:
        masks = [instances(masks=each) for each in masks]
    return {name: bits(v) for name, v in sorted(vars(sampler.sample(result, *masks)).items())}


def bits(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), list(value.shape), value.tolist()]
    return value if isinstance(value, (int, float, bool, type(None))) else ""


def trained(device: str) -> dict[str, Any]:
    """Losses and gradients of a RetinaHead, whose loss is divided by the count of positives."""
    torch.manual_seed(3)
    head = heads.RetinaHead(CLASSES, 8, stacked_convs=1, feat_channels=8, train_cfg=TRAIN)
    head.to(device)
    features = [torch.randn(2, 8, 128 // s, 128 // s).to(device) for s in (8, 16, 32, 64, 128)]
    objects = [torch.tensor([[9.0, 9, 70, 60], [40, 50, 90, 120]]), torch.zeros(0, 4)]
    labels = [torch.tensor([0, 2]), torch.zeros(0, dtype=torch.int64)]
    objects, labels = ([each.to(device) for each in some] for some in (objects, labels))
    metas = [{"img_shape": (128, 128, 3)[: 3 if OLD else 2], "pad_shape": (128, 128, 3)}] * 2
    predicted = head(features)
    if OLD:
        losses = head.loss(*predicted, objects, labels, metas)
    else:
        given = [instances(bboxes=b, labels=n) for b, n in zip(objects, labels)]
        losses = head.loss_by_feat(*predicted, given, metas)
    sum(sum(each) for each in losses.values()).backward()
    found = {name: [loss.item() for loss in each] for name, each in losses.items()}
    return {**found, **{name: p.grad.tolist() for name, p in head.named_parameters()}}


def _config(**values: Any) -> Any:
    module = import_module("mmcv" if OLD else "mmengine.config")
    return module.ConfigDict(values) if hasattr(module, "ConfigDict") else module.Config(values)


HUNGARIAN: dict[str, Any] = {
    "type": "HungarianAssigner",
    "match_costs": [{"type": "ClassificationCost"}, {"type": "BBoxL1Cost", "weight": 5.0}],
}
TRAIN = _config(
    assigner={
        "type": "MaxIoUAssigner",
        "pos_iou_thr": 0.5,
        "neg_iou_thr": 0.4,
        "min_pos_iou": 0,
        "ignore_iof_thr": -1,
    },
    allowed_border=-1,
    pos_weight=-1,
    debug=False,
)

if not OLD:
    # Once: it changes the dict that is the default of a parameter of its own.
    DETR = heads.DETRHead(CLASSES, 8, train_cfg=_config(assigner=HUNGARIAN))


def results() -> tuple[dict[str, Any], Counter[str]]:
    found: dict[str, Any] = {}
    with Calls() as calls:
        for device in DEVICES:
            for number, seed in ((3, 0), (0, 1), (1, 2), (7, 3)):
                found[f"{number} objects, {device}"] = sampled(device, number, seed)
            found[f"masks, {device}"] = sampled_masks(device)
            if not OLD:
                found[f"others, {device}"] = sampled_by_others(device)
    for device in DEVICES:
        found[f"head, {device}"] = trained(device)
    return found, calls.counts


def main() -> None:
    originals = [vars(cls)[name] for cls, name in FUNCTIONS]
    plain, before = results()
    bootstrap.deactivate()
    for _ in range(3):
        start(only=[NAME])
    patched, after = results()
    outcomes = bootstrap.report().of(NAME)
    bootstrap.deactivate()
    reverted = [vars(cls)[name] for cls, name in FUNCTIONS] == originals
    said = {
        "version": mmdet.__version__,
        "equal": {name: value == plain[name] for name, value in patched.items()},
        "positive": plain["3 objects, cpu"]["pos_inds"],
        "calls": [dict(before), dict(after)],
        "outcomes": {o.trigger: [str(o.status), o.reason] for o in outcomes},
        "reverted": reverted,
    }
    print(f"\n{json.dumps(said)}")


if __name__ == "__main__":
    main()

"""ResNets of several libraries, without our patches and with them; run by test_resnets.py.

Prints one JSON object. With ``npu`` as its argument the models are on the soft NPU as well, and
tests/softnpu/fake_mx_driving.py stands for mx_driving.
"""

from __future__ import annotations

import copy
import json
import sys
import types
import warnings
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any, Callable

warnings.simplefilter("ignore")  # what the libraries say about themselves

from mx_autopatch import bootstrap  # noqa: E402

ON_NPU = sys.argv[1:] == ["npu"]
PATCHES = ("mmdet.resnet_add_relu", "mmdet.resnet_maxpool")
HALF = "mmdet.resnet_fp16"


def start(**patches: Any) -> None:
    settings = {f"patches.{key}": value for key, value in patches.items()}
    settings.update({"report.level": "silent", "device": "soft"})
    bootstrap.activate(overrides=settings, script=str(Path.cwd() / "x.py"))


start(disable=[*PATCHES, *([] if ON_NPU else ["torch.*"])])
import own_resnets  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

torch.set_num_threads(1)
mmdet = import_module("mmdet.models.backbones")
mmseg = import_module("mmseg.models.backbones")
mmcv = import_module("mmcv.cnn.resnet")
# The lane "mmcv1" has no mmpretrain and no mmdet3d that go with it.
LATEST = import_module("mmdet").__version__ >= "3"
if LATEST:
    mmpretrain = import_module("mmpretrain.models.backbones")
    dla = import_module("mmdet3d.models.backbones.dla")
add_relu = import_module("mx_autopatch.patches.mmdet.resnet_add_relu")

CONTEXT = {
    "cfg": {"type": "ContextBlock", "ratio": 0.25},
    "stages": (False, True, True, True),
    "position": "after_conv3",
}
SMALL: dict[str, Any] = {"base_channels": 8, "stem_channels": 8}

#: Name -> what makes the model, and how often its blocks add and activate in a step.
MODELS: dict[str, tuple[Callable[[], Any], int]] = {
    "mmdet basic": (lambda: mmdet.ResNet(18, **SMALL), 8),
    "mmdet bottleneck": (lambda: mmdet.ResNet(50, **SMALL), 16),
    "mmdet checkpointed": (lambda: mmdet.ResNet(50, with_cp=True, **SMALL), 2 * 16),
    "mmdet plugins": (lambda: mmdet.ResNet(50, plugins=[CONTEXT], **SMALL), 16),
    "mmdet frozen": (
        lambda: mmdet.ResNet(18, frozen_stages=1, norm_eval=True, norm_cfg=NO_GRAD, **SMALL),
        8,
    ),
    "mmdet deep stem": (lambda: mmdet.ResNetV1d(depth=18, **SMALL), 8),
    "mmdet ResNeXt": (lambda: mmdet.ResNeXt(depth=50, groups=4, base_width=4, **SMALL), 16),
    "mmdet Res2Net": (lambda: mmdet.Res2Net(depth=50, scales=4, base_width=4, **SMALL), 16),
    "mmseg": (lambda: mmseg.ResNetV1c(depth=18, **SMALL), 8),
    "mmcv": (lambda: mmcv.ResNet(18), 8),
    "own": (lambda: own_resnets.Net(own_resnets.Flat), 4),
    "own, other sums": (lambda: own_resnets.Net(own_resnets.OutOfPlace), 0),
}
LATER: dict[str, tuple[Callable[[], Any], int]] = {
    "mmpretrain": (lambda: mmpretrain.ResNet(50, stem_channels=8, base_channels=8), 16),
    "mmpretrain leaky": (lambda: leaky(mmpretrain.ResNet(18, 3, 8, 8)), 0),
    "dla": (lambda: dla.DLANet(34, 3, norm_cfg={"type": "BN"}), 12),
}
if LATEST:
    MODELS.update(LATER)
NO_GRAD = {"type": "BN", "requires_grad": False}


def leaky(model: Any) -> Any:
    """Another activation is left alone, although the class matches."""
    for module in model.modules():
        if hasattr(module, "relu"):
            module.relu = torch.nn.LeakyReLU(0.1)
    return model


def run(model: Any, device: str, size: int = 64) -> dict[str, Tensor]:
    """Outputs, gradients and statistics of one training step of a copy of the model."""
    torch.manual_seed(1)
    model, x = copy.deepcopy(model).to(device), torch.randn(2, 3, size, size)
    model.train()
    x = x.to(device).requires_grad_()
    outputs = model(x)
    outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    sum((out * out).mean() for out in outputs).backward()
    found = {f"out {i}": out for i, out in enumerate(outputs)}
    found |= {"x": x.grad, **dict(model.named_buffers())}
    found |= {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: tensor.detach().cpu() for name, tensor in found.items()}


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference, relative to the largest value of each; 0 for the same bits."""
    assert one.keys() == other.keys()
    worst = 0.0
    for name, a in one.items():
        b = other[name]
        if not torch.equal(a, b):
            scale = max(1e-6, a.abs().max().item())
            worst = max(worst, (a - b).abs().max().item() / scale)
    return worst


def pooled(device: str, frozen: bool) -> Tensor:
    """The output of the stem and the pooling, at a size from which the kernel fits."""
    torch.manual_seed(2)
    model = mmdet.ResNet(18, frozen_stages=0 if frozen else -1, num_stages=1, strides=(1,),
                         dilations=(1,), out_indices=(0,))  # fmt: skip
    model = model.to(device)
    model.train()
    out = model(torch.randn(1, 3, 208, 208).to(device))[0]
    out.sum().backward()
    return out.detach().cpu()


def saved_output_is_an_error() -> str:
    """Of a block whose last layer needs its output, which the sum overwrites."""
    block = own_resnets.Saving(4).to("npu")
    try:
        block(torch.randn(2, 4, 8, 8).to("npu").requires_grad_()).sum().backward()
    except RuntimeError as error:
        return str(error)
    return ""


def at_the_limit() -> list[int]:
    """How often the kernel is called: below its least size, at it, and on a chip without it."""
    counts, chip = [], add_relu.chip
    for size, name in ((1_999_999, ""), (2_000_000, ""), (2_000_000, "Ascend310P3")):
        add_relu.chip = (lambda device, name=name: name) if name else chip
        before = FAKE.calls["npu_add_relu"]
        out = add_relu.add_relu(
            torch.nn.ReLU(), torch.ones(size, device="npu"), torch.ones(size, device="npu")
        )
        assert out[-1].item() == 2
        counts.append(FAKE.calls["npu_add_relu"] - before)
    add_relu.chip = chip
    return counts


def in_half(dtype: str) -> dict[str, Any]:
    """What a ResNet gives in half precision, beside the same in full."""
    model, x = mmdet.ResNet(18, with_cp=True, **SMALL), torch.randn(2, 3, 64, 64)
    full = [out.detach() for out in copy.deepcopy(model)(x)]
    start(only=[*PATCHES, HALF], options={HALF: {"dtype": dtype}})
    seen: set[str] = set()
    model.layer1[0].conv1.register_forward_hook(lambda m, i, out: seen.add(str(out.dtype)))
    half = model(x)
    sum(out.sum() for out in half).backward()
    report = bootstrap.report()
    bootstrap.deactivate()
    off = [(a - b).abs().max() / a.abs().max() for a, b in zip(full, half)]
    return {
        "within": sorted(seen),
        "outputs": sorted({str(out.dtype) for out in half}),
        "gradients": sorted({str(p.grad.dtype) for p in model.parameters()}),
        "distance": max(off).item(),
        "outcomes": [[str(o.status), o.reason] for o in report.outcomes if o.patch == HALF],
    }


def outcomes() -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {name: [] for name in PATCHES}
    for one in bootstrap.report().outcomes:
        if one.patch in PATCHES:
            found[one.patch].append([str(one.status), one.reason])
    return found


def forwards(model: Any) -> dict[Any, Any]:
    classes = {type(module) for module in model.modules()}
    return {cls: vars(cls)["forward"] for cls in classes if "forward" in vars(cls)}


def in_half_wrongly() -> list[list[str]]:
    start(only=[HALF], options={HALF: {"dtype": "int8"}})
    said = [[str(o.status), o.reason] for o in bootstrap.report().outcomes if o.patch == HALF]
    bootstrap.deactivate()
    return said


def main() -> None:
    devices = ["cpu", "npu"] if ON_NPU else ["cpu"]
    torch.manual_seed(0)
    models = {name: make() for name, (make, _) in MODELS.items()}
    originals = {name: forwards(model) for name, model in models.items()}
    plain = {(n, d): run(m, d) for n, m in models.items() for d in devices}
    pools = {(d, f): pooled(d, f) for d in devices for f in (True, False)}
    bootstrap.deactivate()

    sys.modules["mx_driving"] = FAKE
    for _ in range(3):
        start(only=list(PATCHES))
    said: dict[str, Any] = {"outcomes": outcomes()}
    add_relu.LEAST = 1
    said["sums"] = {}
    for (name, device), expected in plain.items():
        FAKE.calls.clear()
        off = distance(expected, run(models[name], device))
        said["sums"][f"{name}, {device}"] = off, FAKE.calls["npu_add_relu"], MODELS[name][1]
    said["pools"] = {}
    for (device, frozen), expected in pools.items():
        FAKE.calls.clear()
        same = torch.equal(pooled(device, frozen), expected)
        which = f"{device}, {'frozen' if frozen else 'trained'}"
        said["pools"][which] = same, FAKE.calls["npu_max_pool2d"]
    x, block = torch.randn(2, 4, 8, 8), own_resnets.Flat(4).eval()
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    said["compiled"] = torch.equal(compiled(x), block(x))
    own_resnets.defined_later()
    said["later"] = outcomes()
    if ON_NPU:
        said["saved output"] = saved_output_is_an_error()
        add_relu.LEAST = 2_000_000
        said["limit"] = at_the_limit()
    bootstrap.deactivate()
    said["reverted"] = all(forwards(m) == originals[name] for name, m in models.items())
    said["half"] = {dtype: in_half(dtype) for dtype in ("float16", "bfloat16")}
    said["no dtype"] = in_half_wrongly()
    print(f"\n{json.dumps(said)}")


def _fake() -> Any:
    if not ON_NPU:
        return types.SimpleNamespace(calls=Counter())
    return import_module("fake_mx_driving").Fake()


FAKE = _fake()

if __name__ == "__main__":
    main()

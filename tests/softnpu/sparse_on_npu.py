"""Sparse convolution and voxels of mmcv and mmdet3d on npu; run by test_sparse_on_npu.py.

    python -m mx_autopatch --device soft sparse_on_npu.py [mx_driving]

With the argument a fake stands for mx_driving. Prints, as one JSON object: of each case what
is wrong with it beside the CPU, what of mx_driving was called, and the patches' outcomes.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, Callable

import fake_mx_driving_sparse as fake
import mmcv
import torch
from mmcv.ops import (
    SparseConv2d,
    SparseConv3d,
    SparseConvTensor,
    SparseConvTranspose3d,
    SparseInverseConv3d,
    SparseMaxPool3d,
    SparseSequential,
    SubMConv3d,
    Voxelization,
)
from mmcv.ops.sparse_modules import SparseModule
from torch import Tensor, nn

from mx_autopatch import report
from mx_autopatch.ops.npu import _mx_driving

torch.set_num_threads(1)
torch.manual_seed(0)
if "mx_driving" in sys.argv:
    _mx_driving._module = lambda: fake

SHAPE, BATCH = [9, 8, 7], 2

# That of mmcv 1.x has an extension of its own.
HAS_MMDET3D = mmcv.__version__ >= "2" and all(map(importlib.util.find_spec, ("mmdet3d", "numba")))


def scene(channels: int, shape: list[int] = SHAPE, share: float = 0.1) -> tuple[Tensor, Tensor]:
    cells = (torch.rand(BATCH, *shape) < share).nonzero().int()
    cells = cells[torch.randperm(len(cells))]
    return torch.randn(len(cells), channels), cells


class Net(nn.Module):
    """Of layers of mmcv's; gives the features and the cells of what comes out."""

    def __init__(self, *layers: nn.Module, shape: list[int] = SHAPE) -> None:
        super().__init__()
        self.layers, self.shape = SparseSequential(*layers), shape

    def forward(self, features: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = self.layers(SparseConvTensor(features, cells, self.shape, BATCH))
        size = torch.tensor([int(n) for n in output.spatial_shape])
        return output.features, output.indices, size


class Residual(SparseModule):
    """Two layers that share their pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.one = SubMConv3d(16, 16, 3, padding=1, bias=False, indice_key="same")
        self.two = SubMConv3d(16, 16, 3, padding=1, indice_key="same")

    def forward(self, x: SparseConvTensor) -> SparseConvTensor:
        inner = self.one(x)
        inner.features = torch.relu(inner.features)
        output = self.two(inner)
        output.features = output.features + x.features
        return output


def down(*channels: int, **options: Any) -> SparseConv3d:
    return SparseConv3d(*channels, 3, **{"stride": 2, "padding": 1, "bias": False, **options})


def nets() -> dict[str, tuple[Net, int]]:
    """Name -> (network, channels that go in)."""
    flat = [9, 8]
    return {
        "subm": (Net(SubMConv3d(5, 16, 3, indice_key="a"), Residual()), 5),
        "down": (Net(down(16, 32), nn.BatchNorm1d(32), nn.ReLU(), down(32, 16, padding=0)), 16),
        "kernel (3, 1, 1)": (Net(SparseConv3d(16, 16, (3, 1, 1), (2, 1, 1))), 16),
        "there and back": (
            Net(
                SubMConv3d(16, 16, 3, indice_key="fine"),
                down(16, 32, indice_key="down"),
                SubMConv3d(32, 32, 3, indice_key="coarse"),
                SparseInverseConv3d(32, 16, 3, indice_key="down"),
                SubMConv3d(16, 16, 3, indice_key="fine"),
            ),
            16,
        ),
        "12 channels": (Net(down(12, 16, indice_key="a"), down(16, 12)), 12),
        "dilation": (Net(SparseConv3d(16, 16, 3, dilation=2, padding=2)), 16),
        "kernel 5": (Net(SubMConv3d(16, 16, 5), SparseConv3d(16, 16, 5)), 16),
        "kernel 1": (Net(SubMConv3d(16, 8, 1)), 16),
        "same key twice": (Net(down(16, 16, stride=1, indice_key="a"), Residual()), 16),
        "transposed": (Net(SparseConvTranspose3d(16, 16, 3, stride=2)), 16),
        "pooled": (Net(SparseMaxPool3d(2, 2)), 16),
        "2d": (Net(SparseConv2d(16, 16, 3, padding=1), shape=flat), 16),
        "half": (Net(SubMConv3d(16, 16, 3), down(16, 16)).half(), 16),
    }


def results(net: Any, given: tuple[Tensor, ...], device: str) -> list[Tensor]:
    """Outputs; gradients of features and parameters."""
    net = copy.deepcopy(net).to(device) if isinstance(net, nn.Module) else net
    tensors = [t.clone().to(device).requires_grad_(t.is_floating_point()) for t in given]
    output = net(*tensors)
    found = list(output) if isinstance(output, tuple) else [output]
    cotangent = torch.arange(1.0, found[0].numel() + 1).cos().view(found[0].shape)
    (found[0] * cotangent.to(found[0])).sum().backward()
    tensors += net.parameters()
    found += [t.grad for t in tensors if t.grad is not None]
    return [t.detach().cpu() for t in found]


def wrong(got: Callable[[], Any], want: Any, tolerance: float = 2e-5) -> str:
    try:
        torch.testing.assert_close(got(), want, rtol=tolerance, atol=tolerance)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def layers() -> Iterator[tuple[str, str]]:
    for name, (net, channels) in nets().items():
        features, cells = scene(channels, net.shape)
        half = next(net.parameters(), features).dtype == torch.float16
        given = (features.half() if half else features), cells
        want = results(net, given, "cpu")
        state = torch.get_rng_state()
        yield name, wrong(lambda: results(net, given, "npu"), want, 4e-3 if half else 2e-5)  # noqa: B023
        if not torch.equal(state, torch.get_rng_state()):
            yield f"{name}: random numbers", "were drawn"
    features, cells = scene(16)
    fused = Net(SubMConv3d(16, 16, 3)).layers[0]
    fused.fused_bn = True
    net = Net(fused)
    plain = copy.deepcopy(net)
    plain.layers[0].fused_bn = False
    with torch.no_grad():
        want = plain(features, cells)[0]
        moved = features.to("npu"), cells.to("npu")
        yield "fused", wrong(lambda: net.to("npu")(*moved)[0].cpu(), want)
        yield "empty", wrong(lambda: net(moved[0][:0], moved[1][:0])[0].cpu(), want[:0])


LIMITS = [0.5, 0.5, 2.0], [0.0, -4.0, -1.0, 8.0, 4.0, 3.0]
POINTS = torch.rand(400, 4) * torch.tensor([9, 9, 5, 1]) - torch.tensor([0.5, 4.5, 1.5, 0])


def voxels() -> Iterator[tuple[str, str]]:
    calls: dict[str, tuple[Callable[[Tensor], Any], Tensor]] = {
        "hard": (Voxelization(*LIMITS, 3, 60), POINTS),
        "hard, tested": (Voxelization(*LIMITS, 3, (20, 200), deterministic=False).eval(), POINTS),
        "hard, half": (Voxelization(*LIMITS, 3, 60), POINTS.half()),
        "hard, none": (Voxelization(*LIMITS, 3, 60), POINTS[:0]),
        "hard, a fine grid": (Voxelization([0.5, 0.001, 2.0], LIMITS[1], 3, 60), POINTS),
        "dynamic": (Voxelization(*LIMITS, -1, -1), POINTS),
        "dynamic, none": (Voxelization(*LIMITS, -1), POINTS[:0]),
    }
    if HAS_MMDET3D:
        from mmdet3d.models.data_preprocessors.voxelize import VoxelizationByGridShape as ByShape

        limits = {"voxel_size": LIMITS[0], "point_cloud_range": LIMITS[1]}
        calls["mmdet3d, hard"] = ByShape(**limits, max_num_points=3, max_voxels=60), POINTS
        calls["mmdet3d, dynamic"] = ByShape(**limits, max_num_points=-1), POINTS
    for name, (layer, points) in calls.items():
        want = layer(points)
        found = wrong(lambda: layer(points.to("npu")), want_on("npu", want), 0)  # noqa: B023
        yield f"voxels, {name}", found


def want_on(device: str, value: Any) -> Any:
    return tuple(t.to(device) for t in value) if isinstance(value, tuple) else value.to(device)


def encoders() -> Iterator[tuple[str, str]]:
    """mmdet3d's own users of the layers: SECOND's, Part-A2's and Cylinder3D's."""
    if not HAS_MMDET3D:
        return
    from mmdet3d.models.backbones.cylinder3d import Asymm3DSpconv
    from mmdet3d.models.middle_encoders import SparseEncoder, SparseUNet

    shape = [17, 16, 16]
    options = {
        "encoder_channels": ((16,), (16, 16), (32, 32)),
        "encoder_paddings": ((1,), (1, 1), (1, 1)),
        "output_channels": 32,
    }
    features, cells = scene(4, shape, 0.05)
    given = features, cells
    blocks = {"encoder_channels": ((16, 32), (32, 32)), "encoder_paddings": ((1, 1), (1, 1))}
    for name, net in {
        "SparseEncoder": Encoded(SparseEncoder(4, shape, base_channels=16, **options)),
        "SparseEncoder, basic blocks": Encoded(
            SparseEncoder(
                4, shape, base_channels=16, output_channels=32, block_type="basicblock", **blocks
            )
        ),
        "Asymm3DSpconv": Encoded(
            Asymm3DSpconv(
                shape,
                input_channels=4,
                base_channels=16,
                backbone_depth=2,
                height_pooing=(True, False),
            )
        ),
        "SparseUNet": Encoded(
            SparseUNet(
                4,
                shape,
                base_channels=16,
                decoder_channels=((32, 32, 16), (16, 16, 16), (16, 16, 16)),
                decoder_paddings=((1, 0), (1, 0), (1, 0)),
                **options,
            )
        ),
    }.items():
        want = results(net, given, "cpu")
        yield name, wrong(lambda: results(net, given, "npu"), want, 2e-4)  # noqa: B023


class Encoded(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: Tensor, cells: Tensor) -> Tensor:
        output = self.encoder(features, cells, BATCH)
        if isinstance(output, SparseConvTensor):
            return output.features
        return output["spatial_features"] if isinstance(output, dict) else output


if __name__ == "__main__":
    found = {"wrong": {**dict(layers()), **dict(voxels())}}
    found["calls"] = dict(fake.calls)
    fake.calls = Counter()
    found["wrong"].update(encoders())
    found["of the encoders"] = sorted(fake.calls)
    found["outcomes"] = [
        [o.patch, o.target, str(o.status), o.reason]
        for o in report()
        if o.patch in ("mmcv.sparse_conv3d", "mmcv.voxelization")
    ]
    print(json.dumps(found))

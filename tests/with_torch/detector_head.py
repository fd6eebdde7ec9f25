"""A detector's head of mmdet's and mmcv's modules, eager and in one compiled graph.

Run with the engine on: ``python detector_head.py DEVICE BACKEND...`` prints a line for each
backend that gave what eager did, results and gradients.
"""

from __future__ import annotations

import sys

import torch
from mmcv.ops import DeformConv2dPack, MultiScaleDeformableAttention, RoIAlign, batched_nms
from mmdet.models.dense_heads import FCOSHead
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from torch import Tensor, nn

CHANNELS, CLASSES, STRIDE = 16, 3, 4
NMS = {"type": "nms", "iou_threshold": 0.2, "score_threshold": 0.009, "max_num": 60}


class TwoStages(nn.Module):
    """Proposals of FCOS on features that attend to each other, and what is in them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = DeformConv2dPack(CHANNELS, CHANNELS, 3, padding=1, deform_groups=2)
        nn.init.normal_(self.conv.conv_offset.weight, std=0.1)
        self.attention = MultiScaleDeformableAttention(
            CHANNELS, num_heads=2, num_levels=1, num_points=2, batch_first=True
        )
        self.proposals = FCOSHead(
            CLASSES,
            CHANNELS,
            feat_channels=CHANNELS,
            stacked_convs=1,
            strides=[STRIDE],
            dcn_on_last_conv=True,
            norm_cfg=None,
            conv_cfg=None,
        )
        self.extract = RoIAlign(3, 1 / STRIDE, sampling_ratio=0)
        self.classify = Shared2FCBBoxHead(
            in_channels=CHANNELS, roi_feat_size=3, fc_out_channels=8, num_classes=CLASSES
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        _, _, height, width = x.shape
        y, x_ = torch.meshgrid(
            *(torch.arange(n, device=x.device) + 0.5 for n in (height, width)), indexing="ij"
        )
        centres = torch.stack((x_, y), -1).flatten(0, 1)
        size = torch.tensor([[height, width]], device=x.device)
        tokens = self.attention(
            self.conv(x).flatten(2).transpose(1, 2),
            reference_points=(centres / size.flip(1))[None, :, None],
            spatial_shapes=size,
            level_start_index=size.new_zeros(1),
        )
        x = tokens.transpose(1, 2).view_as(x)
        scores, distances, _ = (level[0][0].flatten(1).T for level in self.proposals([x]))
        best, label = scores.sigmoid().max(1)
        low, high = (distances * STRIDE).split(2, 1)
        boxes = torch.cat((centres * STRIDE - low, centres * STRIDE + high), 1)
        dets, kept = batched_nms(boxes, best, label, NMS)
        rois = torch.cat((dets.new_zeros(dets.shape[0], 1), dets[:, :4]), 1)
        return (*self.classify(self.extract(x, rois)), dets, label[kept])


def step(model: nn.Module, function: nn.Module, image: Tensor) -> list[Tensor]:
    """Outputs, and the gradients of the image and of all parameters that have any."""
    image = image.clone().requires_grad_()
    model.zero_grad()
    *floats, labels = function(image)
    sum(out.square().sum() for out in floats).backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return [*(out.detach() for out in floats), labels, image.grad, *grads]


#: Options of batched_nms, of which mmcv finds the function by eval.
SUPPRESSIONS = (
    {"type": "nms", "iou_threshold": 0.3, "class_agnostic": True},
    # Of more boxes than that, mmcv suppresses class by class.
    {"type": "nms", "iou_threshold": 0.3, "split_thr": 10, "max_num": 9},
    {"type": "nms_rotated", "iou_threshold": 0.3},
    {"type": "soft_nms", "iou_threshold": 0.3, "min_score": 0.05},
    None,
)


def check_suppressions(device: str, backend: str) -> None:
    boxes, scores, labels = torch.rand(40, 4) * 40, torch.rand(40), torch.arange(40) % 3
    boxes[:, 2:] += boxes[:, :2]
    turned = torch.cat((boxes, scores[:, None]), 1)
    for options in SUPPRESSIONS:
        rows = turned if options and options["type"] == "nms_rotated" else boxes
        tensors = [t.to(device) for t in (rows, scores, labels)]
        torch._dynamo.reset()
        compiled = torch.compile(batched_nms, fullgraph=True, backend=backend)
        with torch.no_grad():
            got, wanted = compiled(*tensors, options), batched_nms(*tensors, options)
        torch.testing.assert_close(got, wanted)


def main(device: str, *backends: str) -> None:
    torch.manual_seed(0)
    # In evaluation: the attention drops at random.
    model = TwoStages().eval().to(device)
    images = [torch.randn(1, CHANNELS, 8, 9).to(device) for _ in range(2)]
    wanted = [step(model, model, image) for image in images]
    boxes = [len(outputs[2]) for outputs in wanted]
    assert boxes[0] != boxes[1], f"{boxes}: expected another number of boxes"
    assert len(wanted[0]) > 20, "gradients of all parts"
    for backend in backends:
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend=backend)
        got = [step(model, compiled, images[0])]
        with torch.compiler.set_stance("fail_on_recompile"):
            got.append(step(model, compiled, images[1]))
        torch.testing.assert_close(got, wanted)
        check_suppressions(device, backend)
        print(f"{device} {backend}: {boxes} boxes and {len(wanted[0])} tensors as eager")


if __name__ == "__main__":
    main(*sys.argv[1:])

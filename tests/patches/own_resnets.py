"""Residual blocks as projects write their own, after torchvision's, and some that are not such."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = nn.Conv2d(channels, channels, 1)


class Flat(Block):
    """As torchvision's BasicBlock."""

    def forward(self, x: Tensor) -> Tensor:
        residual = self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))

        out += residual  # what is rewritten
        out = self.relu(out)
        return out  # noqa: RET504


class OutOfPlace(Block):
    """Its sum leaves ``out`` as it is; the kernel would not."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out = out + self.downsample(x)
        return self.relu(out)


class Saving(Flat):
    """Its last layer is one that keeps its output for the gradient."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.bn2 = nn.Sigmoid()


class Net(nn.Module):
    def __init__(self, block: Any) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(block(8), block(8))
        self.layer2 = nn.Sequential(block(8), block(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(torch.relu(self.conv1(x)))
        return self.layer2(self.layer1(x))


def defined_later() -> type:
    """A class that comes into being when this is called."""

    class Later(Block):
        def forward(self, x: Tensor) -> Tensor:
            out = self.bn1(self.conv1(x))
            out += x
            return self.relu(out)

    return Later

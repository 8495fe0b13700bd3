"""Plain convolutional networks for small images: the smallest thing that learns."""

from __future__ import annotations

from typing import Literal

from torch import nn

from stillhouse.vision.mobilenets import Pooled


def plain(channels: int, classes: int, *, width: Literal[8, 16, 32, 64] = 16, depth: Literal[1, 2] = 1) -> nn.Module:
    """Space: three stages of `depth` 3 x 3 convolutions of widths w, 2 w, 4 w, halved between them."""
    layers: list[nn.Module] = []
    before = channels
    for stage in range(3):
        if stage:
            layers.append(nn.MaxPool2d(2))
        for _ in range(depth):
            after = width << stage
            layers += [nn.Conv2d(before, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            before = after
    return Pooled(nn.Sequential(*layers), before, classes)

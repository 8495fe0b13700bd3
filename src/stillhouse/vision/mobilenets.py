"""Networks of inverted residuals, in the manner of MobileNetV2 (arXiv 1801.04381), for small images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float

Depth = Literal[1, 2, 3]
Expansion = Literal[1, 3, 6]
Kernel = Literal[3, 5]


class InvertedResidual(nn.Module):
    """Widen by 1 x 1, filter each channel, narrow by 1 x 1; a shortcut where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, kernel: int) -> None:
        super().__init__()
        wide = inputs * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()]
        layers += [nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False), nn.BatchNorm2d(wide)]
        layers += [nn.ReLU6(), nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.body = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        return x + self.body(x) if self.shortcut else self.body(x)


def mobilenets(
    channels: int,
    classes: int,
    *,
    width: Literal[8, 12, 16, 24] = 16,
    depth1: Depth = 1,
    depth2: Depth = 2,
    depth3: Depth = 2,
    expansion1: Expansion = 3,
    expansion2: Expansion = 6,
    expansion3: Expansion = 6,
    kernel1: Kernel = 3,
    kernel2: Kernel = 3,
    kernel3: Kernel = 3,
) -> nn.Module:
    """Space: three stages of inverted residuals of widths w, 2 w, 4 w, by depth, expansion and kernel."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6()]
    before: int = width
    stages = ((depth1, expansion1, kernel1), (depth2, expansion2, kernel2), (depth3, expansion3, kernel3))
    for stage, (depth, expansion, kernel) in enumerate(stages):
        for block in range(depth):
            stride = 2 if stage and block == 0 else 1
            layers.append(InvertedResidual(before, width << stage, stride, expansion, kernel))
            before = width << stage
    layers += [nn.Conv2d(before, 2 * before, 1, bias=False), nn.BatchNorm2d(2 * before), nn.ReLU6()]
    return Pooled(nn.Sequential(*layers), 2 * before, classes)


class Pooled(nn.Module):
    """Any convolutional body with an average and a linear classifier on top."""

    def __init__(self, body: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.body, self.classifier = body, nn.Linear(width, classes)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        return self.classifier(self.body(images).mean((2, 3)))

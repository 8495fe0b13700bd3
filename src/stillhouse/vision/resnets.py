"""Residual networks for small images, and their released CIFAR-10 weights.

Deep Residual Learning (arXiv 1512.03385), section 4.2: three stages of basic blocks, shortcuts without parameters (option A).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.errors import UserError, first_line

if TYPE_CHECKING:
    from jaxtyping import Float

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RELEASED = {
    "resnet20-cifar10": ((3, 3, 3), "resnet20-12fca82f.th"),
    "resnet32-cifar10": ((5, 5, 5), "resnet32-d509ac18.th"),
    "resnet44-cifar10": ((7, 7, 7), "resnet44-014dd654.th"),
    "resnet56-cifar10": ((9, 9, 9), "resnet56-4bfd9763.th"),
}
RELEASED_HOME = "akamaster/pytorch_resnet_cifar10 on GitHub, commit d5489e8, folder pretrained_models"

Blocks = Literal[1, 3, 5, 7]


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut that subsamples and pads with zero channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        if self.stride > 1 or self.more:
            x = x[:, :, :: self.stride, :: self.stride]
            x = nn.functional.pad(x, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        return self.relu2(x + y)


class CifarResNet(nn.Module):
    """A stem, a stage of basic blocks for each width (each but the first halves the image), average, linear.

    Names are those of the released weights (conv1, bn1, layer1 ..., linear).
    """

    def __init__(self, channels: int, classes: int, blocks: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        before = widths[0]
        self.stages = len(widths)
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            strides = [1 if stage == 0 else 2] + [1] * (count - 1)
            made = [BasicBlock(before if i == 0 else width, width, stride) for i, stride in enumerate(strides)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
            before = width
        self.linear = nn.Linear(before, classes)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        x = self.relu(self.bn1(self.conv1(images)))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.linear(x.mean((2, 3)))


class Standardised(nn.Module):
    """A network that wants standardised pixels, behind images in [-1, 1]."""

    def __init__(self, network: nn.Module, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", 2 * torch.tensor(mean).view(-1, 1, 1) - 1)
        self.register_buffer("deviation", 2 * torch.tensor(deviation).view(-1, 1, 1))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        if images.shape[1] != len(self.mean):  # broadcasting would make three channels of one
            raise ValueError(f"images of {images.shape[1]} channels, {len(self.mean)} are expected")
        return self.network((images - self.mean) / self.deviation)


def resnets(
    channels: int,
    classes: int,
    *,
    blocks1: Blocks = 3,
    blocks2: Blocks = 3,
    blocks3: Blocks = 3,
    width: Literal[8, 12, 16] = 16,
) -> nn.Module:
    """Space: CIFAR ResNets by depth and width of their three stages (widths w, 2 w, 4 w)."""
    return CifarResNet(channels, classes, (blocks1, blocks2, blocks3), (width, 2 * width, 4 * width))


def released_resnet(name: str) -> nn.Module:
    """A ResNet with released CIFAR-10 weights ("resnet56-cifar10"), for colour images in [-1, 1] of 32 x 32.

    Raises:
        UserError: no such name, or the weights are not below $STILLHOUSE_DATA or damaged.
    """
    if name not in RELEASED:
        raise UserError(f"no released network {name!r}", f"choose one of {', '.join(RELEASED)}")
    blocks, file = RELEASED[name]
    path = find_public_file(PublicFile(f"resnet_cifar10_weights/{file}", RELEASED_HOME))
    network = CifarResNet(3, 10, blocks, (16, 32, 64))
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        network.load_state_dict({key.removeprefix("module."): value for key, value in saved.items()})
    except Exception as error:
        raise UserError(f"{path} holds no weights of {name} ({first_line(error)})", "fetch it again") from error
    return Standardised(network, IMAGENET_MEAN, IMAGENET_DEVIATION).eval()

"""A small head on a denoiser's features that tells noised real images from noised generated ones."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stillhouse.diffusion.denoiser import Denoiser


def feature_shape(denoiser: Denoiser, condition: Tensor | None, at: str) -> tuple[int, int]:
    """Channels and size of the features at the submodule `at`."""
    device = next(denoiser.parameters()).device
    with torch.no_grad():
        x = torch.zeros(1, *denoiser.sample_shape, device=device)
        features = denoiser.features(x, torch.ones(1, device=device), condition, at)
    return features.shape[1], min(features.shape[2:])


class DiscriminatorHead(nn.Module):
    """Convolutions that halve the bottleneck down to one logit an image (DMD2, section 4.3 and appendix).

    Args:
        channels, size: of the features, see `feature_shape`.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        # 32 groups as published, but never fewer than 8 channels a group: normalising one number leaves nothing
        groups = math.gcd(channels, 32 if channels >= 256 else max(1, channels // 8))
        layers: list[nn.Module] = []
        while size >= 4:
            layers += [nn.Conv2d(channels, channels, 4, stride=2, padding=1), nn.GroupNorm(groups, channels), nn.SiLU()]
            size //= 2
        layers += [nn.Conv2d(channels, channels, size), nn.GroupNorm(groups, channels), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))

    def forward(self, features: Float[Tensor, "batch channels size size"]) -> Float[Tensor, " batch"]:
        """One logit an image: positive for real."""
        return self.layers(features).mean(dim=(1, 2, 3))

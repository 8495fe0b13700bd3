"""Images as a classifier may also see them: moved, mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def shifted(images: Float[Tensor, "n c h w"], most: int) -> Float[Tensor, "n c h w"]:
    """Each image moved by up to `most` pixels both ways, its edge continued."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (most,) * 4, mode="replicate")
    offsets = torch.randint(2 * most + 1, (2, count, 1))
    rows, columns = offsets[0] + torch.arange(height), offsets[1] + torch.arange(width)
    return padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def mirrored(images: Float[Tensor, "n c h w"], which: Bool[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """The images, those of `which` with left and right exchanged."""
    return torch.where(which[:, None, None, None], images.flip(3), images)

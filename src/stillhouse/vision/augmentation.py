"""Images as a classifier may also see them: moved, mirrored, or changed strongly (RandAugment, cutout)."""

from __future__ import annotations

from collections.abc import Callable
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


# RandAugment (arXiv 1909.13719) as FixMatch uses it: two operations an image of these, each at a strength by chance, then a cutout.
# Every operation takes images in [0, 1] and a number in [0, 1] an image.
Operation = Callable[[Tensor, Tensor], Tensor]


def _blend(other: Tensor, images: Tensor, strength: Tensor) -> Tensor:
    """From `other` at factor 0 to beyond the images at 1.9; factors are 0.05 .. 0.95 or their mirror above 1."""
    factor = (0.1 + 1.8 * strength)[:, None, None, None]
    return (other + factor * (images - other)).clamp(0, 1)


def _autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return (images - low) / (high - low).clamp_min(1e-3)


def _brightness(images: Tensor, strength: Tensor) -> Tensor:
    return _blend(torch.zeros_like(images), images, strength)


def _colour(images: Tensor, strength: Tensor) -> Tensor:
    return _blend(images.mean(1, keepdim=True).expand_as(images), images, strength)


def _contrast(images: Tensor, strength: Tensor) -> Tensor:
    return _blend(images.mean((1, 2, 3), keepdim=True).expand_as(images), images, strength)


def _equalised(images: Tensor, strength: Tensor) -> Tensor:
    """Every channel's values spread evenly: a value becomes the share of its image's pixels that are not above it."""
    count, channels, height, width = images.shape
    level = (images * 255).round().long().view(count, channels, -1)
    histogram = torch.zeros(count, channels, 256).scatter_add_(2, level, torch.ones(level.shape))
    below = histogram.cumsum(2)
    first = below.gather(2, level.amin(2, keepdim=True))  # the darkest level stays black
    share = (below - first) / (height * width - first).clamp_min(1)
    return share.gather(2, level).view(images.shape)


def _posterised(images: Tensor, strength: Tensor) -> Tensor:
    levels = 2 ** (4 + (4 * strength).floor())[:, None, None, None]
    return (images * (levels - 1e-3)).floor() / (levels - 1)


def _sharpness(images: Tensor, strength: Tensor) -> Tensor:
    smooth = nn.functional.avg_pool2d(nn.functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return _blend(smooth, images, strength)


def _solarised(images: Tensor, strength: Tensor) -> Tensor:
    return torch.where(images < strength[:, None, None, None], images, 1 - images)


def _affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Images looked at through a 2 x 3 matrix each, dark outside."""
    places = nn.functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, places, mode="bilinear", padding_mode="zeros", align_corners=False)


def _matrix(count: int, **entries: Tensor) -> Tensor:
    matrix = torch.eye(2, 3).repeat(count, 1, 1)
    for place, value in entries.items():
        matrix[:, int(place[1]), int(place[2])] = value
    return matrix


def _rotated(images: Tensor, strength: Tensor) -> Tensor:
    angle = (2 * strength - 1) * MOST_TURN
    return _affine(images, _matrix(len(images), m00=angle.cos(), m01=-angle.sin(), m10=angle.sin(), m11=angle.cos()))


def _sheared_x(images: Tensor, strength: Tensor) -> Tensor:
    return _affine(images, _matrix(len(images), m01=(2 * strength - 1) * MOST_SHEAR))


def _sheared_y(images: Tensor, strength: Tensor) -> Tensor:
    return _affine(images, _matrix(len(images), m10=(2 * strength - 1) * MOST_SHEAR))


def _moved_x(images: Tensor, strength: Tensor) -> Tensor:
    return _affine(images, _matrix(len(images), m02=(2 * strength - 1) * 2 * MOST_MOVE))


def _moved_y(images: Tensor, strength: Tensor) -> Tensor:
    return _affine(images, _matrix(len(images), m12=(2 * strength - 1) * 2 * MOST_MOVE))


MOST_TURN, MOST_SHEAR, MOST_MOVE = 0.52, 0.3, 0.3
"""Radians (30 degrees), columns a row, share of the side."""
OPERATIONS: tuple[Operation, ...] = (
    _autocontrast,
    _brightness,
    _colour,
    _contrast,
    _equalised,
    lambda images, strength: images,
    _posterised,
    _rotated,
    _sharpness,
    _sheared_x,
    _sheared_y,
    _solarised,
    _moved_x,
    _moved_y,
)


def rand_augmented(images: Float[Tensor, "n c h w"], operations: int = 2) -> Float[Tensor, "n c h w"]:
    """Each image in [-1, 1] after so many operations by chance, at strengths by chance."""
    unit = (images + 1) / 2
    for _ in range(operations):
        chosen, strength = torch.randint(len(OPERATIONS), (len(unit),)), torch.rand(len(unit))
        changed = torch.empty_like(unit)
        for number, operation in enumerate(OPERATIONS):
            some = (chosen == number).nonzero().flatten()
            if len(some):
                changed[some] = operation(unit[some], strength[some])
        unit = changed
    return unit.clamp(0, 1) * 2 - 1


def cut_out(images: Float[Tensor, "n c h w"], share: float = 0.5) -> Float[Tensor, "n c h w"]:
    """Each image with a square made grey, of a side by chance up to `share` of the image's, centred anywhere (arXiv 1708.04552)."""
    count, _, height, width = images.shape
    half = torch.rand(count, 1) * share * height / 2
    rows, columns = torch.rand(count, 1) * height, torch.rand(count, 1) * width
    inside_rows = (torch.arange(height) + 0.5 - rows).abs() < half
    inside_columns = (torch.arange(width) + 0.5 - columns).abs() < half
    hole = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return torch.where(hole, 0.0, images)

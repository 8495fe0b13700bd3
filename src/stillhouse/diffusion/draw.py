"""What a step of score distillation may draw from, and the random numbers of one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stillhouse.core.distributed import rank, world_size

Images = Float[Tensor, "batch channels height width"]
MATCHING, GENERATOR_GAN, CRITIC, FAKE, REAL = range(5)
"""Uses of a step's noise levels and noises, as columns of `Draw`."""


@dataclass(frozen=True)
class RealImages:
    """The images and labels that a step may draw from; `images` is None in image-free distillation."""

    images: Images | None
    labels: Int[Tensor, " n"]

    def of_labels(self, wanted: Sequence[int]) -> RealImages:
        """Only those of the wanted labels."""
        chosen = torch.isin(self.labels, torch.tensor(wanted, device=self.labels.device))
        return RealImages(None if self.images is None else self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Draw:
    """All random numbers of one step for one part of the batch; the first axis of each is the batch."""

    labels: Int[Tensor, " batch"]
    student_noise: Float[Tensor, "batch levels channels height width"]
    real: Images | None
    real_labels: Int[Tensor, " batch"]
    positions: Float[Tensor, "batch uses"]
    """In [0, 1], for each use: matching, generator's GAN, critic, discriminator fake, discriminator real."""
    noises: Float[Tensor, "batch uses channels height width"]
    level: int
    """Which of the student's levels is trained in this step."""
    without_condition: bool = False
    pairs: Int[Tensor, " batch"] | None = None
    """Which of the teacher's pairs the regression uses."""

    def parts(self, count: int) -> Iterator[Draw]:
        """This process's share of the batch, in `count` parts."""
        mine = self._take(slice(rank(), None, world_size()))
        size = -(-len(mine.labels) // count)
        for start in range(0, len(mine.labels), size):
            yield mine._take(slice(start, start + size))

    def _take(self, part: slice) -> Draw:
        tensors: dict[str, Any] = {name: v[part] for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)

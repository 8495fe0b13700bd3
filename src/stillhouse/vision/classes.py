"""Splits of labelled images for classifiers, and batches to score networks on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stillhouse.core.errors import require
from stillhouse.core.seeding import derive_seed
from stillhouse.vision.images import ImageData, Splits, split

if TYPE_CHECKING:
    from jaxtyping import Float, Int

SELECT_SHARE = 0.1
"""Of the images that their publishers give for training, where they keep a test part apart."""


def class_splits(data: ImageData, seed: int = 0, most: int = 0) -> Splits:
    """Train, select and report for a classifier: reported on the published test part where there is one.

    Args:
        data: labelled images.
        seed: of the split.
        most: at most this many training images, equally many a class as far as they go; 0 keeps all.

    Raises:
        UserError: there is one class, or a class has too few images.
    """
    require(data.classes > 1, f"{data.name} has one class", "put the images into a subfolder for each class")
    splits = split(data, seed) if data.test is None else _published(data, seed)
    if most and most < len(splits.train):
        splits = Splits(balanced(splits.train, most, seed), splits.select, splits.report)
    return splits


def _published(data: ImageData, seed: int) -> Splits:
    assert data.test is not None
    rng = np.random.default_rng(derive_seed(seed, "class splits"))
    train, select = [], []
    for label in range(data.classes):
        members = rng.permutation(np.flatnonzero(((data.labels == label) & ~data.test).numpy()))
        chosen = max(1, round(SELECT_SHARE * len(members)))
        select.append(members[:chosen])
        train.append(members[chosen:])
    parts = (np.sort(np.concatenate(train)), np.sort(np.concatenate(select)), np.flatnonzero(data.test.numpy()))
    return Splits(*(data.take(torch.from_numpy(part)) for part in parts))


def balanced(data: ImageData, most: int, seed: int) -> ImageData:
    """At most `most` of the images, as even over the classes as they allow."""
    rng = np.random.default_rng(derive_seed(seed, "balanced", most))
    labels = data.labels.numpy()
    turn = np.empty(len(labels))  # the how-manieth of its class an image is, in a random order
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turn[members] = rng.permutation(len(members)) + rng.random(len(members)) * 1e-3
    return data.take(torch.from_numpy(np.sort(np.argsort(turn)[:most])))


@dataclass(frozen=True, eq=False)
class Batch:
    """Some images with their classes."""

    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        return tuple(self.images.shape[1:])  # type: ignore[return-value]


def class_batch(data: ImageData, size: int, seed: int) -> Batch:
    """A batch that is as even over the classes as it can be.

    Raises:
        UserError: it has fewer than two images, or one class only.
    """
    chosen = balanced(data, size, seed)
    require(len(chosen) > 1, f"a batch of {len(chosen)} images", "give more images or a larger batch")
    require(
        len(chosen.labels.unique()) > 1,
        f"a batch of {data.name} with one class only",
        "give images of two classes or more: scores compare samples of different classes",
    )
    return Batch(chosen.images, chosen.labels)

"""Items to train on (texts, augmented texts, mixed pairs) and the batches they come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from stillhouse.core.seeding import derive_seed
from stillhouse.encoders.models import Batch
from stillhouse.encoders.tokens import Encoded, join

NO_LABEL = -1
"""Class of an item that only the teacher labels."""
CHUNK = 16
"""Batches that are sorted by length together: little padding, and still drawn at random."""


@dataclass(frozen=True)
class Items:
    """What a student is trained on, in the student's ids."""

    first: Encoded
    second: Encoded
    """The texts whose embeddings are mixed in; the same texts where nothing is mixed."""
    share: np.ndarray
    """[items] float32 lambda of the first texts' embeddings; 1 where nothing is mixed."""
    labels: np.ndarray
    """[items] class, or NO_LABEL."""

    def __len__(self) -> int:
        return len(self.first)

    @property
    def lengths(self) -> np.ndarray:
        """[items] tokens, those of the longer of the two where texts are mixed."""
        return np.maximum(self.first.lengths, self.second.lengths)

    def take(self, index: np.ndarray) -> Items:
        """These items, in this order."""
        return Items(self.first.take(index), self.second.take(index), self.share[index], self.labels[index])

    def mapped(self, ids: np.ndarray) -> Items:
        """The same items with id k written as `ids[k]`."""
        return Items(self.first.mapped(ids), self.second.mapped(ids), self.share, self.labels)


def plain_items(encoded: Encoded, labels: np.ndarray | None = None) -> Items:
    """Items of which none is mixed."""
    n = len(encoded)
    known = np.full(n, NO_LABEL, np.int64) if labels is None else labels
    return Items(encoded, encoded, np.ones(n, np.float32), known)


def join_items(parts: Sequence[Items]) -> Items:
    """Several sets of items as one, in order."""
    return Items(
        join([part.first for part in parts]),
        join([part.second for part in parts]),
        np.concatenate([part.share for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def assemble(items: Items, index: np.ndarray, pad_id: int) -> Batch:
    """The padded batch of these items."""
    length = int(items.lengths[index].max())
    size = len(index)
    first, types = np.full((size, length), pad_id, np.int64), np.zeros((size, length), np.int64)
    second, mask = np.full((size, length), pad_id, np.int64), np.zeros((size, length), bool)
    for row, item in enumerate(index):
        start, end = items.first.offsets[item], items.first.offsets[item + 1]
        first[row, : end - start] = items.first.ids[start:end]
        types[row, : end - start] = items.first.types[start:end]
        mask[row, : end - start] = True
        other = items.second.row(int(item))
        second[row, : len(other)] = other
        mask[row, : len(other)] = True
    share = torch.from_numpy(items.share[index])
    return Batch(
        torch.from_numpy(first), torch.from_numpy(second), share, torch.from_numpy(mask), torch.from_numpy(types)
    )


def padded(encoded: Encoded, index: np.ndarray, pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[batch, longest] ids of these texts and which of them are real tokens."""
    lengths = encoded.lengths[index]
    real = np.arange(int(lengths.max()))[None] < lengths[:, None]
    ids = np.full(real.shape, pad_id, np.int64)
    ids[real] = encoded.take(index).ids
    return torch.from_numpy(ids), torch.from_numpy(real)


def epoch_batches(lengths: np.ndarray, batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Item indices of every batch of an epoch: drawn by seed, of similar lengths, without the short last one.

    A set smaller than a batch is one batch.
    """
    random = np.random.default_rng(derive_seed("batches", seed, epoch))
    order = random.permutation(len(lengths))
    chunks = (order[i : i + CHUNK * batch] for i in range(0, len(order), CHUNK * batch))
    ordered = np.concatenate([chunk[np.argsort(lengths[chunk], kind="stable")] for chunk in chunks])
    whole = max(1, len(ordered) // batch)
    batches = [ordered[i * batch : (i + 1) * batch] for i in range(whole)]
    return [batches[i] for i in random.permutation(whole)]


class Schedule:
    """The batch of every update: epoch after epoch, each a function of the seed alone."""

    def __init__(self, lengths: np.ndarray, batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed = lengths, batch, seed
        self.per_epoch = max(1, len(lengths) // batch)
        self._epoch, self._batches = -1, [np.zeros(0, np.int64)]

    def __getitem__(self, update: int) -> np.ndarray:
        epoch, place = divmod(update, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, epoch_batches(self.lengths, self.batch, self.seed, epoch)
        return self._batches[place]


def ordered_batches(lengths: np.ndarray, batch: int) -> list[np.ndarray]:
    """All items once, by length: for evaluation."""
    order = np.argsort(lengths, kind="stable")
    return [order[i : i + batch] for i in range(0, len(order), batch)]

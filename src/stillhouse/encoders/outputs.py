"""What a teacher says of every item, computed once and kept as float16 under a hash of its weights and the items."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from stillhouse.core.cache import cached_folder
from stillhouse.core.files import write_json
from stillhouse.encoders.batches import Items, assemble, ordered_batches
from stillhouse.encoders.models import Outputs, forward, weights_hash

FORMAT = "teacher outputs 1"


@dataclass(frozen=True)
class Wanted:
    """What of the teacher a pipeline looks at."""

    first_tokens: bool = False
    """States of the first token ([CLS]) of every layer."""
    layers: tuple[int, ...] = ()
    """Layers (0 the embeddings) whose states of all tokens are kept."""
    attention: tuple[int, ...] = ()
    """Layers (0 the first) whose attention is kept."""


@dataclass(frozen=True)
class TeacherBatch:
    """A teacher's outputs on a padded batch."""

    logits: Float[Tensor, "batch classes"]
    first_tokens: Float[Tensor, "batch layers width"] | None
    hidden: dict[int, Float[Tensor, "batch tokens width"]]
    attention: dict[int, Float[Tensor, "batch heads tokens tokens"]]


class TeacherOutputs:
    """The cache of one set of items, read from disk as it is needed."""

    def __init__(self, folder: Path, wanted: Wanted, items: Items) -> None:
        self.wanted, self.folder = wanted, folder
        self.lengths = items.lengths
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        self.squares = np.concatenate([[0], np.cumsum(self.lengths.astype(np.int64) ** 2)])
        self.logits = np.load(folder / "logits.npy")
        self._first = np.load(folder / "first.npy", mmap_mode="r") if wanted.first_tokens else None
        self._hidden = {i: np.load(folder / f"hidden-{i}.npy", mmap_mode="r") for i in wanted.layers}
        self._attention = {i: np.load(folder / f"attention-{i}.npy", mmap_mode="r") for i in wanted.attention}

    def batch(self, index: np.ndarray) -> TeacherBatch:
        """The outputs of these items, padded to the longest of them."""
        length = int(self.lengths[index].max())
        first = None if self._first is None else torch.from_numpy(self._first[index].astype(np.float32))
        return TeacherBatch(
            torch.from_numpy(self.logits[index]),
            first,
            {i: self._padded(flat, index, length) for i, flat in self._hidden.items()},
            {i: self._squares_of(flat, index, length) for i, flat in self._attention.items()},
        )

    def _padded(self, flat: np.ndarray, index: np.ndarray, length: int) -> Tensor:
        out = np.zeros((len(index), length, flat.shape[1]), np.float32)
        for row, item in enumerate(index):
            out[row, : self.lengths[item]] = flat[self.offsets[item] : self.offsets[item + 1]]
        return torch.from_numpy(out)

    def _squares_of(self, flat: np.ndarray, index: np.ndarray, length: int) -> Tensor:
        heads = flat.shape[1]
        out = np.zeros((len(index), heads, length, length), np.float32)
        for row, item in enumerate(index):
            n = self.lengths[item]
            block = flat[self.squares[item] : self.squares[item + 1]]
            out[row, :, :n, :n] = block.reshape(n, n, heads).transpose(2, 0, 1)
        return torch.from_numpy(out)


def outputs_key(teacher: PreTrainedModel, items: Items, wanted: Wanted) -> tuple[bytes | str, ...]:
    """What the cached outputs depend on: the teacher's weights, every id and share, and what is kept."""
    arrays = (items.first.ids, items.first.types, items.first.offsets, items.partner, items.share)
    return (FORMAT, weights_hash(teacher), repr(wanted), *(a.tobytes() for a in arrays))


def teacher_outputs(
    teacher: PreTrainedModel, items: Items, teacher_ids: np.ndarray, wanted: Wanted, batch: int = 64
) -> TeacherOutputs:
    """The teacher's outputs on `items`, from the cache or computed now.

    Args:
        teacher: frozen.
        items: in the student's ids.
        teacher_ids: [student pieces] the teacher's id of each.
        wanted: what to keep.
        batch: items a forward pass.
    """
    theirs = Items(items.first.mapped(teacher_ids), items.partner, items.share, items.labels)
    folder = cached_folder(
        "teacher-outputs", outputs_key(teacher, theirs, wanted), lambda f: _compute(teacher, theirs, wanted, batch, f)
    )
    return TeacherOutputs(folder, wanted, items)


@torch.no_grad()
def _compute(teacher: PreTrainedModel, items: Items, wanted: Wanted, batch: int, folder: Path) -> None:
    teacher.eval()
    lengths = items.lengths
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    squares = np.concatenate([[0], np.cumsum(lengths.astype(np.int64) ** 2)])
    config, n = teacher.config, len(items)
    depth = config.num_hidden_layers + 1
    logits = np.zeros((n, int(config.num_labels or 0)), np.float32)
    first = _array(folder / "first.npy", (n, depth, config.hidden_size)) if wanted.first_tokens else None
    hidden = {i: _array(folder / f"hidden-{i}.npy", (int(offsets[-1]), config.hidden_size)) for i in wanted.layers}
    attention = {
        i: _array(folder / f"attention-{i}.npy", (int(squares[-1]), config.num_attention_heads))
        for i in wanted.attention
    }
    for index in ordered_batches(lengths, batch):
        out = forward(teacher, assemble(items, index, config.pad_token_id), attention=bool(attention))
        logits[index] = out.logits.numpy()
        if first is not None:
            first[index] = torch.stack([h[:, 0] for h in out.hidden], dim=1).numpy()
        _store(hidden, attention, out, index, lengths, offsets, squares)
    np.save(folder / "logits.npy", logits)
    write_json(folder / "about.json", {"items": n, "wanted": repr(wanted), "model": config.model_type})


def _store(
    hidden: dict[int, np.ndarray],
    attention: dict[int, np.ndarray],
    out: Outputs,
    index: np.ndarray,
    lengths: np.ndarray,
    offsets: np.ndarray,
    squares: np.ndarray,
) -> None:
    for i, flat in hidden.items():
        states = out.hidden[i].numpy()
        for row, item in enumerate(index):
            flat[offsets[item] : offsets[item + 1]] = states[row, : lengths[item]]
    for i, flat in attention.items():
        shares = out.attention[i].numpy()
        for row, item in enumerate(index):
            size = lengths[item]
            block = shares[row, :, :size, :size].transpose(1, 2, 0)
            flat[squares[item] : squares[item + 1]] = block.reshape(size * size, -1)


def _array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)

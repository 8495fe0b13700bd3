"""What a teacher says of every item, computed once and kept as float16 under a hash of its weights and the items."""

from __future__ import annotations

from collections.abc import Sequence
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
from stillhouse.encoders.models import Outputs, classes_of, forward, weights_hash

FORMAT = "teacher outputs 2"


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

    def to(self, device: torch.device) -> TeacherBatch:
        """The same outputs on a device."""
        return TeacherBatch(
            self.logits.to(device),
            None if self.first_tokens is None else self.first_tokens.to(device),
            {i: states.to(device) for i, states in self.hidden.items()},
            {i: shares.to(device) for i, shares in self.attention.items()},
        )


class Part:
    """The kept outputs of one set of items, read from disk as they are needed."""

    def __init__(self, folder: Path, wanted: Wanted, lengths: np.ndarray) -> None:
        self.lengths = lengths
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        self.squares = np.concatenate([[0], np.cumsum(lengths.astype(np.int64) ** 2)])
        self.logits = np.load(folder / "logits.npy")
        self.first = np.load(folder / "first.npy", mmap_mode="r") if wanted.first_tokens else None
        self.hidden = {i: np.load(folder / f"hidden-{i}.npy", mmap_mode="r") for i in wanted.layers}
        self.attention = {i: np.load(folder / f"attention-{i}.npy", mmap_mode="r") for i in wanted.attention}


class TeacherOutputs:
    """The outputs of several sets of items, as if they were one."""

    def __init__(self, parts: Sequence[Part], wanted: Wanted) -> None:
        self.parts, self.wanted = tuple(parts), wanted
        self.starts = np.concatenate([[0], np.cumsum([len(part.lengths) for part in parts])])

    def batch(self, index: np.ndarray) -> TeacherBatch:
        """The outputs of these items, padded to the longest of them."""
        places = [self._place(int(item)) for item in index]
        length = max(int(part.lengths[i]) for part, i in places)
        first = None
        if self.wanted.first_tokens:
            first = torch.from_numpy(
                np.stack([part.first[i] for part, i in places if part.first is not None]).astype(np.float32)
            )
        return TeacherBatch(
            torch.from_numpy(np.stack([part.logits[i] for part, i in places])),
            first,
            {
                layer: _padded([p.hidden[layer][p.offsets[i] : p.offsets[i + 1]] for p, i in places], length)
                for layer in self.wanted.layers
            },
            {
                layer: _squares([p.attention[layer][p.squares[i] : p.squares[i + 1]] for p, i in places], length)
                for layer in self.wanted.attention
            },
        )

    def _place(self, item: int) -> tuple[Part, int]:
        number = int(np.searchsorted(self.starts, item, side="right")) - 1
        return self.parts[number], item - int(self.starts[number])


def _padded(rows: Sequence[np.ndarray], length: int) -> Tensor:
    out = np.zeros((len(rows), length, rows[0].shape[1]), np.float32)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(out)


def _squares(rows: Sequence[np.ndarray], length: int) -> Tensor:
    heads = rows[0].shape[1]
    out = np.zeros((len(rows), heads, length, length), np.float32)
    for place, row in zip(out, rows, strict=True):
        n = round(len(row) ** 0.5)
        place[:, :n, :n] = row.reshape(n, n, heads).transpose(2, 0, 1)
    return torch.from_numpy(out)


def outputs_key(teacher: PreTrainedModel, items: Items, kept: Wanted) -> tuple[bytes | str, ...]:
    """What kept outputs depend on: the teacher's weights, every id and share, and what is kept."""
    arrays = [a for e in (items.first, items.second) for a in (e.ids, e.types, e.offsets)]
    return (FORMAT, weights_hash(teacher), repr(kept), *(a.tobytes() for a in (*arrays, items.share)))


def teacher_outputs(
    teacher: PreTrainedModel,
    parts: Sequence[Items],
    teacher_ids: np.ndarray,
    wanted: Wanted,
    kept: Wanted | None = None,
    batch: int = 64,
) -> TeacherOutputs:
    """The teacher's outputs on `parts`, each from the cache or computed now.

    Args:
        teacher: frozen.
        parts: sets of items in the student's ids; each is kept by itself, so that what pipelines share is computed once.
        teacher_ids: [student pieces] the teacher's id of each.
        wanted: what is read.
        kept: what is computed and kept, `wanted` or more; `wanted` by default.
        batch: items a forward pass.
    """
    made = []
    for items in parts:
        theirs = items.mapped(teacher_ids)
        folder = cached_folder(
            "teacher-outputs",
            outputs_key(teacher, theirs, kept or wanted),
            lambda f, theirs=theirs: _compute(teacher, theirs, kept or wanted, batch, f),  # type: ignore[misc]
        )
        made.append(Part(folder, wanted, items.lengths))
    return TeacherOutputs(made, wanted)


@torch.no_grad()
def _compute(teacher: PreTrainedModel, items: Items, wanted: Wanted, batch: int, folder: Path) -> None:
    teacher.eval()
    lengths = items.lengths
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    squares = np.concatenate([[0], np.cumsum(lengths.astype(np.int64) ** 2)])
    config, n = teacher.config, len(items)
    depth = config.num_hidden_layers + 1
    logits = np.zeros((n, classes_of(teacher)), np.float32)
    first = _array(folder / "first.npy", (n, depth, config.hidden_size)) if wanted.first_tokens else None
    hidden = {i: _array(folder / f"hidden-{i}.npy", (int(offsets[-1]), config.hidden_size)) for i in wanted.layers}
    attention = {
        i: _array(folder / f"attention-{i}.npy", (int(squares[-1]), config.num_attention_heads))
        for i in wanted.attention
    }
    for index in ordered_batches(lengths, batch):
        out = forward(teacher, assemble(items, index, config.pad_token_id), attention=bool(attention))
        logits[index] = out.logits.cpu().numpy()
        if first is not None:
            first[index] = torch.stack([h[:, 0] for h in out.hidden], dim=1).cpu().numpy()
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
        states = out.hidden[i].cpu().numpy()
        for row, item in enumerate(index):
            flat[offsets[item] : offsets[item + 1]] = states[row, : lengths[item]]
    for i, flat in attention.items():
        shares = out.attention[i].cpu().numpy()
        for row, item in enumerate(index):
            size = lengths[item]
            block = shares[row, :, :size, :size].transpose(1, 2, 0)
            flat[squares[item] : squares[item + 1]] = block.reshape(size * size, -1)


def _array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)

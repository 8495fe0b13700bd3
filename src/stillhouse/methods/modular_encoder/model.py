"""The finished model: an encoder with exits, its tokenizer, and what is known of each exit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import content_hash, make_folder_atomically, read_json, write_json
from stillhouse.encoders.batches import ordered_batches, padded
from stillhouse.encoders.data import Texts
from stillhouse.encoders.models import to_best_device
from stillhouse.encoders.multi_exit import MultiExitEncoder, load_trunk
from stillhouse.encoders.tokens import Encoded, encode, fingerprint, load_tokenizer
from stillhouse.methods.modular_encoder.losses import prefix

Kind = Literal["text", "code"]
Exit = int | Literal["auto"]
BATCH = 64


@dataclass(frozen=True)
class ExitRow:
    """What was measured of an exit."""

    exit: int
    parameters: int
    select: float
    """MRR of descriptions to code on the select split."""
    milliseconds: float
    """Of one description, alone."""


@dataclass(frozen=True)
class Settings:
    """How texts are given to the encoder, and the measured table."""

    text_instruction: str
    code_instruction: str
    max_text_tokens: int
    max_code_tokens: int
    keep: float = 0.97
    table: tuple[ExitRow, ...] = field(default=())

    @property
    def recommended(self) -> int:
        """The shallowest exit within `keep` of the best; what "auto" means.

        Raises:
            UserError: nothing was measured.
        """
        require(bool(self.table), "no table of exits was measured for this model", "name an exit: --exit N")
        best = max(row.select for row in self.table)
        return min(row.exit for row in self.table if row.select >= self.keep * best)


class CodeEncoder:
    """Embeds descriptions and code at any exit.

    Attributes:
        encoder: the network.
        tokenizer: its tokenizer.
        settings: instructions, lengths and the table of exits.
    """

    def __init__(self, encoder: MultiExitEncoder, tokenizer: PreTrainedTokenizerFast, settings: Settings) -> None:
        self.encoder, self.tokenizer, self.settings = encoder.eval(), tokenizer, settings

    @property
    def exits(self) -> tuple[int, ...]:
        """Layers that have an exit."""
        return self.encoder.exits

    def exit_of(self, exit: Exit) -> int:
        """The exit's number; "auto" is the recommended one.

        Raises:
            UserError: no such exit.
        """
        chosen = self.settings.recommended if exit == "auto" else exit
        self.encoder.require_exit(chosen)
        return chosen

    def encode(
        self,
        texts: Sequence[str],
        kind: Kind,
        exit: Exit = "auto",
        *,
        languages: Sequence[str] | str = "",
        dimensions: int = 0,
        batch: int = BATCH,
        seen: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """[texts, dimensions] unit embeddings, float32.

        Args:
            texts: descriptions or code.
            kind: which of the two; each has an instruction of its own.
            exit: a layer that has an exit, or auto.
            languages: of the code, for instructions that name it.
            dimensions: keep the first so many numbers (Matryoshka); 0 for all.
            batch: texts at a time.
            seen: told how many texts are done.

        Raises:
            UserError: no such exit.
        """
        at = self.exit_of(exit)
        return self.encode_exits(self.tokenized(texts, kind, languages), (at,), dimensions, batch, seen)[at]

    def tokenized(self, texts: Sequence[str], kind: Kind, languages: Sequence[str] | str = "") -> Encoded:
        """Texts as ids, with the instruction of their kind."""
        return tokenized(self.tokenizer, self.settings, texts, kind, languages)

    @torch.no_grad()
    def encode_exits(
        self,
        encoded: Encoded,
        exits: Sequence[int],
        dimensions: int = 0,
        batch: int = BATCH,
        seen: Callable[[int], None] | None = None,
    ) -> dict[int, np.ndarray]:
        """Embeddings of the same texts at several exits, from one pass."""
        was_training = self.encoder.training
        self.encoder.eval()
        size = dimensions or self.encoder.dimensions
        found = {i: np.zeros((len(encoded), size), np.float32) for i in exits}
        done = 0
        for index in ordered_batches(encoded.lengths, batch) if len(encoded) else []:
            ids, mask = padded(encoded, index, int(self.tokenizer.pad_token_id))
            made = self.encoder(ids.to(self.encoder.device), mask.to(self.encoder.device), exits)
            for i, embedding in made.items():
                found[i][index] = prefix(embedding, size).cpu().numpy()
            done += len(index)
            if seen:
                seen(done)
        self.encoder.train(was_training)
        return found

    def hash(self) -> str:
        """Changes with any weight, the tokenizer, and anything that is put before or cut from a text."""
        settings = asdict(self.settings)
        kept = [
            f"{name}={settings[name]}"
            for name in ("text_instruction", "code_instruction", "max_text_tokens", "max_code_tokens")
        ]
        state = self.encoder.state_dict()
        weights = [part for name in sorted(state) for part in (name, state[name].detach().cpu().numpy().tobytes())]
        return content_hash([fingerprint(self.tokenizer), *kept, *weights])


def tokenized(
    tokenizer: PreTrainedTokenizerFast,
    settings: Settings,
    texts: Sequence[str],
    kind: Kind,
    languages: Sequence[str] | str = "",
) -> Encoded:
    """Texts as ids, with the instruction of their kind before each."""
    of = [languages] * len(texts) if isinstance(languages, str) else languages
    instruction = settings.text_instruction if kind == "text" else settings.code_instruction
    rows = [f"{instruction.replace('{language}', of[i])} {text}".strip() for i, text in enumerate(texts)]
    most = settings.max_text_tokens if kind == "text" else settings.max_code_tokens
    if not rows:
        return Encoded(np.zeros(0, np.int32), np.zeros(0, np.int8), np.zeros(1, np.int64))
    return encode(tokenizer, Texts(tuple(rows), None, np.zeros(len(rows), np.int64)), most)


def save_model(model: CodeEncoder, folder: Path) -> None:
    """The stack as a transformers folder; beside it the heads and what is known of the exits."""

    def fill(into: Path) -> None:
        model.encoder.trunk.save_pretrained(into)
        model.tokenizer.save_pretrained(into)
        save_file(head_tensors(model.encoder), into / "heads.safetensors")
        write_json(
            into / "exits.json",
            {"exits": model.exits, "dimensions": model.encoder.dimensions, **asdict(model.settings)},
        )

    make_folder_atomically(folder, fill)


def head_tensors(encoder: MultiExitEncoder) -> dict[str, torch.Tensor]:
    """Weights of the norms and projections by exit."""
    state = encoder.state_dict()
    return {name: value.contiguous() for name, value in state.items() if not name.startswith("trunk.")}


def load_model(folder: Path) -> CodeEncoder:
    """What `save_model` wrote.

    Raises:
        UserError: no such folder, or a file of it is missing or damaged.
    """
    record = read_json(folder / "exits.json")
    try:
        rows = tuple(ExitRow(**row) for row in record.pop("table"))
        exits, dimensions = record.pop("exits"), record.pop("dimensions")
        settings = Settings(**record, table=rows)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder / 'exits.json'} is not of this version ({first_line(error)})", "train the model again"
        ) from error
    encoder = MultiExitEncoder(load_trunk(folder), exits, dimensions)
    try:
        heads = load_file(folder / "heads.safetensors")
        missing: Any = encoder.load_state_dict(heads, strict=False)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(
            f"{folder / 'heads.safetensors'} is damaged ({first_line(error)})", "restore the folder"
        ) from error
    lost = [name for name in missing.missing_keys if not name.startswith("trunk.")]
    require(not lost, f"{folder / 'heads.safetensors'} lacks {', '.join(lost[:3])}", "restore the folder")
    to_best_device(encoder)  # type: ignore[arg-type]
    return CodeEncoder(encoder, load_tokenizer(folder), settings)

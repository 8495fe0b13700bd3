"""What the encoder is trained on, as ids: windows of two snippets, and pairs of text and code or code and code."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.code_functions import Function
from stillhouse.corpus.code_retrieval import translation_pairs
from stillhouse.corpus.code_rewrites import renamed, rewritten
from stillhouse.corpus.code_sets import CodeSet, documented, shortened
from stillhouse.encoders.batches import padded
from stillhouse.encoders.tokens import Encoded, join
from stillhouse.methods.modular_encoder.config import Config
from stillhouse.methods.modular_encoder.model import Kind, Settings, tokenized


@dataclass(frozen=True)
class PairSet:
    """Pairs of one kind, in ids."""

    kind: Kind
    """Of the first side."""
    first: Encoded
    second: Encoded
    renamed: Encoded
    """The second side with names changed."""
    first_ids: np.ndarray
    """[pairs] equal for equal first sides, which are no negatives of one another."""
    second_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    @property
    def lengths(self) -> np.ndarray:
        """[pairs] tokens of both sides."""
        return self.first.lengths + self.second.lengths


@dataclass(frozen=True)
class Windows:
    """Snippets for pre-training and the repository of each."""

    snippets: Encoded
    repositories: np.ndarray
    """[snippets] number of the repository."""

    @property
    def several(self) -> bool:
        """Whether there is another repository to draw from, and a second snippet in one."""
        counts = np.bincount(self.repositories)
        return len(counts) > 1 and bool((counts > 1).any())


@dataclass(frozen=True)
class Material:
    """All that training needs."""

    tokenizer: PreTrainedTokenizerFast
    settings: Settings
    windows: Windows
    text_pairs: PairSet
    code_pairs: PairSet
    names: tuple[str, ...]
    """Names that training functions use, from which new names are drawn."""

    @property
    def counts(self) -> np.ndarray:
        """[pieces] how often each occurs in the training pairs."""
        found = [part.ids for part in (self.text_pairs.first, self.text_pairs.second)]
        return np.bincount(np.concatenate(found), minlength=len(self.tokenizer))


def settings_of(config: Config) -> Settings:
    """How texts are given to the encoder."""
    return Settings(
        config.text_instruction, config.code_instruction, config.max_text_tokens, config.max_code_tokens, config.keep
    )


def make_material(code: CodeSet, tokenizer: PreTrainedTokenizerFast, config: Config) -> Material:
    """Training functions as ids."""
    names = tuple(sorted({name for function in code.train for name in function.identifiers}))
    settings = settings_of(config)
    pairs = shortened(documented(code.train), config.pairs, config.seed)
    return Material(
        tokenizer,
        settings,
        _windows(code.train, tokenizer, config),
        _text_pairs(pairs, names, tokenizer, settings, config.seed),
        _code_pairs(code.train, names, tokenizer, settings, config),
        names,
    )


def _windows(train: Sequence[Function], tokenizer: PreTrainedTokenizerFast, config: Config) -> Windows:
    """Snippets are functions with their documentation and nothing of their file, so no header tells the repository."""
    half = Settings("", "", 0, config.window_tokens // 2)
    snippets = tokenized(tokenizer, half, [f"{f.doc}\n{f.code}" for f in train], "code")
    numbers = {name: i for i, name in enumerate(sorted({f.repository for f in train}))}
    return Windows(snippets, np.array([numbers[f.repository] for f in train]))


def _text_pairs(
    pairs: Sequence[Function], names: Sequence[str], tokenizer: PreTrainedTokenizerFast, settings: Settings, seed: int
) -> PairSet:
    languages, codes = [f.language for f in pairs], [f.code for f in pairs]
    changed = [renamed(f.code, f.identifiers, names, _draw(seed, i)) for i, f in enumerate(pairs)]
    return PairSet(
        "text",
        tokenized(tokenizer, settings, [f.doc for f in pairs], "text", languages),
        tokenized(tokenizer, settings, codes, "code", languages),
        tokenized(tokenizer, settings, changed, "code", languages),
        _groups([f.doc.lower() for f in pairs]),
        _groups(codes),
    )


def _draw(seed: int, i: int) -> random.Random:
    return random.Random(derive_seed("renamed", seed, i))


def _code_pairs(
    train: Sequence[Function],
    names: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    settings: Settings,
    config: Config,
) -> PairSet:
    """Functions and their rewrites, and the translations asked for."""
    rows = [
        (f.code, f.language, rewritten(f, names, derive_seed("rewritten", config.seed, i)), f.language)
        for i, f in enumerate(train)
    ]
    rows += [pair for name in config.translations for pair in translation_pairs(name)]
    first, first_languages, second, second_languages = (list(column) for column in zip(*rows, strict=True))
    made = tokenized(tokenizer, settings, second, "code", second_languages)
    return PairSet(
        "code",
        tokenized(tokenizer, settings, first, "code", first_languages),
        made,
        made,  # rewrites have new names already
        _groups(first),
        _groups(second),
    )


def _groups(texts: Sequence[str]) -> np.ndarray:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts])


def draw_windows(windows: Windows, index: np.ndarray, pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and same-repository labels of windows [CLS] A [SEP] B [SEP].

    A is the snippet of each index; B comes from A's repository for half of them and from another one for the rest.
    """
    same = torch.rand(len(index)).numpy() < 0.5
    partners = np.array([_partner(windows, int(i), wanted) for i, wanted in zip(index, same, strict=True)])
    labels = windows.repositories[index] == windows.repositories[partners]
    rows = []
    for a, b in zip(index, partners, strict=True):
        rows.append(np.concatenate([windows.snippets.row(int(a)), windows.snippets.row(int(b))[1:]]))
    lengths = np.array([len(row) for row in rows])
    flat = Encoded(
        np.concatenate(rows), np.zeros(int(lengths.sum()), np.int8), np.concatenate([[0], np.cumsum(lengths)])
    )
    ids, mask = padded(flat, np.arange(len(rows)), pad_id)
    return ids, mask, torch.from_numpy(labels.astype(np.float32))


def _partner(windows: Windows, first: int, same: bool) -> int:
    """Another snippet of the repository, or one of another; whichever there is, where there is no such snippet."""
    mine = windows.repositories == windows.repositories[first]
    wanted = mine if same else ~mine
    wanted[first] = False
    if not wanted.any():
        wanted = np.arange(len(mine)) != first
    places = np.flatnonzero(wanted)
    return int(places[int(torch.randint(len(places), ()))])


def mixed_code(pairs: PairSet, index: np.ndarray, share: float) -> Encoded:
    """The pairs' second sides, a share of them with other names."""
    changed = torch.rand(len(index)).numpy() < share
    both = join([pairs.second.take(index), pairs.renamed.take(index)])
    return both.take(np.where(changed, np.arange(len(index)) + len(index), np.arange(len(index))))

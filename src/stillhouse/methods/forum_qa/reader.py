"""A reader: a model, its tokenizer, how windows are cut, when it says nothing, and how sure it is.

    best span = argmax_{i <= j < i + l} s_i + e_j over all windows,   null = min over windows of s_0 + e_0

A span is given where its score is more than `threshold` above null; the threshold is chosen on the select split. The
confidences of the n best are softmax((s_i + e_j, null) / T), with T found on the select split too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    ElectraForQuestionAnswering,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import make_folder_atomically, read_json, write_json
from stillhouse.corpus.spans import Span
from stillhouse.corpus.squad import Question
from stillhouse.encoders.batches import assemble, ordered_batches
from stillhouse.encoders.models import Batch, load_config, minilm_folder, most_tokens, to_best_device
from stillhouse.encoders.tokens import load_tokenizer
from stillhouse.methods.forum_qa.losses import masked
from stillhouse.methods.forum_qa.metrics import (
    best_temperature,
    best_threshold,
    mark,
)
from stillhouse.methods.forum_qa.windows import Windows, make_windows

KEPT = 8
"""Candidates of a window that are looked at; as many are kept of a question."""


@dataclass(frozen=True)
class Reading:
    """How a reader reads; part of the saved model."""

    max_tokens: int = 160
    stride: int = 48
    max_answer_tokens: int = 30
    threshold: float = 0.0
    temperature: float = 1.0


class Candidate(NamedTuple):
    """A span with its score, or "no answer" (span None)."""

    span: Span | None
    score: float


class Answer(NamedTuple):
    """What a reader says: `span` None for "the passage does not say"."""

    span: Span | None
    confidence: float


def forward(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Start and end scores [batch, tokens] of padded windows."""
    batch = batch.to(model.device)
    types = {"token_type_ids": batch.types} if getattr(model.config, "type_vocab_size", 0) > 1 else {}
    made = model(input_ids=batch.first, attention_mask=batch.mask.long(), **types)
    return made.start_logits, made.end_logits


def allowed(windows: Windows, index: np.ndarray, tokens: int) -> Tensor:
    """[batch, tokens] where an answer of these windows may begin or end."""
    made = np.zeros((len(index), tokens), bool)
    for row, window in enumerate(index):
        inside = windows.allowed(int(window))
        made[row, : len(inside)] = inside
    return torch.from_numpy(made)


@torch.no_grad()
def window_scores(model: PreTrainedModel, windows: Windows, batch: int = 32) -> list[np.ndarray]:
    """[2, tokens] start and end scores of every window; NEVER outside the passage."""
    was_training = model.training
    model.eval()
    found: list[np.ndarray] = [np.zeros((2, 0))] * len(windows)
    for index in ordered_batches(windows.items.lengths, batch):
        part = assemble(windows.items, index, model.config.pad_token_id)
        inside = allowed(windows, index, part.first.shape[1])
        scores = torch.stack([masked(s.cpu(), inside) for s in forward(model, part)], 1).numpy()
        for row, window in enumerate(index):
            found[window] = scores[row, :, : windows.items.lengths[window]]
    model.train(was_training)
    return found


def candidates(windows: Windows, scores: Sequence[np.ndarray], questions: int, longest: int) -> list[list[Candidate]]:
    """The n best spans of every question over all its windows, best first, and "no answer" at the end."""
    spans: list[dict[Span, float]] = [{} for _ in range(questions)]
    nulls = np.full(questions, np.inf)
    for window, number in enumerate(windows.question):
        nulls[number] = min(nulls[number], float(scores[window][:, 0].sum()))
        first, last = windows.items.first.offsets[window : window + 2]
        for i, j, value in _best_spans(scores[window], longest):
            span = Span(int(windows.begins[first:last][i]), int(windows.stops[first:last][j]))
            spans[number][span] = max(value, spans[number].get(span, -np.inf))
    return [
        [
            *(Candidate(s, v) for s, v in sorted(found.items(), key=lambda kv: -kv[1])[:KEPT]),
            Candidate(None, float(null)),
        ]
        for found, null in zip(spans, nulls, strict=True)
    ]


def _best_spans(scores: np.ndarray, longest: int) -> list[tuple[int, int, float]]:
    """The best (i, j, s_i + e_j) of a window with i <= j < i + longest, token 0 and forbidden ones left out."""
    inside = np.flatnonzero(scores[0] > -9e3)
    inside = inside[inside > 0]
    top = [inside[np.argsort(-row[inside], kind="stable")[:KEPT]] for row in scores]
    pairs = [
        (int(i), int(j), float(scores[0, i] + scores[1, j])) for i in top[0] for j in top[1] if i <= j < i + longest
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:KEPT]


@dataclass(frozen=True)
class Reader:
    """A model that answers questions on a passage with a span of it, or with nothing."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    reading: Reading

    def windows(self, questions: Sequence[Question]) -> Windows:
        """The questions as this reader sees them."""
        return make_windows(self.tokenizer, questions, self.reading.max_tokens, self.reading.stride)

    def candidates(self, questions: Sequence[Question], windows: Windows | None = None) -> list[list[Candidate]]:
        """n best of every question."""
        if not questions:
            return []
        windows = self.windows(questions) if windows is None else windows
        scores = window_scores(self.model, windows)
        return candidates(windows, scores, len(questions), self.reading.max_answer_tokens)

    def answers(self, found: Sequence[Candidate]) -> list[Answer]:
        """Candidates with confidences; first what the reader says, by the threshold."""
        shares = softmax(np.array([c.score for c in found]) / self.reading.temperature)
        answers = [Answer(c.span, float(share)) for c, share in zip(found, shares, strict=True)]
        says_nothing = margin(found) <= self.reading.threshold
        return sorted(answers, key=lambda a: ((a.span is not None) == says_nothing, -a.confidence))

    def ask(self, question: str, passages: Sequence[str]) -> list[list[Answer]]:
        """Answers to one question on each of some passages."""
        asked = [Question(str(i), question, passage, (), "") for i, passage in enumerate(passages)]
        return [self.answers(found) for found in self.candidates(asked)]

    def predictions(self, questions: Sequence[Question], found: Sequence[Sequence[Candidate]]) -> list[str]:
        """The text of what the reader says to each question; "" where it says nothing."""
        tops = [self.answers(c)[0].span for c in found]
        return ["" if span is None else span.of(q.context) for q, span in zip(questions, tops, strict=True)]


def softmax(scores: np.ndarray) -> np.ndarray:
    """Shares that sum to 1."""
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def margin(found: Sequence[Candidate]) -> float:
    """Score of the best span less that of "no answer"; very low where no span is possible."""
    null = found[-1].score
    return found[0].score - null if found[0].span is not None else -1e9


def tuned(reader: Reader, questions: Sequence[Question], found: Sequence[Sequence[Candidate]]) -> Reader:
    """The reader with threshold and temperature of its select questions."""
    f1 = [
        [mark("" if c.span is None else c.span.of(q.context), q.golds) for c in row]
        for q, row in zip(questions, found, strict=True)
    ]
    threshold = best_threshold(
        np.array([margin(row) for row in found]),
        np.array([row[0].f1 for row in f1]),
        np.array([row[-1].f1 for row in f1]),
    )
    scores = [np.array([c.score for c in row]) for row in found]
    temperature = best_temperature(scores, [np.array([m.exact > 0 for m in row]) for row in f1])
    return replace(reader, reading=replace(reader.reading, threshold=threshold, temperature=temperature))


def reader_source(name: str) -> tuple[Path, int]:
    """Folder and layers to keep (0: all) of "minilm", "minilm-3" or a folder."""
    if name == "minilm":
        return minilm_folder(), 0
    if name.startswith("minilm-") and name[7:].isdigit() and int(name[7:]) > 0:
        return minilm_folder(), int(name[7:])
    return Path(name), 0


def is_reader(config: Any) -> bool:
    """Whether the folder's model is fine-tuned for questions already."""
    return any(name.endswith("ForQuestionAnswering") for name in config.architectures or ())


def load_reader_model(folder: Path, layers: int = 0) -> PreTrainedModel:
    """An encoder with start and end scores; these are new where the folder has none.

    Args:
        folder: saved by transformers, with safetensors weights.
        layers: keep the first so many; 0 keeps all.

    Raises:
        UserError: no such folder, damaged, without safetensors, or of fewer layers.
    """
    config = load_config(folder)
    has = getattr(config, "num_hidden_layers", 0)
    require(layers <= has, f"the model in {folder} has {has} layers", f"use minilm-{has} or less")
    shortened = (
        {
            "config": AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, num_hidden_layers=layers
            )
        }
        if layers
        else {}
    )
    try:
        return AutoModelForQuestionAnswering.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            **shortened,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"the model in {folder} cannot be loaded ({first_line(error)})",
            "give a BERT, DistilBERT, RoBERTa or ELECTRA type encoder saved with model.save_pretrained(folder)",
        ) from error


def require_positions(folder: Path, max_tokens: int) -> None:
    """Refuse windows longer than the model reads.

    Raises:
        UserError: it has fewer positions.
    """
    most = most_tokens(load_config(folder))
    require(
        max_tokens <= most,
        f"max_tokens is {max_tokens}, the model in {folder} reads {most}",
        f"use --max-tokens {most} or less",
    )


def new_reader_model(config: Any) -> PreTrainedModel:
    """A student of this (ELECTRA) config with random weights; nobody looks at its attention, so the fast one will do."""
    config._attn_implementation = "sdpa"
    return ElectraForQuestionAnswering(config)


def save_reader(reader: Reader, passages: Sequence[str], folder: Path) -> None:
    """A transformers folder with the reader's settings and the passages it may be asked about."""

    def fill(into: Path) -> None:
        reader.model.save_pretrained(into)
        reader.tokenizer.save_pretrained(into)
        write_json(into / "reader.json", vars(reader.reading))
        write_json(into / "passages.json", list(passages))

    make_folder_atomically(folder, fill)


def load_reader(folder: Path) -> Reader:
    """A reader that `save_reader` wrote.

    Raises:
        UserError: a file is missing or of another version.
    """
    try:
        reading = Reading(**read_json(folder / "reader.json"))
    except TypeError as error:
        raise UserError(f"{folder / 'reader.json'} is of another version ({error})", "run forum_qa again") from error
    model = to_best_device(load_reader_model(folder)).eval()
    return Reader(model, load_tokenizer(folder), reading)


def passages_of(folder: Path) -> list[str]:
    """The passages saved beside a reader."""
    return cast(list[str], read_json(folder / "passages.json"))

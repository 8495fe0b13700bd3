"""What super-networks learn from and are scored on: texts in ids, and the teacher's relations on them from the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from stillhouse.core.errors import require
from stillhouse.encoders.batches import Items, assemble, ordered_batches, plain_items
from stillhouse.encoders.corpora import Corpus, load_corpus
from stillhouse.encoders.costs import Architecture, Tables
from stillhouse.encoders.data import Texts
from stillhouse.encoders.elastic import ElasticBert
from stillhouse.encoders.layers import layer_parts
from stillhouse.encoders.models import Batch, load_config, load_encoder, minilm_folder, most_tokens, shape_of
from stillhouse.encoders.outputs import TeacherOutputs, Wanted, teacher_outputs
from stillhouse.encoders.relations import Projections, fitting_heads, relation_kl, relation_loss, relation_scores
from stillhouse.encoders.tokens import encode, load_tokenizer
from stillhouse.methods.autodistil.config import Config


@dataclass(frozen=True, eq=False)
class Teacher:
    """A frozen encoder, and the layer whose relations are taught."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    folder: Path
    layer: int
    """0 is the first."""

    @property
    def shape(self) -> Architecture:
        """Its size."""
        found = shape_of(self.model.config)
        return Architecture(found.layers, found.heads, found.width, found.feed_forward)

    @property
    def pad_id(self) -> int:
        """Of its tokenizer."""
        return int(self.tokenizer.pad_token_id)

    @torch.no_grad()
    def projections(self, states: Tensor) -> Projections:
        """Queries, keys and values of the layer, from the states that enter it."""
        parts = layer_parts(self.model)[self.layer]
        return Projections(
            *(functional.linear(states, m.weight, m.bias) for m in (parts.query, parts.key, parts.value))
        )


def teacher_folder(config: Config) -> Path:
    """Where the teacher lies."""
    return minilm_folder() if config.teacher == "minilm" else Path(config.teacher)


def open_teacher(config: Config) -> Teacher:
    """The named teacher.

    Raises:
        UserError: no such folder, a model whose queries, keys and values cannot be read, or too few positions or layers.
    """
    folder = teacher_folder(config)
    most = most_tokens(load_config(folder))
    require(
        config.max_tokens <= most,
        f"max_tokens is {config.max_tokens}, the model in {folder} reads {most}",
        f"use --max-tokens {most} or less",
    )
    model = load_encoder(folder)
    layers = len(layer_parts(model))
    require(-config.teacher_layer <= layers, f"the teacher has {layers} layers", f"use --teacher-layer -{layers} to -1")
    return Teacher(model.requires_grad_(False).eval(), load_tokenizer(folder), folder, layers + config.teacher_layer)


def tables_of(teacher: Teacher) -> Tables:
    """Rows of the students' embeddings: the teacher's words and positions, and its token types, or one."""
    config = teacher.model.config
    kinds = max(1, int(getattr(config, "type_vocab_size", 1)))
    return Tables(int(config.vocab_size), most_tokens(config), kinds)


def relation_heads_of(config: Config, teacher: Teacher) -> int:
    """Parts that all widths can be split into.

    Raises:
        UserError: the number that was asked for does not divide a width.
    """
    widths = [teacher.shape.hidden, *(h for space in config.parsed() for h in space.hidden)]
    if not config.relation_heads:
        return fitting_heads(widths, teacher.shape.heads)
    odd = next((w for w in widths if w % config.relation_heads), None)
    require(odd is None, f"{config.relation_heads} relation heads do not divide width {odd}", "use --relation-heads 0")
    return config.relation_heads


@dataclass(frozen=True, eq=False)
class Lesson:
    """Training texts and the states that enter the teacher's layer on them."""

    teacher: Teacher
    items: Items
    told: TeacherOutputs
    relation_heads: int
    kind: str

    def loss(self, network: ElasticBert, shape: Architecture, batch: Batch, theirs: Projections) -> Tensor:
        """Relation loss of one architecture on a batch."""
        ours = network.last_projections(shape, batch)
        return relation_loss(ours, theirs, batch.mask.to(ours.query.device), self.relation_heads, self.kind)

    def batch(self, index: np.ndarray, device: torch.device) -> tuple[Batch, Projections]:
        """A padded batch and the teacher's queries, keys and values on it."""
        states = self.told.batch(index).hidden[self.teacher.layer]
        theirs = self.teacher.projections(states)
        return assemble(self.items, index, self.teacher.pad_id).to(device), Projections(*(p.to(device) for p in theirs))


@dataclass(frozen=True, eq=False)
class Exam:
    """Held-out texts with the teacher's relations, ready to score one architecture after the other."""

    batches: tuple[tuple[Batch, tuple[Tensor, ...]], ...]
    """Each with the teacher's relation scores of queries, keys and values."""
    relation_heads: int
    uninformed: float
    """Loss of a student that relates every token to all alike."""

    @torch.no_grad()
    def loss(self, network: ElasticBert, shape: Architecture) -> float:
        """KL between teacher's and student's relations, mean over tokens; without any fine-tuning."""
        total, tokens = 0.0, 0
        for batch, theirs in self.batches:
            ours = network.last_projections(shape, batch)
            mask = batch.mask.to(ours.query.device)
            parts = [
                relation_kl(relation_scores(o, self.relation_heads), t, mask) for o, t in zip(ours, theirs, strict=True)
            ]
            count = int(mask.sum())
            total, tokens = total + float(torch.stack(parts).sum()) * count, tokens + count
        return total / tokens

    def kept(self, loss: float) -> float:
        """Share of the teacher's relations: 1 is the teacher, 0 knows nothing."""
        return 1 - loss / self.uninformed


def make_exam(teacher: Teacher, items: Items, told: TeacherOutputs, relation_heads: int, device: torch.device) -> Exam:
    """The exam of these texts."""
    batches, total, tokens = [], 0.0, 0
    for index in ordered_batches(items.lengths, 32):
        batch = assemble(items, index, teacher.pad_id).to(device)
        theirs = teacher.projections(told.batch(index).hidden[teacher.layer])
        scores = tuple(relation_scores(p.to(device), relation_heads) for p in theirs)
        blind = sum(float(relation_kl(torch.zeros_like(s), s, batch.mask)) for s in scores)
        count = int(batch.mask.sum())
        total, tokens = total + blind * count, tokens + count
        batches.append((batch, scores))
    return Exam(tuple(batches), relation_heads, total / tokens)


@dataclass(frozen=True, eq=False)
class Classroom:
    """All that a run teaches with and judges by."""

    teacher: Teacher
    corpus: Corpus
    lesson: Lesson
    select: Exam
    report: Exam
    truncated: int


def open_classroom(config: Config, device: torch.device) -> Classroom:
    """Read the texts, open the teacher, and get its states from the cache or compute them.

    Raises:
        UserError: something in texts or teacher does not fit, or there are fewer texts than a batch.
    """
    teacher = open_teacher(config)
    heads = relation_heads_of(config, teacher)
    corpus = load_corpus(config.data, most_train=config.texts, most_held=config.held_texts)
    fewest = len(corpus.train)
    require(
        fewest >= config.batch,
        f"{config.data} has {fewest} texts to learn from, a batch {config.batch}",
        f"give more text, or use --batch {max(1, fewest)}",
    )
    items = [_items(teacher, texts, config.max_tokens) for texts in (corpus.train, corpus.select, corpus.report)]
    same_ids = np.arange(tables_of(teacher).words)
    teacher.model.to(device)  # type: ignore[arg-type]
    told = [teacher_outputs(teacher.model, [part], same_ids, Wanted(layers=(teacher.layer,))) for part in items]
    teacher.model.to("cpu")  # type: ignore[arg-type]
    select, report = (make_exam(teacher, items[i], told[i], heads, device) for i in (1, 2))
    lesson = Lesson(teacher, items[0], told[0], heads, config.loss)
    return Classroom(teacher, corpus, lesson, select, report, sum(part.first.truncated for part in items))


def _items(teacher: Teacher, texts: tuple[str, ...], max_tokens: int) -> Items:
    rows = Texts(texts, None, np.zeros(len(texts), np.int64))
    return plain_items(encode(teacher.tokenizer, rows, max_tokens))

"""The encoder family: fine-tuned on marked sentences (the teacher), and the student distilled from it.

teacher   L = - 1/N sum_i log softmax(W [h_a ; h_b])_{r_i}      h_a, h_b: states at the two markers (encoders/marked_pairs.py)
student   L = h CE(r, z_S) + (1 - h) tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau)), also on pairs that nobody labelled
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from stillhouse.core.cache import cache_root
from stillhouse.core.errors import require
from stillhouse.core.files import content_hash, make_folder_atomically
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed, seed_everything
from stillhouse.encoders.batches import NO_LABEL, join_items, plain_items
from stillhouse.encoders.data import TextData, Texts, cut
from stillhouse.encoders.inherit import inherit
from stillhouse.encoders.marked_pairs import MarkedPairForSequenceClassification, marker_ids, open_classifier
from stillhouse.encoders.masked_lm import MaskedLM, pretrain
from stillhouse.encoders.models import (
    Shape,
    is_classifier,
    load_classifier,
    load_config,
    load_encoder,
    minilm_folder,
    new_student,
    parameters,
    shape_of,
    to_best_device,
    weights_hash,
)
from stillhouse.encoders.outputs import Wanted, teacher_outputs
from stillhouse.encoders.teacher import Plan, Teacher, get_teacher
from stillhouse.encoders.tokens import encode, load_tokenizer, pruned_vocabulary, whole_vocabulary
from stillhouse.encoders.training import Recipe, predict
from stillhouse.knowledge.pairs import MARKERS, Pair, marked
from stillhouse.methods.biomedical_relations.classical import softmax
from stillhouse.methods.biomedical_relations.config import Config
from stillhouse.methods.biomedical_relations.data import Examples, RelationData
from stillhouse.methods.distiller.config import Pipeline
from stillhouse.methods.distiller.student import Distillation, distil_student

MOST_SELECT = 300
"""Pairs that updates are chosen on."""


class Encoder:
    """A fine-tuned encoder and its tokenizer, reading marked sentences."""

    def __init__(
        self, kind: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, max_tokens: int, blind: bool
    ) -> None:
        self.kind, self.model, self.tokenizer, self.max_tokens, self.blind = kind, model, tokenizer, max_tokens, blind
        self.parameters = parameters(model)
        self.truncated = 0
        """Pairs so far whose marked sentence was longer than max_tokens."""

    def predict(self, pairs: Sequence[Pair], batch: int = 64) -> np.ndarray:
        """[pairs, relations] probabilities."""
        if not pairs:
            return np.zeros((0, int(self.model.config.num_labels or 0)))
        texts = Texts(tuple(marked(p, self.blind) for p in pairs), None, np.zeros(len(pairs), np.int64))
        encoded = encode(self.tokenizer, texts, self.max_tokens)
        self.truncated += encoded.truncated
        return softmax(predict(self.model, plain_items(encoded), batch))

    def save(self, folder: Path) -> None:
        """A transformers folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def load(cls, folder: Path, kind: str, max_tokens: int, blind: bool) -> Encoder:
        """What `save` wrote."""
        model = to_best_device(open_classifier(folder)).eval()
        return cls(kind, model, load_tokenizer(folder), max_tokens, blind)


def text_data(data: RelationData, train: Examples) -> TextData:
    """The task as the text workbench takes it."""
    made = data.as_text_data(train)
    return replace(made, select=cut(made.select, MOST_SELECT))


def plan_of(config: Config, source: str) -> Plan:
    """How an encoder is fine-tuned."""
    width = config.scratch_width
    scratch = Shape(config.scratch_layers, width, max(1, width // 32), 4 * width, width)
    return Plan(
        source,
        config.teacher_updates,
        config.teacher_rate,
        config.max_tokens,
        scratch,
        2000,
        config.scratch_updates,
        config.seed,
        config.teacher_batch,
        MARKERS,
    )


def train_encoder(config: Config, data: RelationData, train: Examples, run: Run, source: str = "") -> Teacher:
    """The fine-tuned encoder, from the cache where it was made before."""
    return get_teacher(plan_of(config, source or config.model), text_data(data, train), run)


def adapted(config: Config, data: RelationData, run: Run) -> Path:
    """The encoder after masked language modelling on the task's own training texts, kept in the cache.

    Raises:
        UserError: the model has a classification head already, or comes from scratch.
    """
    require(
        config.model != "scratch", "an encoder from scratch has nothing to adapt", "leave adapted_encoder out of --arms"
    )
    source = minilm_folder() if config.model == "minilm" else Path(config.model)
    require(
        not is_classifier(load_config(source)),
        f"the model in {source} is fine-tuned already",
        "leave adapted_encoder out of --arms",
    )
    texts = _corpus(data)
    seed_everything(config.seed, "adapted head")
    model, tokenizer = to_best_device(load_classifier(source, ("a", "b"))), load_tokenizer(source)
    key = (
        "adapted 1",
        weights_hash(cast(PreTrainedModel, model.base_model)),
        repr((config.adapt_updates, config.max_tokens, config.seed)),
        *texts.first,
    )
    folder = cache_root() / "adapted-encoders" / content_hash(key)
    if not folder.is_dir():
        items = plain_items(encode(tokenizer, texts, config.max_tokens))
        recipe = Recipe(config.adapt_updates, config.batch, 1e-4)
        lm = MaskedLM(model).to(model.device)
        special, mask = tokenizer.all_special_ids, int(tokenizer.mask_token_id)
        pretrain(lm, items, special, mask, recipe, run, "pretraining", derive_seed("adapted", config.seed))

        def fill(into: Path) -> None:
            cast(PreTrainedModel, model.base_model).save_pretrained(into)
            tokenizer.save_pretrained(into)

        make_folder_atomically(folder, fill)
        shutil.rmtree(run.checkpoint_folder / "pretraining", ignore_errors=True)
    return folder


def _corpus(data: RelationData) -> Texts:
    """Sentences of the training split and of the unlabelled pairs, each once."""
    found = tuple(dict.fromkeys(p.sentence for p in (*data.train.pairs, *data.unlabelled)))
    return Texts(found, None, np.zeros(len(found), np.int64))


def _untaught(config: Config) -> PreTrainedModel | None:
    """The encoder before it became a teacher; of one from scratch nothing is kept, a student without a teacher starts at random."""
    if config.model == "scratch":
        return None
    return load_encoder(minilm_folder() if config.model == "minilm" else Path(config.model))


@dataclass(frozen=True)
class Distilled:
    """A student, and what it took."""

    extractor: Encoder
    seconds: float
    updates: int


def distil(
    config: Config,
    data: RelationData,
    train: Examples,
    teacher: Teacher,
    run: Run,
    *,
    labels_only: bool = False,
    name: str = "",
) -> Distilled:
    """Train the student on labelled and unlabelled pairs as the teacher tells them, or (`labels_only`) on labels alone.

    It starts from the teacher's first layers; with labels alone from the same layers before they were fine-tuned.
    Of pairs that share a sentence all are kept: the teacher says something else about each.
    """
    free = Texts(tuple(marked(p, data.blind) for p in data.unlabelled), None, np.full(len(data.unlabelled), NO_LABEL))
    known, select = text_data(data, train).train, text_data(data, train).select
    everything = Texts((*known.first, *free.first), None, np.concatenate([known.labels, free.labels]))
    is_bert = teacher.model.config.model_type == "bert"
    vocabulary = pruned_vocabulary(teacher.tokenizer, everything) if is_bert else whole_vocabulary(teacher.tokenizer)
    theirs = shape_of(teacher.model.config)
    shape = Shape(
        min(config.layers, theirs.layers),
        theirs.width,
        theirs.heads,
        min(config.feed_forward, theirs.feed_forward),
        config.embedding or theirs.embedding,
    )
    seed_everything(config.seed, "student weights")
    plain = new_student(
        shape, len(vocabulary), config.max_tokens, data.relations, int(vocabulary.tokenizer.pad_token_id)
    )
    student = MarkedPairForSequenceClassification(
        cast(PreTrainedModel, plain.base_model), data.relations, marker_ids(vocabulary.tokenizer, MARKERS)
    )
    source = _untaught(config) if labels_only else teacher.model
    if source is not None:
        inherit(student, source, vocabulary.teacher_ids, "first")
    to_best_device(student)
    parts = [plain_items(encode(vocabulary.tokenizer, t, config.max_tokens), t.labels) for t in (known, free) if len(t)]
    parts = parts[:1] if labels_only else parts
    pipeline = Pipeline(prediction="kl", hard_weight=1.0 if labels_only else config.hard_weight)
    told = None if labels_only else teacher_outputs(teacher.model, parts, vocabulary.teacher_ids, Wanted())
    chosen = plain_items(encode(vocabulary.tokenizer, select, config.max_tokens), select.labels)
    recipe = Recipe(config.updates, config.batch, config.rate)
    work = Distillation(
        pipeline, join_items(parts), told, chosen, "macro_f1", theirs, recipe, config.temperature, 0.0, False, 1e-3
    )
    kind = "labels_only" if labels_only else "student"
    best, fitted = distil_student(student, work, run, f"{kind}{name}", derive_seed(kind, config.seed))
    run.log(f"{kind}: best of select at update {best.update}")
    return Distilled(
        Encoder(kind, student, vocabulary.tokenizer, config.max_tokens, data.blind), fitted.seconds, fitted.updates
    )

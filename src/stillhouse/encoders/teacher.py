"""Fine-tuned teachers: a folder as it is, an encoder fine-tuned here and kept in the cache, or a small one from scratch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from stillhouse.core.cache import trained_once
from stillhouse.core.errors import require
from stillhouse.core.files import content_hash, read_json, write_json
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed, seed_everything
from stillhouse.encoders.batches import Items, plain_items
from stillhouse.encoders.data import TextData, Texts
from stillhouse.encoders.marked_pairs import (
    MarkedPairForSequenceClassification,
    marker_ids,
    new_pair_classifier,
    open_classifier,
)
from stillhouse.encoders.masked_lm import MaskedLM, pretrain
from stillhouse.encoders.models import (
    Shape,
    is_classifier,
    load_classifier,
    load_config,
    minilm_folder,
    most_tokens,
    new_student,
    to_best_device,
)
from stillhouse.encoders.tokens import encode, fingerprint, load_tokenizer, train_wordpiece
from stillhouse.encoders.training import Recipe, finetune

RECIPE = "text teacher 1"
"""Part of the cache's key: to be changed with anything in the training that the plan does not name."""
BATCH = 32


@dataclass(frozen=True)
class Plan:
    """Where a teacher comes from and what is done to it."""

    source: str
    """minilm, scratch, or a folder."""
    updates: int
    rate: float
    max_tokens: int
    scratch: Shape
    pieces: int
    pretraining_updates: int
    seed: int = 0
    batch: int = BATCH
    markers: tuple[str, ...] = field(default=(), repr=False)
    """What marks a pair in the texts: the head then reads the states at them (marked_pairs.py) instead of that of [CLS]."""


@dataclass(frozen=True)
class Teacher:
    """A frozen classifier and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    folder: Path
    training_seconds: float | None
    """None for one that came fine-tuned."""


def get_teacher(plan: Plan, data: TextData, run: Run) -> Teacher:
    """The planned teacher for this task.

    Raises:
        UserError: no such folder, its classes are not the data's, or it has fewer positions than `max_tokens`.
    """
    if plan.source == "scratch":
        folder = _trained(plan, data, run, "from scratch", lambda: _from_scratch(plan, data, run))
        return open_teacher(folder, data, plan.max_tokens)
    source = minilm_folder() if plan.source == "minilm" else Path(plan.source)
    if is_classifier(load_config(source)):
        return open_teacher(source, data, plan.max_tokens)
    require(
        plan.updates > 0, f"the model in {source} has no classification head", "fine-tune it: --teacher-updates 160"
    )
    _require_positions(source, plan.max_tokens)
    tokenizer = load_tokenizer(source)

    def start() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        seed_everything(plan.seed, "teacher head")
        if plan.markers:
            return new_pair_classifier(source, data.class_names, marker_ids(tokenizer, plan.markers)), tokenizer
        return load_classifier(source, data.class_names), tokenizer

    return open_teacher(_trained(plan, data, run, _folder_hash(source, tokenizer), start), data, plan.max_tokens)


def _folder_hash(folder: Path, tokenizer: PreTrainedTokenizerFast) -> str:
    weights = sorted(folder.glob("*.safetensors"))
    require(bool(weights), f"{folder} has no safetensors weights", "save the model with model.save_pretrained(folder)")
    return content_hash([fingerprint(tokenizer), *(f.read_bytes() for f in weights)])


def _require_positions(folder: Path, max_tokens: int) -> None:
    most = most_tokens(load_config(folder))
    require(
        max_tokens <= most,
        f"max_tokens is {max_tokens}, the model in {folder} reads {most}",
        f"use --max-tokens {most} or less",
    )


def open_teacher(folder: Path, data: TextData, max_tokens: int) -> Teacher:
    """A fine-tuned teacher whose classes are the data's, in the data's order.

    Raises:
        UserError: its classes are others.
    """
    _require_positions(folder, max_tokens)
    model = open_classifier(folder)
    names = [str(name) for _, name in sorted((model.config.id2label or {}).items())]
    unnamed = names == [f"LABEL_{i}" for i in range(len(names))]
    if unnamed and len(names) == len(data.class_names):
        names = list(data.class_names)
    require(
        set(names) == set(data.class_names),
        f"the teacher in {folder} has the classes {', '.join(names[:6])}, {data.name} has {', '.join(data.class_names[:6])}",
        "use a teacher of these classes, or an encoder without a head to fine-tune",
    )
    to_best_device(model)
    _reorder(model, [names.index(name) for name in data.class_names], data.class_names)
    model.requires_grad_(False).eval()
    made = read_json(folder / "training.json") if (folder / "training.json").exists() else {}
    return Teacher(model, load_tokenizer(folder), folder, made.get("seconds"))


@torch.no_grad()
def _reorder(model: PreTrainedModel, order: Sequence[int], class_names: Sequence[str]) -> None:
    """Put the head's rows into the data's order of classes."""
    head = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == len(order)][-1]
    head.weight.copy_(head.weight[list(order)].clone())
    head.bias.copy_(head.bias[list(order)].clone())
    model.config.id2label = dict(enumerate(class_names))
    model.config.label2id = {name: i for i, name in enumerate(class_names)}


def _trained(
    plan: Plan,
    data: TextData,
    run: Run,
    source: str,
    start: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerFast]],
) -> Path:
    """Fine-tune what `start` gives, or find it in the cache; its folder."""
    key = (
        RECIPE,
        source,
        repr(plan).replace(plan.source, ""),
        *plan.markers,
        data.content_hash,
        data.metric,
        torch.__version__,
    )

    def train() -> Callable[[Path], None]:
        model, tokenizer = start()
        to_best_device(model)
        items, select = (_items(tokenizer, texts, plan.max_tokens) for texts in (data.train, data.select))
        recipe = Recipe(plan.updates, plan.batch, plan.rate, checks=min(4, plan.updates))
        best, fitted = finetune(model, items, select, recipe, data.metric, run, "teacher", plan.seed)

        def fill(into: Path) -> None:
            model.save_pretrained(into)
            tokenizer.save_pretrained(into)
            write_json(into / "training.json", {"seconds": fitted.seconds, "select": best.score, "update": best.update})

        return fill

    return trained_once("text-teachers", key, run, "teacher", train)


def _items(tokenizer: PreTrainedTokenizerFast, texts: Texts, max_tokens: int) -> Items:
    return plain_items(encode(tokenizer, texts, max_tokens), texts.labels)


def _from_scratch(plan: Plan, data: TextData, run: Run) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A small encoder whose vocabulary and weights come from the training texts alone."""
    texts = data.train
    tokenizer = train_wordpiece((*texts.first, *(texts.second or ())), plan.pieces, plan.max_tokens)
    seed_everything(plan.seed, "scratch teacher")
    pad = int(tokenizer.pad_token_id)
    model = new_student(plan.scratch, len(tokenizer), plan.max_tokens, data.class_names, pad)
    items = _items(tokenizer, texts, plan.max_tokens)
    recipe = Recipe(plan.pretraining_updates, plan.batch, 1e-3)
    special = tokenizer.all_special_ids
    seed = derive_seed("pretraining", plan.seed)
    pretrain(MaskedLM(model), items, special, int(tokenizer.mask_token_id), recipe, run, "pretraining", seed)
    if plan.markers:
        model = MarkedPairForSequenceClassification(
            cast(PreTrainedModel, model.base_model), data.class_names, marker_ids(tokenizer, plan.markers)
        )
    return model, tokenizer

"""Fine-tuning students on a labelled task, all in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.encoders.batches import Items, plain_items
from stillhouse.encoders.data import TextData, Texts, with_examples
from stillhouse.encoders.models import Shape, load_classifier, to_best_device
from stillhouse.encoders.public import load_texts
from stillhouse.encoders.teacher import Plan, get_teacher
from stillhouse.encoders.tokens import encode
from stillhouse.encoders.training import Recipe, finetune, score_model

BATCH = 32
TEACHER_RATE = 1e-4


@dataclass(frozen=True)
class Task:
    """A labelled task in the students' ids."""

    data: TextData
    train: Items
    select: Items
    report: Items
    max_tokens: int

    def finetuned(self, folder: Path, updates: int, rate: float, run: Run, stage: str, seed: int) -> dict[str, float]:
        """Scores of the encoder in `folder` with a new head, fine-tuned: the best update of the select split, on both splits.

        Word vectors stay as they are, as in distillation, which spares most of the optimizer's work.
        """
        seed_everything("task head", seed)
        model = to_best_device(load_classifier(folder, self.data.class_names))
        new_pooler(model)
        cast(nn.Embedding, model.get_input_embeddings()).weight.requires_grad_(False)
        recipe = Recipe(updates, BATCH, rate, checks=min(4, updates))
        best, fitted = finetune(model, self.train, self.select, recipe, self.data.metric, run, stage, seed)
        report = score_model(model, self.report, self.data.metric)
        return {"score": report, "select_score": float(best.score), "seconds": fitted.seconds}

    def teacher_score(self, source: str, updates: int, run: Run) -> dict[str, float]:
        """The same of the teacher, kept in the cache between runs."""
        plan = Plan(source, updates, TEACHER_RATE, self.max_tokens, Shape(1, 8, 1, 8, 8), 0, 0)
        teacher = get_teacher(plan, self.data, run)
        parts = (_items(teacher.tokenizer, t, self.max_tokens) for t in (self.data.report, self.data.select))
        report, select = (score_model(teacher.model, items, self.data.metric) for items in parts)
        return {"score": report, "select_score": select}


@torch.no_grad()
def new_pooler(model: PreTrainedModel) -> None:
    """Part of a new head: relations say nothing of what a pooler has to read."""
    dense = cast(Any, model.base_model).pooler.dense
    nn.init.normal_(dense.weight, std=dense.in_features**-0.5)
    nn.init.zeros_(dense.bias)


def open_task(name: str, tokenizer: PreTrainedTokenizerFast, max_tokens: int, most_train: int = 0) -> Task:
    """A task by file, folder or name.

    Raises:
        UserError: as `load_texts`.
    """
    data = with_examples(load_texts(name), most_train, 0)
    train, select, report = (_items(tokenizer, texts, max_tokens) for texts in (data.train, data.select, data.report))
    return Task(data, train, select, report, max_tokens)


def _items(tokenizer: PreTrainedTokenizerFast, texts: Texts, max_tokens: int) -> Items:
    return plain_items(encode(tokenizer, texts, max_tokens), texts.labels)

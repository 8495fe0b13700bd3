"""What all students of a run share: teacher, vocabulary, windows to train on, and first weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from stillhouse.core.errors import require
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed, seed_everything
from stillhouse.corpus.squad import QuestionSet
from stillhouse.encoders.batches import assemble
from stillhouse.encoders.data import Texts
from stillhouse.encoders.inherit import inherit, refit_feed_forward
from stillhouse.encoders.models import Batch, Shape, electra_config, load_config, shape_of
from stillhouse.encoders.tokens import (
    Vocabulary,
    load_tokenizer,
    pruned_vocabulary,
    require_same_tokenizer,
    whole_vocabulary,
)
from stillhouse.methods.forum_qa.config import Config
from stillhouse.methods.forum_qa.reader import load_reader_model, new_reader_model, reader_source
from stillhouse.methods.forum_qa.training import Lesson, Teaching, Trained, get_teacher
from stillhouse.methods.forum_qa.unlabelled import unlabelled_questions
from stillhouse.methods.forum_qa.windows import Windows, join_windows, make_windows, training_windows

REFITTED = 128
"""Windows on which feed-forward parts are refitted: some 8,000 tokens."""


@dataclass(frozen=True)
class Task:
    """Teacher, and what students are made of and trained on."""

    config: Config
    questions: QuestionSet
    teacher: Trained
    vocabulary: Vocabulary
    shape: Shape
    all_windows: Windows
    """Of the train questions, in the student's ids."""
    windows: Windows
    """Those that are trained on."""
    unlabelled: Windows
    """Of questions without a gold answer, for the teacher to answer."""

    def fresh_student(self) -> PreTrainedModel:
        """A student with its first weights: what fits of the teacher's, its head among it."""
        config, teacher = self.config, self.teacher.reader.model
        seed_everything(config.seed, "student weights")
        if config.student:
            return load_reader_model(Path(config.student))
        pad = int(self.vocabulary.tokenizer.pad_token_id)
        student: Any = new_reader_model(
            electra_config(self.shape, len(self.vocabulary), config.max_tokens, pad, dropout=0.0)
        )
        if config.init != "random":
            inherit(student, teacher, self.vocabulary.teacher_ids, config.init)
            if shape_of(student.config).feed_forward < shape_of(teacher.config).feed_forward:
                refit_feed_forward(student, teacher, self._batches_for_refit(), config.init)
            with torch.no_grad():
                for ours, theirs in zip(
                    student.qa_outputs.parameters(), cast(Any, teacher).qa_outputs.parameters(), strict=True
                ):
                    ours.copy_(theirs)
        return cast(PreTrainedModel, student)

    def _batches_for_refit(self) -> Iterator[Batch]:
        """Some windows in the teacher's ids."""
        items = self.windows.items.mapped(self.vocabulary.teacher_ids)
        random = np.random.default_rng(derive_seed("refit", self.config.seed))
        index = random.permutation(len(items))[:REFITTED]
        pad = int(self.teacher.reader.tokenizer.pad_token_id)
        return (assemble(items, index[i : i + 32], pad) for i in range(0, len(index), 32))

    def lesson(self, hard_weight: float) -> Lesson:
        """Gold answers and what the teacher says, in these shares; with a teacher, unlabelled questions too."""
        if hard_weight == 1:
            return Lesson(self.windows)
        config, theirs = self.config, self.teacher.reader.model
        windows = join_windows(self.windows, self.unlabelled)
        items = windows.items.mapped(self.vocabulary.teacher_ids)
        teaching = Teaching(theirs, items, hard_weight, config.temperature)
        return Lesson(windows, teaching, len(self.unlabelled))


def open_task(config: Config, questions: QuestionSet, run: Run) -> Task:
    """Get the teacher and settle what the student looks like.

    Raises:
        UserError: something in teacher or student does not fit; says how to mend it.
    """
    teacher = get_teacher(config, questions, run)
    theirs = shape_of(teacher.reader.model.config)
    vocabulary, shape = _student_of(config, questions, teacher, theirs)
    require(
        shape.layers <= theirs.layers,
        f"a student of {shape.layers} layers is deeper than its teacher of {theirs.layers}",
        f"use --layers {theirs.layers} or less",
    )
    windows = make_windows(vocabulary.tokenizer, questions.train, config.max_tokens, config.stride)
    trained_on = training_windows(windows, config.windows_without, config.seed)
    wanted = round(config.unlabelled * len(questions.train))
    asked = unlabelled_questions(questions.train, wanted, config.seed)
    unlabelled = make_windows(vocabulary.tokenizer, asked, config.max_tokens, config.stride)
    return Task(config, questions, teacher, vocabulary, shape, windows, trained_on, unlabelled)


def _student_of(config: Config, questions: QuestionSet, teacher: Trained, theirs: Shape) -> tuple[Vocabulary, Shape]:
    tokenizer = teacher.reader.tokenizer
    if config.student:
        folder = Path(config.student)
        require_same_tokenizer(tokenizer, load_tokenizer(folder), folder)
        return whole_vocabulary(tokenizer), shape_of(load_config(folder))
    texts = [text for part in (questions.train, questions.select) for q in part for text in (q.text, q.context)]
    seen = Texts(tuple(dict.fromkeys(texts)), None, np.zeros(0, np.int64))
    vocabulary = pruned_vocabulary(tokenizer, seen) if config.prune_vocabulary else whole_vocabulary(tokenizer)
    return vocabulary, student_shape(config, theirs)


def student_shape(config: Config, theirs: Shape) -> Shape:
    """The student's shape: the teacher's width and heads, fewer layers, a narrower feed-forward part."""
    return Shape(
        config.layers, theirs.width, theirs.heads, config.feed_forward or theirs.feed_forward // 4, theirs.width
    )


def shapes_before_training(config: Config) -> tuple[Shape, Shape]:
    """Shapes of teacher and student as far as the options alone tell them."""
    source, layers = reader_source(config.reader)
    found = shape_of(load_config(source))
    theirs = Shape(layers or found.layers, found.width, found.heads, found.feed_forward, found.embedding)
    return theirs, shape_of(load_config(Path(config.student))) if config.student else student_shape(config, theirs)

"""A question answering data set from a forum that keeps its people private, readers fine-tuned on it, and a small one distilled.

Question-Answering Model for Schizophrenia Symptoms and Their Impact on Daily Life using Mental Health Forums Data
(arXiv 2310.00448).

The paper selects regular users of a forum, builds a SQuAD-style set from their posts and fine-tunes BERT, DistilBERT,
RoBERTa and BioBERT on it:

    L = -1/2 [ log softmax(s)_{s*} + log softmax(e)_{e*} ],    answer = argmax_{i <= j < i + l} s_i + e_j,  or none

Here too, and then a teacher reader is distilled into a smaller one:

    L = h L + (1 - h) tau^2/2 [ KL(softmax(s_T / tau) || softmax(s_S / tau)) + the same of e ]

over annotated questions, and over pairs of a question and a passage that nobody has annotated, where h = 0.

What differs from the paper and its code, and why: the authors' corpus holds health disclosures of people who were not asked
and can be found by their words, and is never used; privacy is therefore measured (planted personal data, a search of every
run of words of the release in the source) and not asserted. The split is by user, not by question. A cap on posts a user,
and the Gini coefficient before and after, stand for the paper's "low bias". The thresholds of the selection are not in the
paper; ours are options. Unanswerable questions are part of training, the threshold for "no answer" is chosen on a select split.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from stillhouse.core.estimate import Estimate, Stage
from stillhouse.core.result import Result
from stillhouse.core.run import Run
from stillhouse.encoders.batches import assemble, plain_items
from stillhouse.encoders.models import electra_config, parameters
from stillhouse.encoders.tokens import Encoded
from stillhouse.methods.forum_qa import report
from stillhouse.methods.forum_qa.arms import plain_arms, reader_arms
from stillhouse.methods.forum_qa.commands import COMMANDS
from stillhouse.methods.forum_qa.config import Config
from stillhouse.methods.forum_qa.data import dataset_folder, open_data
from stillhouse.methods.forum_qa.portable import portable
from stillhouse.methods.forum_qa.reader import Reader, forward, load_reader, new_reader_model
from stillhouse.methods.forum_qa.task import open_task, shapes_before_training
from stillhouse.methods.forum_qa.trial import TRIALS

__all__ = ["COMMANDS", "PRESETS", "TRIALS", "Config", "distill", "estimate", "load", "portable"]

PRESETS = {
    "laptop": Config(),
    "paper": Config(
        users=4000,
        cap=20,
        reader="minilm",
        teacher_updates=6000,
        teacher_rate=3e-5,
        train_words=True,
        max_tokens=256,
        stride=128,
        windows_without=2.0,
        batch=32,
        layers=3,
        prune_vocabulary=False,
        updates=12_000,
        rate=1e-4,
        readers=("minilm-3",),
    ),
}


def distill(config: Config, run: Run) -> Result:
    """Build or read the questions, fine-tune the teacher, distil the student, and judge both beside the baselines."""
    opened = open_data(config, run)
    if opened.story:
        report.write_card(opened.story, config.search_words, config.k, dataset_folder(run))
    task = open_task(config, opened.questions, run)
    made, rows = reader_arms(task, run)
    rows += plain_arms(task, run)
    arms = [arm for arm, _ in rows]
    return Result(
        "forum_qa",
        report.sentence(arms, task.questions),
        report.METRICS,
        tuple(arms),
        tables=tuple(report.tables(task, rows, opened.story, made)),
        notes=report.notes(task, opened.story),
    )


TYPICAL_TOKENS = 64
"""Of a window of the made-up forum."""
CHECK_SHARE = 1.25
"""Time of a training with its looks at the select split, over that of its updates."""


def estimate(config: Config) -> Estimate:
    """From the quickest of four updates of a student and a teacher of these shapes on made-up windows; long passages take longer."""
    teacher, student = shapes_before_training(config)
    each = {}
    tokens = min(TYPICAL_TOKENS, config.max_tokens)
    for name, shape in (("teacher", teacher), ("student", student)):
        model = new_reader_model(electra_config(shape, 2000, config.max_tokens, 0))
        ids = np.random.default_rng(0).integers(1, 2000, config.batch * tokens).astype(np.int32)
        items = plain_items(Encoded(ids, np.zeros_like(ids, np.int8), np.arange(config.batch + 1) * tokens))
        taken = []
        for _ in range(4):
            started = time.monotonic()
            start, end = forward(model, assemble(items, np.arange(config.batch), 0))
            (start + end).square().sum().backward()
            taken.append(time.monotonic() - started)
        each[name] = CHECK_SHARE * min(taken), 12 * parameters(model)
    read_along = each["teacher"][0] / 3 if config.hard_weight < 1 else 0.0  # the teacher's forward pass on every batch
    taught = each["student"][0] + read_along
    each["taught"] = taught, each["student"][1]
    controls = int(config.compare == "all" and config.hard_weight < 1)
    plans = (
        ("teacher", config.teacher_updates, "teacher"),
        ("student", config.updates, "taught"),
        ("student without distillation", controls * config.updates, "student"),
        ("further readers", len(config.readers) * config.teacher_updates, "teacher"),
    )
    building = [
        Stage("data set", 0, 0, 0.15 * config.users if config.deidentifier == "presidio" else 0.03 * config.users)
    ]
    stages = [Stage(name, n, 2 * n * config.batch, n * each[kind][0], each[kind][1]) for name, n, kind in plans if n]
    return Estimate((*(building if config.data == "forum" else []), *stages))


def load(folder: Path) -> Reader:
    """The saved reader: `load(folder).ask(question, passages)`."""
    return load_reader(folder)

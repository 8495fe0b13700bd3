"""The result of a run in tables and words."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import nn

from stillhouse.core.result import Arm, Metric, Table
from stillhouse.encoders.batches import assemble
from stillhouse.encoders.losses import collapse
from stillhouse.encoders.mapping import words
from stillhouse.encoders.models import forward, parameters
from stillhouse.methods.distiller.config import Pipeline
from stillhouse.methods.distiller.guide import pairs_of
from stillhouse.methods.distiller.single import Trained
from stillhouse.methods.distiller.task import Task

TITLES = {"accuracy": "Accuracy", "macro_f1": "Macro F1", "mcc": "Matthews correlation"}


def metrics(task: Task) -> tuple[Metric, ...]:
    """The task's score on the two splits that nothing is trained on."""
    title = TITLES[task.data.metric]
    return (
        Metric("score", title, "higher", f"On {len(task.data.report)} report texts, looked at once."),
        Metric("select_score", f"{title}, select", "higher", "On the split that the best update is chosen on."),
    )


def sentence(task: Task, arms: list[Arm]) -> str:
    """The numbers that matter."""
    by_role = {arm.role: arm for arm in reversed(arms)}
    teacher, student = by_role["teacher"], by_role["student"]
    top, ours = teacher.metrics["score"], student.metrics["score"]
    size = (teacher.cost.parameters or 0) / max(1, student.cost.parameters or 1)
    speed = teacher.cost.latency_seconds["batch 64"] / student.cost.latency_seconds["batch 64"]
    share = f" ({ours / top:.1%} of it)" if top > 0 else ""
    return (
        f"On {task.data.name} the student scores {ours:.3f}, the teacher {top:.3f}{share}, with 1/{size:.1f} of its "
        f"parameters at {speed:.1f} times its speed."
    )


def pipeline_table(task: Task, pipeline: Pipeline) -> Table:
    """What was distilled from where."""
    pairs = pairs_of(pipeline, task.shape, task.teacher_shape)
    config = task.config
    rows: list[tuple[str | float, ...]] = [
        ("augmentation", " then ".join(pipeline.augmentation) or "none"),
        ("mixup", "yes" if pipeline.mixup else "no"),
        ("intermediate objective", pipeline.objective),
        ("mapped layers", words(pairs, task.teacher_shape.layers) if pairs else "none"),
        ("prediction objective", f"{pipeline.prediction}, temperature {config.temperature:g}"),
        ("share of labels", pipeline.hard_weight),
    ]
    return Table(
        "The pipeline", ("part", "choice"), tuple(rows), "Projections and critics are left out of the saved student."
    )


def size_table(task: Task, made: Trained) -> Table:
    """Where the student's parameters are."""
    teacher, student = task.teacher.model, made.model
    rows = []
    for title, model, shape, pieces in (
        ("teacher", teacher, task.teacher_shape, len(task.teacher.tokenizer)),
        ("student", student, task.shape, len(task.vocabulary)),
    ):
        embedded = parameters(cast(nn.Module, model.base_model.embeddings))
        rows.append(
            (title, shape.layers, shape.width, shape.feed_forward, shape.embedding, pieces, embedded, parameters(model))
        )
    columns = (
        "model",
        "layers",
        "width",
        "feed-forward",
        "word vectors",
        "pieces",
        "embedding parameters",
        "parameters",
    )
    return Table("Size", columns, tuple(rows))


@torch.no_grad()
def collapse_table(task: Task, made: Trained) -> Table:
    """Whether the last states of different texts are all alike."""
    index = np.arange(min(128, len(task.data.report)))
    rows = []
    for title, model, items in (
        ("teacher", task.teacher.model, task.teacher_items(task.data.report)),
        ("student", made.model, task.report),
    ):
        batch = assemble(items, index, model.config.pad_token_id)
        cosine, rank = collapse(forward(model, batch).hidden[-1][:, 0])
        rows.append((title, round(cosine, 3), round(rank, 1)))
    return Table(
        "Are the states of different texts different?",
        ("model", "mean cosine of first-token states", "effective rank"),
        tuple(rows),
        f"Of {len(index)} report texts; a cosine near 1 with a rank near 1 is a collapsed model.",
    )


def notes(task: Task) -> tuple[str, ...]:
    """Caveats."""
    data, found = task.data, []
    cut = {
        name: items.first.truncated
        for name, items in (("train", task.train), ("select", task.select), ("report", task.report))
    }
    if any(cut.values()):
        shares = ", ".join(f"{n} of {len(getattr(data, name))} {name} texts" for name, n in cut.items() if n)
        found.append(f"Longer than {task.config.max_tokens} tokens and cut: {shares}.")
    found.append(f"Trained on {len(data.train)} texts, chosen on {len(data.select)}, reported on {len(data.report)}.")
    if len(task.vocabulary) < len(task.teacher.tokenizer):
        found.append("The student's vocabulary holds the pieces of the training texts; other words are cut smaller.")
    found.append("One seed: differences of a point or two between students say little.")
    return tuple(found)

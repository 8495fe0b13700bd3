"""Judging exits on search tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stillhouse.corpus.code_retrieval import SearchTask, docs_task, metrics, public_tasks, rewrites_task
from stillhouse.corpus.code_sets import CodeSet, shortened
from stillhouse.encoders.multi_exit import MultiExitEncoder
from stillhouse.methods.modular_encoder.config import Config
from stillhouse.methods.modular_encoder.material import Material
from stillhouse.methods.modular_encoder.model import CodeEncoder


def exit_metrics(encoder: MultiExitEncoder, material: Material, task: SearchTask) -> dict[int, dict[str, float]]:
    """MRR and nDCG of every exit on a task."""
    return model_metrics(CodeEncoder(encoder, material.tokenizer, material.settings), task, encoder.exits)


def model_metrics(
    model: CodeEncoder, task: SearchTask, exits: Sequence[int], dimensions: int = 0
) -> dict[int, dict[str, float]]:
    """The same of a finished model, at some exits, perhaps with the first numbers of the embeddings only."""
    queries = model.encode_exits(model.tokenized(task.queries, task.kind, task.query_languages), exits, dimensions)
    codes = model.encode_exits(model.tokenized(task.codes, "code", task.code_languages), exits, dimensions)
    return {i: metrics(task, queries[i] @ codes[i].T) for i in exits}


def select_task(code: CodeSet, config: Config) -> SearchTask:
    """Descriptions to code of the select split."""
    return docs_task(shortened(code.select, config.judged, config.seed), "docs, select")


def report_tasks(code: CodeSet, names: Sequence[str], config: Config) -> list[SearchTask]:
    """The tasks that a config asks for, on the report split or on public data.

    Raises:
        UserError: public data is not there.
    """
    found: list[SearchTask] = []
    for task in config.tasks:
        if task == "docs":
            found.append(docs_task(shortened(code.report, config.judged, config.seed)))
        elif task == "rewrites":
            found.append(rewrites_task(shortened(code.report, config.judged, config.seed), names, config.seed))
        else:
            found += public_tasks(task)
    return found


def chance(task: SearchTask) -> dict[str, float]:
    """What scores that say nothing give."""
    return metrics(task, np.zeros((len(task), len(task.codes)), np.float32))

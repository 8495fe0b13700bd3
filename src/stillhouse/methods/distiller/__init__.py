"""Distil a fine-tuned text encoder into the best small one: any pipeline, searched, explained, recommended.

Distiller: A Systematic Study of Model Distillation Methods in Natural Language Processing (arXiv 2109.11105).

    L = h CE(y, z_S) + (1 - h) l_KD(z_T, z_S) + w sum_{j, i} m_ij l(H_T^i, H_S^j)          (section 3)

Four choices make a pipeline: augmentation, intermediate objective l, layer mapping m, prediction objective l_KD. The
intermediate objectives are lower bounds of one quantity, the mutual information of H_T and H_S: mse, cos and pkd with
a fixed decoder, MI-alpha with learned critics, I_alpha between the InfoNCE-like bound (alpha = 1) and TUBA (alpha = 0).

What differs from the paper and its code, and why: every loss is a mean over pairs of layers, and the intermediate
gradient is kept in proportion to the prediction's, because sums over states swamp the prediction; critics have their
own optimizer, clip and a start of their own, one critic a pair of layers; rows of the critic's scores are the
teacher's, as the bound needs it; students begin from the teacher's layers with the vocabulary of the training texts;
tau^2 keeps the gradient's size; updates are chosen on a select split, never on the reported one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cattrs
import numpy as np
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from stillhouse.core.estimate import Estimate, Stage
from stillhouse.core.options import read_options
from stillhouse.core.portable import Portable
from stillhouse.core.result import Metric, Result
from stillhouse.core.run import Run
from stillhouse.encoders.batches import assemble, plain_items
from stillhouse.encoders.models import forward, new_student, parameters
from stillhouse.encoders.portable import portable_encoder
from stillhouse.encoders.tokens import Encoded, load_tokenizer
from stillhouse.encoders.training import score
from stillhouse.methods.distiller import report, search_report
from stillhouse.methods.distiller.autodistiller import Study, Trial, remember
from stillhouse.methods.distiller.commands import COMMANDS
from stillhouse.methods.distiller.config import Config, Pipeline
from stillhouse.methods.distiller.recommend import study_of
from stillhouse.methods.distiller.single import compared_pipelines, load_student, peer_arms, student_arms
from stillhouse.methods.distiller.study import best_of, pipeline_of, search, space, with_layers
from stillhouse.methods.distiller.task import data_of, open_task, shapes_before_training
from stillhouse.methods.distiller.trial import TRIALS

__all__ = ["COMMANDS", "PRESETS", "TRIALS", "Config", "Pipeline", "distill", "estimate", "load", "portable"]

PRESETS = {
    "laptop": Config(),
    "paper": Config(
        data="sst2",
        max_tokens=128,
        teacher_updates=6300,
        teacher_rate=3e-5,
        layers=4,
        prune_vocabulary=False,
        embedding=0,
        feed_forward=1024,
        intermediate="mi",
        alpha=0.1,
        augmentation=("contextual", "swap"),
        augmentation_share=0.3,
        temperature=8.0,
        hard_weight=0.0,
        batch=64,
        updates=30_000,
        rate=1e-4,
    ),
}


def distill(config: Config, run: Run) -> Result:
    """Get the teacher, search if asked to, distil the student and its controls, and measure all of them."""
    task = open_task(config, run)
    found: list[Trial] = []
    if config.trials:
        found = search(config, run)
        levels = best_of(found).levels
        run.log(f"best of {len(found)} trials: {pipeline_of(levels, config).words()}")
        config = replace(
            config.with_pipeline(pipeline_of(levels, config)), layers=int(levels.get("layers", config.layers))
        )
        task = with_layers(replace(task, config=config), levels)
    made, arms = student_arms(task, run, config.pipeline)
    arms += peer_arms(task, run)
    tables = [
        report.pipeline_table(task, config.pipeline),
        report.size_table(task, made),
        report.collapse_table(task, made),
    ]
    if found:
        tables += search_report.tables(found, space(config), run)
        remember(cattrs.structure(run.kept("study", lambda: cattrs.unstructure(study_of(task, found))), Study))
    return Result(
        "distiller",
        report.sentence(task, arms),
        report.metrics(task),
        tuple(arms),
        tables=tuple(tables),
        notes=report.notes(task),
    )


def estimate(config: Config) -> Estimate:
    """From two updates of a student and a teacher of these shapes on made-up texts of 20 tokens."""
    teacher, student = shapes_before_training(config)
    each = {}
    for name, shape in (("teacher", teacher), ("student", student)):
        model = new_student(shape, 2000, max(32, config.max_tokens), ("a", "b"), 0)
        length = min(20, config.max_tokens)
        ids = np.random.default_rng(0).integers(1, 2000, config.batch * length).astype(np.int32)
        items = plain_items(Encoded(ids, np.zeros_like(ids, np.int8), np.arange(config.batch + 1) * length))
        started = time.monotonic()
        for _ in range(2):
            forward(model, assemble(items, np.arange(config.batch), 0)).logits.square().sum().backward()
        each[name] = (time.monotonic() - started) / 2, 12 * parameters(model)
    controls = len(compared_pipelines(config.pipeline)) if config.compare == "all" else 0
    plans = [
        ("teacher", config.teacher_updates, "teacher", 1),
        ("student", config.updates, "student", 1),
        ("controls", config.updates * controls, "student", 1),
    ]
    if config.trials:
        plans.insert(1, ("trials", config.trials * config.trial_updates, "student", config.workers))
    return Estimate(
        tuple(
            Stage(name, n, 2 * n * config.batch, n * each[kind][0] / at_once, each[kind][1])
            for name, n, kind, at_once in plans
        )
    )


def load(folder: Path) -> PreTrainedModel:
    """The saved student; its tokenizer lies beside it."""
    return load_student(folder)


def portable(run: Path) -> Portable:
    """The student with its tokenizer, and the score of its exported forms on the report split."""
    config, folder = read_options(run, "distiller", Config), run / "model"
    data = data_of(config)
    title = {"accuracy": "Accuracy", "macro_f1": "Macro F1", "mcc": "Matthews correlation"}[data.metric]

    def quality(outputs_of: Callable[[Sequence[str], Sequence[str] | None], list[np.ndarray]]) -> dict[str, float]:
        logits = outputs_of(data.report.first, data.report.second)[0]
        return {"score": score(data.metric, data.report.labels, logits.argmax(1))}

    return portable_encoder(
        load(folder),
        load_tokenizer(folder),
        (data.train.first, data.train.second),
        (data.report.first, data.report.second),
        max_tokens=config.max_tokens,
        reopen=AutoModelForSequenceClassification.from_pretrained,
        metrics=(Metric("score", title, "higher"),),
        quality=quality,
        usage="from transformers import pipeline\n\nclassify = pipeline('text-classification', 'FOLDER')",
    )

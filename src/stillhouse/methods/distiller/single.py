"""A run of one pipeline: the student, the same student without parts of the pipeline, and what else one would use."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel

from stillhouse.core.files import folder_bytes
from stillhouse.core.result import Arm, Cost, Role
from stillhouse.core.run import Run
from stillhouse.encoders.models import load_classifier, parameters
from stillhouse.encoders.training import Recipe, latencies, score_model
from stillhouse.methods.distiller.config import Config, Pipeline
from stillhouse.methods.distiller.peers import embedding_regression, majority, tfidf_regression
from stillhouse.methods.distiller.student import distil_student
from stillhouse.methods.distiller.task import Task, distillation, save_student


@dataclass(frozen=True)
class Trained:
    """A student that one pipeline made."""

    model: PreTrainedModel
    select: float
    report: float
    seconds: float
    updates: int
    best_update: int


def recipe_of(config: Config) -> Recipe:
    """How every student is trained."""
    return Recipe(config.updates, config.batch, config.rate, checks=min(8, config.updates))


def train_pipeline(task: Task, pipeline: Pipeline, recipe: Recipe, run: Run, stage: str, seed: int) -> Trained:
    """A fresh student, distilled by a pipeline and scored on the report split."""
    started = time.monotonic()
    work = distillation(task, pipeline, recipe)
    prepared = time.monotonic() - started
    student = task.fresh_student(seed)
    best, fitted = distil_student(student, work, run, stage, seed)
    report = score_model(student, task.report, task.data.metric)
    return Trained(student, float(best.score), report, prepared + fitted.seconds, fitted.updates, best.update)


def compared_pipelines(pipeline: Pipeline) -> dict[str, Pipeline]:
    """The same student without distillation, and without each part that the pipeline has."""
    plain = replace(pipeline, intermediate="none", prediction="ce", augmentation=(), mixup=False)
    found = {"student without distillation": replace(plain, hard_weight=1.0)}
    if pipeline.intermediate != "none":
        found["student without the intermediate loss"] = replace(pipeline, intermediate="none")
    if pipeline.augmentation or pipeline.mixup:
        found["student without augmentation"] = replace(pipeline, augmentation=(), mixup=False)
    if pipeline.hard_weight == 1:
        del found["student without distillation"]
    return found


def student_arms(task: Task, run: Run, pipeline: Pipeline) -> tuple[Trained, list[Arm]]:
    """The student and, where the config asks for it, its controls; the student is saved in the model folder."""
    config, recipe = task.config, recipe_of(task.config)
    speed = run.kept("speed", lambda: _speed(task))
    chosen = train_pipeline(task, pipeline, recipe, run, "student", config.seed)
    save_student(chosen.model, task.vocabulary, run.model_folder)
    arms = [_student_arm("student", "student", chosen, task, speed["student"], run, pipeline.words())]
    for name, other in compared_pipelines(pipeline).items() if config.compare == "all" else ():
        run.log(f"arm: {name}")
        trained = train_pipeline(task, other, recipe, run, name, config.seed)
        arms.append(_student_arm(name, "baseline", trained, task, speed["student"], run, other.words()))
    return chosen, [_teacher_arm(task, speed["teacher"], run), *arms]


def _speed(task: Task) -> dict[str, dict[str, float]]:
    """Seconds a text, by turns, so that a busy machine slows both down."""
    student, texts = task.fresh_student(0), task.data.report
    models = {"teacher": (task.teacher.model, task.teacher_items(texts)), "student": (student, task.report)}
    found: dict[str, dict[str, float]] = {}
    for _ in range(3):
        for name, (model, items) in models.items():
            taken = latencies(model, items)
            best = found.setdefault(name, taken)
            found[name] = {key: min(best[key], value) for key, value in taken.items()}
    return found


def _student_arm(name: str, role: Role, made: Trained, task: Task, speed: dict[str, float], run: Run, note: str) -> Arm:
    cost = Cost(
        parameters=parameters(made.model),
        bytes_on_disk=folder_bytes(run.model_folder),
        network_passes=1,
        latency_seconds=speed,
        training_seconds=made.seconds,
        updates={"student": made.updates},
    )
    return Arm(
        name,
        role,
        _scores(made.report, made.select),
        cost,
        task.config.seed,
        f"{note}; best of select at update {made.best_update}",
    )


def _teacher_arm(task: Task, speed: dict[str, float], run: Run) -> Arm:
    model, metric = task.teacher.model, task.data.metric

    def compute() -> dict[str, float]:
        parts = (task.data.report, task.data.select)
        report, select = (score_model(model, task.teacher_items(t), metric) for t in parts)
        return _scores(report, select)

    cost = Cost(
        parameters=parameters(model),
        bytes_on_disk=folder_bytes(task.teacher.folder),
        network_passes=1,
        latency_seconds=speed,
        training_seconds=task.teacher.training_seconds,
    )
    return Arm("teacher", "teacher", run.kept("teacher", compute), cost)


def _scores(report: float, select: float) -> dict[str, float]:
    return {"score": report, "select_score": select}


def peer_arms(task: Task, run: Run) -> list[Arm]:
    """Without distilling anything: logistic regressions, and the most frequent class."""
    data = task.data

    def tfidf() -> dict[str, float]:
        found, size = tfidf_regression(data)
        return {"score": found, "parameters": size}

    def embeddings() -> dict[str, float]:
        found, size = embedding_regression(data, task.teacher.model, task.teacher_items)
        return {"score": found, "parameters": size + parameters(task.teacher.model)}

    rows: list[tuple[str, Role, Callable[[], dict[str, float]], str]] = [
        ("logistic regression on tf-idf", "baseline", tfidf, "words and pairs of words"),
        ("logistic regression on the teacher's states", "baseline", embeddings, "mean of the last layer, frozen"),
        ("most frequent class", "floor", lambda: {"score": majority(data)}, ""),
    ]
    arms = []
    for name, role, compute, note in rows:
        found = run.kept(name.replace(" ", "-").replace("'", ""), compute)
        size = found.get("parameters")
        arms.append(
            Arm(name, role, {"score": found["score"]}, Cost(parameters=None if size is None else int(size)), note=note)
        )
    return arms


def load_student(folder: Path) -> PreTrainedModel:
    """The saved student."""
    return load_classifier(folder).eval()

"""Every arm of a run, judged on the same report questions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from stillhouse.core.files import folder_bytes
from stillhouse.core.result import Arm, Cost, Role
from stillhouse.core.run import Run
from stillhouse.corpus.squad import Question
from stillhouse.encoders.batches import assemble
from stillhouse.encoders.models import parameters
from stillhouse.methods.forum_qa.baselines import SlidingWindow, first_sentence
from stillhouse.methods.forum_qa.metrics import best_threshold, expected_calibration_error, mark, score
from stillhouse.methods.forum_qa.reader import Candidate, Reader, forward, save_reader
from stillhouse.methods.forum_qa.task import Task
from stillhouse.methods.forum_qa.training import Trained, distilled, fine_tuned
from stillhouse.methods.forum_qa.windows import Windows

BATCHES = (1, 32)
TIMED = 64
"""Windows that the speed is measured on."""


@dataclass(frozen=True)
class Row:
    """What was measured of an arm."""

    metrics: Mapping[str, float]
    interval: tuple[float, float]
    """Of F1 on the report questions."""
    aspects: Mapping[str, float]
    """F1 by aspect."""


def judged(predicted: Sequence[str], questions: Sequence[Question], select_f1: float | None) -> Row:
    """Scores of what an arm said to the report questions."""
    found = score(predicted, [q.golds for q in questions], [q.group for q in questions])
    f1 = np.array([mark(p, q.golds).f1 for p, q in zip(predicted, questions, strict=True)])
    names = sorted({q.aspect for q in questions if q.aspect})
    aspects = {n: float(f1[[q.aspect == n for q in questions]].mean()) for n in names}
    chosen = {} if select_f1 is None else {"select_f1": select_f1}
    return Row({**found.metrics(), **chosen}, found.f1_interval, aspects)


def judged_reader(reader: Reader, task: Task) -> Row:
    """A reader's scores, its calibration among them."""
    report, select = task.questions.report, task.questions.select
    found = reader.candidates(report)
    row = judged(reader.predictions(report, found), report, _f1_of(reader, select))
    return Row({**row.metrics, "calibration_error": calibration(reader, report, found)}, row.interval, row.aspects)


def _f1_of(reader: Reader, questions: Sequence[Question]) -> float:
    said = reader.predictions(questions, reader.candidates(questions))
    return float(np.mean([mark(p, q.golds).f1 for p, q in zip(said, questions, strict=True)]))


def calibration(reader: Reader, questions: Sequence[Question], found: Sequence[Sequence[Candidate]]) -> float:
    """ECE of the confidence in what the reader says."""
    answers = [reader.answers(row)[0] for row in found]
    right = [
        mark("" if a.span is None else a.span.of(q.context), q.golds).exact > 0
        for a, q in zip(answers, questions, strict=True)
    ]
    return expected_calibration_error(np.array([a.confidence for a in answers]), np.array(right))


def reader_arms(task: Task, run: Run) -> tuple[Trained, list[tuple[Arm, Row]]]:
    """The student, saved in the model folder, the teacher, further readers and the student without distillation."""
    config = task.config
    made = distilled(
        config,
        task.fresh_student,
        task.vocabulary.tokenizer,
        task.lesson(config.hard_weight),
        task.questions,
        run,
        "student",
    )
    released = list(
        dict.fromkeys(
            q.context for part in (task.questions.train, task.questions.select, task.questions.report) for q in part
        )
    )
    save_reader(made.reader, released, run.model_folder)
    speed = run.kept("speed", lambda: measured_speed(task, made.reader))
    arms = [_arm(f"teacher ({_label(config.reader)})", "teacher", task.teacher, task, speed.get("teacher"), run)]
    arms.append(_arm("student", "student", made, task, speed.get("student"), run))
    if config.compare == "all" and config.hard_weight < 1:
        run.log("arm: student without distillation")
        alone = distilled(
            config,
            task.fresh_student,
            task.vocabulary.tokenizer,
            task.lesson(1.0),
            task.questions,
            run,
            "student without distillation",
        )
        arms.append(_arm("student without distillation", "baseline", alone, task, speed.get("student"), run))
    for name in config.readers:
        run.log(f"arm: {name}")
        other = fine_tuned(config, name, task.questions, run, f"reader {name.replace('/', '_')}")
        arms.append(_arm(f"reader {_label(name)}", "peer", other, task, None, run))
    return made, arms


def _label(name: str) -> str:
    """A reader's name in a table: that of its folder."""
    return name if name.startswith("minilm") else Path(name).name


def _arm(
    name: str, role: Role, made: Trained, task: Task, speed: Mapping[str, float] | None, run: Run
) -> tuple[Arm, Row]:
    kept = run.kept(f"arm {name}".replace("/", "_"), lambda: asdict(judged_reader(made.reader, task)))
    row = _row(kept)
    model = made.reader.model
    saved = made.folder or (run.model_folder if role == "student" else None)
    cost = Cost(
        parameters=parameters(model),
        bytes_on_disk=folder_bytes(saved) if saved else None,
        network_passes=1,
        latency_seconds=speed or {},
        training_seconds=made.seconds,
        updates={"reader": made.updates} if made.updates else {},
    )
    return Arm(name, role, row.metrics, cost, task.config.seed, _note(row, made.note)), row


def _row(kept: Mapping[str, Any]) -> Row:
    return Row(kept["metrics"], tuple(kept["interval"]), kept["aspects"])


def _note(row: Row, more: str) -> str:
    low, high = row.interval
    return "; ".join(filter(None, [f"F1 {low:.3f} to {high:.3f} (bootstrap over users)", more]))


def plain_arms(task: Task, run: Run) -> list[tuple[Arm, Row]]:
    """What is to be had without a network."""
    report = task.questions.report
    rows: tuple[tuple[str, Role, Callable[[], Row]], ...] = (
        ("sliding window of words", "baseline", lambda: sliding(task)),
        (
            "always the first sentence",
            "baseline",
            lambda: judged([_text(q, first_sentence(q)) for q in report], report, None),
        ),
        ("always no answer", "floor", lambda: judged([""] * len(report), report, None)),
    )
    made = []
    for name, role, compute in rows:
        row = _row(run.kept(f"arm {name}", lambda c=compute: asdict(c())))  # type: ignore[misc]
        made.append((Arm(name, role, row.metrics, seed=task.config.seed, note=_note(row, "")), row))
    return made


def _text(question: Question, span: Any) -> str:
    return "" if span is None else span.of(question.context)


def sliding(task: Task) -> Row:
    """The sliding window, with its own threshold from the select questions."""
    questions = task.questions
    window = SlidingWindow([q.context for q in questions.train])
    seen = [window(q) for q in questions.select]
    f1 = np.array([mark(_text(q, span), q.golds).f1 for q, (span, _) in zip(questions.select, seen, strict=True)])
    nulls = np.array([float(q.impossible) for q in questions.select])
    threshold = best_threshold(np.array([value for _, value in seen]), f1, nulls)
    said = [_text(q, span) if value > threshold else "" for q in questions.report for span, value in [window(q)]]
    return judged(said, questions.report, None)


def measured_speed(task: Task, student: Reader) -> dict[str, dict[str, float]]:
    """Seconds a window of teacher and student by turns, so that a busy machine slows both down; the best of three."""
    report = task.questions.report[:TIMED]
    readers = {"teacher": task.teacher.reader, "student": student}
    windows = {name: reader.windows(report) for name, reader in readers.items()}
    found: dict[str, dict[str, float]] = {name: {} for name in readers}
    for _ in range(3):
        for name, reader in readers.items():
            for batch in BATCHES:
                taken = seconds_each(reader.model, windows[name], batch)
                key = f"batch {batch}"
                found[name][key] = min(taken, found[name].get(key, taken))
    return found


@torch.no_grad()
def seconds_each(model: PreTrainedModel, windows: Windows, batch: int) -> float:
    """Seconds a window at this batch size, one pass over a few windows."""
    index = np.arange(min(len(windows), TIMED if batch > 1 else TIMED // 4))
    parts = [
        assemble(windows.items, index[i : i + batch], model.config.pad_token_id) for i in range(0, len(index), batch)
    ]
    started = time.perf_counter()
    for part in parts:
        forward(model, part)[0].cpu()  # waits for the device
    return (time.perf_counter() - started) / len(index)

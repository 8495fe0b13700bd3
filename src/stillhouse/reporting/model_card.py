"""The model card: README.md beside the model, in the form that model hubs read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from stillhouse.core.files import write_atomically
from stillhouse.core.result import Arm, Result
from stillhouse.core.run import Run
from stillhouse.reporting.arms import ArmsTable, Cell, Column, arms_table, mark_arms
from stillhouse.reporting.claims import markdown_cell
from stillhouse.reporting.finished import FinishedRun, read_finished
from stillhouse.reporting.numbers import finite
from stillhouse.reporting.page import render
from stillhouse.reporting.report import first_arm


def write_model_card(run: Run, paper: str = "") -> Path:
    """Write README.md into the run's model folder.

    Args:
        run: a finished run.
        paper: the method's paper, title and arXiv id in one line.

    Raises:
        UserError: the run has not finished, or its folder cannot be written to.
    """
    path = run.model_folder / "README.md"
    write_atomically(path, model_card(read_finished(run.folder), paper))
    return path


def model_card(run: FinishedRun, paper: str = "") -> str:
    """The card as Markdown with a metadata block."""
    table = arms_table(mark_arms(run.result.arms), run.result.metrics)
    body = render(
        "model_card.md.j2",
        run=run,
        result=run.result,
        paper=paper,
        data=public_name(run.options.get("data")),
        teacher=public_name(run.options.get("teacher")),
        table=markdown_table(table),
        seed=run.options.get("seed"),
    )
    return str(ModelCard(f"---\n{metadata(run).to_yaml()}\n---\n\n{body}", ignore_metadata_errors=False))


def metadata(run: FinishedRun) -> ModelCardData:
    """What a hub reads: licence, tags, and the student's metrics."""
    data = public_name(run.options.get("data")) or "unnamed"
    student = first_arm(run.result, "student")
    results = _eval_results(run.result, student, data) if student else []
    return ModelCardData(
        library_name="stillhouse",
        tags=["distillation", run.method],
        # weights follow their teacher and data, which only the user knows
        license="other",
        license_name="as-teacher-and-data",
        model_name=run.name,
        eval_results=results or None,
        ignore_metadata_errors=False,
    )


def _eval_results(result: Result, student: Arm, data: str) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="other",
            dataset_type=data,
            dataset_name=data,
            metric_type=metric.key,
            metric_name=metric.title,
            metric_value=student.metrics[metric.key],
        )
        for metric in result.metrics
        if finite([student.metrics.get(metric.key)])
    ]


def public_name(value: Any) -> str:
    """A data or teacher option without the folders above it: a card is published, a home folder is not."""
    return Path(str(value)).name if value is not None else ""


def markdown_table(table: ArmsTable) -> str:
    """The arms table in Markdown; the best arm that is no teacher is bold."""
    columns = (*table.quality, *table.costs)
    rows = [
        ["Arm", *(_heading(column) for column in columns)],
        ["---", *("---" if column.title == "Updates" else "---:" for column in columns)],
    ]
    for i, mark in enumerate(table.marks):
        rows.append([f"{mark.label} ({mark.arm.role})", *(_cell(column.cells[i]) for column in columns)])
    if table.has_floor:
        rows.append(
            ["Floor (a perfect model)", *(column.floor for column in table.quality), *("" for _ in table.costs)]
        )
    return "\n".join("| " + " | ".join(markdown_cell(entry) for entry in row) + " |" for row in rows)


def _heading(column: Column) -> str:
    arrow = {"lower": " ↓", "higher": " ↑"}.get(column.better, "")
    return f"{column.title}{arrow}" + (f", {column.unit}" if column.unit else "")


def _cell(cell: Cell) -> str:
    text = f"{cell.text} ({cell.note})" if cell.note else cell.text
    return f"**{text}**" if cell.best else text

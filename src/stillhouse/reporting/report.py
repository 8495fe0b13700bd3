"""The report of a run: one self-contained HTML page, made from the run folder alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stillhouse.core.files import write_atomically
from stillhouse.core.result import Arm, Curve, Metric, Result
from stillhouse.core.run import Run
from stillhouse.reporting.arms import SERIES_COLOURS, Mark, Quantity, arms_table, mark_arms, quantities, speed_words
from stillhouse.reporting.claims import claims_of
from stillhouse.reporting.finished import FinishedRun, read_finished
from stillhouse.reporting.numbers import COUNT, SECONDS, column_decimals, finite, fixed, in_unit, significant, times
from stillhouse.reporting.page import flat, is_number_column, render, show_pictures
from stillhouse.reporting.plots import Plot, curve_panel, curve_points, direction, scatter


@dataclass(frozen=True)
class KeyFigure:
    """One number of the student beside the teacher's."""

    title: str
    value: str
    beside: str


@dataclass(frozen=True)
class CurveRow:
    """One metric's panels, an axis each."""

    metric: Metric
    plots: tuple[Plot, ...]


def write_report(run: Run, title: str = "") -> Path:
    """Write report.html into the run folder.

    Args:
        run: a finished run; its result, config, environment and pictures are read, nothing else.
        title: what to call the method; its catalogue name by default.

    Raises:
        UserError: the run has not finished, or its folder cannot be written to.
    """
    path = run.folder / "report.html"
    write_atomically(path, render_report(read_finished(run.folder), title))
    return path


def render_report(run: FinishedRun, title: str = "") -> str:
    """The report as HTML text."""
    result, marks = run.result, mark_arms(run.result.arms)
    return render(
        "report.html.j2",
        run=run,
        result=result,
        title=title or result.method,
        figures=key_figures(result),
        table=arms_table(marks, result.metrics),
        marks=marks,
        scatters=scatters(marks, result.metrics),
        curve_rows=curve_rows(result, marks),
        curve_marks=curve_legend(result.curves, marks),
        pictures=show_pictures(run.folder, result.pictures),
        is_number_column=is_number_column,
        config=flat(run.options),
        environment=flat(run.environment),
        evidence=claims_of([run.method]),
    )


def key_figures(result: Result) -> list[KeyFigure]:
    """Headline quality and the costs that tell student and teacher apart."""
    student, teacher = first_arm(result, "student"), first_arm(result, "teacher")
    if student is None or not result.metrics:
        return []
    figures = [_quality_figure(result.metrics[0], student, teacher)]
    if teacher is None:
        return figures
    passes, condition = teacher.cost.network_passes, next(iter(student.cost.latency_seconds), None)
    if passes and student.cost.network_passes:
        figures.append(
            KeyFigure(
                "Network passes per item", significant(student.cost.network_passes), f"teacher {significant(passes)}"
            )
        )
    if condition is not None and condition in teacher.cost.latency_seconds:
        ours, theirs = student.cost.latency_seconds[condition], teacher.cost.latency_seconds[condition]
        where = f" at {condition}" if condition else ""
        if words := speed_words(ours, theirs):
            beside = f"{in_unit(ours, SECONDS)} against {in_unit(theirs, SECONDS)} an item{where}"
            figures.append(KeyFigure("Speed", words, beside))
    return [*figures, *_size_figure(student, teacher)]


def _quality_figure(metric: Metric, student: Arm, teacher: Arm | None) -> KeyFigure:
    ours, theirs = student.metrics.get(metric.key), teacher.metrics.get(metric.key) if teacher else None
    decimals = column_decimals([ours, theirs, metric.floor])
    beside = [
        f"{name} {fixed(value, decimals)}"
        for name, value in (("teacher", theirs), ("floor", metric.floor))
        if value is not None
    ]
    return KeyFigure(f"{metric.title}, {direction(metric)}", fixed(ours, decimals), ", ".join(beside))


def _size_figure(student: Arm, teacher: Arm) -> list[KeyFigure]:
    """How much smaller the student is, by parameters, where the two differ."""
    ours, theirs = student.cost.parameters, teacher.cost.parameters
    if not ours or not theirs or ours == theirs:
        return []
    words = f"{times(theirs / ours)} smaller" if theirs > ours else f"{times(ours / theirs)} larger"
    beside = f"{in_unit(ours, COUNT)} against {in_unit(theirs, COUNT)}"
    return [KeyFigure("Parameters", words, beside)]


def first_arm(result: Result, role: str) -> Arm | None:
    """The first arm with this role, or None."""
    return next((arm for arm in result.arms if arm.role == role), None)


def scatters(marks: Sequence[Mark], metrics: Sequence[Metric]) -> list[tuple[Quantity, Plot]]:
    """The headline metric against every kind of cost in which at least two arms differ."""
    if not metrics:
        return []
    with_quality = [m.arm for m in marks if m.arm.role != "floor" and finite([m.arm.metrics.get(metrics[0].key)])]
    differing = [kind for kind in quantities(with_quality) if _differ(finite(kind.read(a.cost) for a in with_quality))]
    return [(kind, scatter(marks, metrics[0], kind)) for kind in differing]


def _differ(costs: Sequence[float]) -> bool:
    """By more than 2 %: the same network saved twice differs by a few bytes."""
    return max(costs) > 1.02 * min(costs)


def curve_rows(result: Result, marks: Sequence[Mark]) -> list[CurveRow]:
    """Every metric that has curves, over every axis that its points name."""
    teacher = first_arm(result, "teacher")
    by_name = curve_marks(result.curves, marks)
    rows = []
    for metric in result.metrics:
        curves = [(by_name[curve.arm], curve) for curve in result.curves if curve.metric == metric.key]
        level = teacher.metrics.get(metric.key) if teacher else None
        plots = [
            curve_panel(curves, metric, axis, axis_title, level)
            for axis, axis_title in result.axes.items()
            if any(curve_points(curve, axis) for _, curve in curves)
        ]
        if plots:
            rows.append(CurveRow(metric, tuple(plots)))
    return rows


def curve_marks(curves: Sequence[Curve], marks: Sequence[Mark]) -> dict[str, Mark]:
    """The mark of every curve by its arm's name; a curve of no arm in the table gets the next number."""
    by_name = {mark.arm.name: mark for mark in reversed(marks)}
    for name in dict.fromkeys(curve.arm for curve in curves):
        if name not in by_name:
            number = len(marks) + 1 + sum(mark.number > len(marks) for mark in by_name.values())
            by_name[name] = Mark(number, name, Arm(name, "baseline", {}), f"series-{(number - 1) % SERIES_COLOURS}")
    return by_name


def curve_legend(curves: Sequence[Curve], marks: Sequence[Mark]) -> list[Mark]:
    """The marks that the curves use, by number."""
    by_name = curve_marks(curves, marks)
    return sorted({curve.arm: by_name[curve.arm] for curve in curves}.values(), key=lambda mark: mark.number)

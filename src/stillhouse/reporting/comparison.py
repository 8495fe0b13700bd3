"""The comparison of finished runs, of one method or of several: one self-contained HTML page.

Runs meet in the metrics and axes whose keys they share. Cost and quality come from every run's students and its
teacher; baselines and floors stay on the runs' own reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stillhouse.core.errors import UserError
from stillhouse.core.files import write_atomically
from stillhouse.core.result import Arm, Curve, Metric
from stillhouse.reporting.arms import Mark, arms_table, mark_labelled
from stillhouse.reporting.claims import claims_of
from stillhouse.reporting.finished import FinishedRun, read_finished
from stillhouse.reporting.numbers import MISSING
from stillhouse.reporting.page import flat, render
from stillhouse.reporting.plots import curve_panel, curve_points
from stillhouse.reporting.report import CurveRow, first_arm, scatters


@dataclass(frozen=True)
class NamedRun:
    """A run and what the page calls it."""

    letter: str
    """A, B, ... Z, AA, ...: short enough to stand beside every arm."""
    name: str
    run: FinishedRun


def write_comparison(folders: list[Path], out: Path) -> Path:
    """Write one page that compares the finished runs in `folders` to `out`.

    Raises:
        UserError: fewer than two different folders, a run that has not finished or has no student, runs without a
            common metric, or `out` cannot be written to.
    """
    distinct = list({folder.resolve(): folder for folder in folders}.values())
    if len(distinct) < 2:
        raise UserError("a comparison needs two different runs or more", "name two finished run folders")
    write_atomically(out, render_comparison([read_finished(folder) for folder in distinct]))
    return out


def compare_any(folders: Sequence[Path]) -> str:
    """The comparison of whatever is asked for: runs that cannot be compared are named on the page, and left out.

    Raises:
        UserError: fewer than two runs are left.
    """
    found: list[FinishedRun] = []
    left_out: list[str] = []
    for folder in folders:
        try:
            run = read_finished(folder)
            _require_student(run)
            found.append(run)
        except UserError as error:
            left_out.append(f"Left out: {error.what}.")
    if len(found) < 2:
        raise UserError(f"fewer than two of these runs can be compared ({' '.join(left_out)})", "tick finished runs")
    try:
        common_metrics(found)
    except UserError as error:
        left_out.append(f"Quality is left out, for {error.what}.")
        found = [replace(run, result=replace(run.result, metrics=(), curves=())) for run in found]
        return render_comparison(found, left_out, metrics=())
    return render_comparison(found, left_out)


def render_comparison(
    runs: Sequence[FinishedRun], left_out: Sequence[str] = (), metrics: tuple[Metric, ...] | None = None
) -> str:
    """The comparison as HTML text; by default of the metrics that all runs share."""
    named = name_runs(runs)
    metrics = common_metrics(runs) if metrics is None else metrics
    marks = comparison_marks(named)
    plots = scatters(marks, metrics)
    rows, curve_marks = comparison_curves(named, marks, metrics)
    return render(
        "comparison.html.j2",
        runs=named,
        metrics=metrics,
        marks=marks,
        table=arms_table(marks, metrics),
        scatters=plots,
        curve_rows=rows,
        curve_marks=curve_marks,
        differing=differing_options(named),
        warnings=[*left_out, *warnings(named)],
        evidence=claims_of([run.method for run in runs]),
    )


def name_runs(runs: Sequence[FinishedRun]) -> list[NamedRun]:
    """Letters and folder names, with their parents' where two runs have the same one."""
    names = [run.name for run in runs]
    full = ["/".join(run.folder.resolve().parts[-2:]) if names.count(run.name) > 1 else run.name for run in runs]
    return [NamedRun(_letters(i), name, run) for i, (name, run) in enumerate(zip(full, runs, strict=True))]


def _letters(index: int) -> str:
    return (_letters(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)


def common_metrics(runs: Sequence[FinishedRun]) -> tuple[Metric, ...]:
    """The metrics that all runs have, in the first run's order; a floor is kept where all runs agree on it.

    Raises:
        UserError: there is none, or two runs read the same metric in opposite directions.
    """
    by_key = [{metric.key: metric for metric in run.result.metrics} for run in runs]
    shared = [key for key in by_key[0] if all(key in metrics for metrics in by_key)]
    if not shared:
        told = "; ".join(f"{run.name}: {', '.join(metrics)}" for run, metrics in zip(runs, by_key, strict=True))
        raise UserError(f"the runs share no metric ({told})", "compare runs that measure the same")
    found = []
    for key in shared:
        versions = [metrics[key] for metrics in by_key]
        if len({metric.better for metric in versions}) > 1:
            raise UserError(f"the runs do not agree on whether a lower {key!r} is better", "run them with one version")
        agreed = len({metric.floor for metric in versions}) == 1
        found.append(versions[0] if agreed else replace(versions[0], floor=None))
    return tuple(found)


def comparison_marks(runs: Sequence[NamedRun]) -> tuple[Mark, ...]:
    """Every run's teacher and students; a teacher that runs have in common appears once.

    Raises:
        UserError: a run has no student.
    """
    teachers: list[tuple[str, Arm, Arm | None, str]] = []
    students: list[tuple[str, Arm, Arm | None, str]] = []
    for named in runs:
        result = named.run.result
        _require_student(named.run)
        teacher = first_arm(result, "teacher")
        students += [(arm.name, arm, teacher, named.letter) for arm in result.arms if arm.role == "student"]
        if teacher and not any(_same_teacher(teacher, other) for _, other, _, _ in teachers):
            teachers.append((teacher.name, teacher, teacher, named.letter))
    if len(teachers) == 1:
        teachers = [(label, arm, teacher, "") for label, arm, teacher, _ in teachers]
    return mark_labelled([*teachers, *students])


def _require_student(run: FinishedRun) -> None:
    if first_arm(run.result, "student") is None:
        raise UserError(f"{run.folder} has no student to compare", "leave it out")


def _same_teacher(one: Arm, other: Arm) -> bool:
    """Latencies of the same teacher differ from run to run, so quality and size decide."""
    return (one.name, one.metrics, one.cost.parameters) == (other.name, other.metrics, other.cost.parameters)


def comparison_curves(
    runs: Sequence[NamedRun], marks: Sequence[Mark], metrics: Sequence[Metric]
) -> tuple[list[CurveRow], list[Mark]]:
    """Students' curves of every shared metric over every axis that two runs or more have, all runs in one panel; and the
    marks that they use. Runs that differ by nothing but their seed are one line, their mean, in a band from lowest to highest."""
    axes: dict[str, str] = {}
    for named in runs:
        axes = {**named.run.result.axes, **axes}
    rows: list[CurveRow] = []
    used: dict[int, Mark] = {}
    for metric in metrics:
        plots = []
        for axis, title in axes.items():
            curves = [pair for group in seed_groups(runs) for pair in group_curves(group, marks, metric.key, axis)]
            if len(_runs_of(curves)) > 1:
                plots.append(curve_panel(curves, metric, axis, title, _common_teacher_value(runs, metric.key)))
                used |= {mark.number: mark for mark, _ in curves}
        if plots:
            rows.append(CurveRow(metric, tuple(plots)))
    return rows, [used[number] for number in sorted(used)]


def _runs_of(curves: Sequence[tuple[Mark, Curve]]) -> set[str]:
    return {letter for mark, _ in curves for letter in mark.run.split(", ")}


def seed_groups(runs: Sequence[NamedRun]) -> list[list[NamedRun]]:
    """Runs of one method and config, whatever their seed, in the order of their first ones."""
    groups: dict[str, list[NamedRun]] = {}
    for named in runs:
        options = {name: value for name, value in flat(named.run.options).items() if name != "seed"}
        groups.setdefault(repr((named.run.method, sorted(options.items()))), []).append(named)
    return list(groups.values())


def group_curves(group: Sequence[NamedRun], marks: Sequence[Mark], metric: str, axis: str) -> list[tuple[Mark, Curve]]:
    """The curves of each of a group's students along one axis: as they are for one run, mean and band for several."""
    by_arm: dict[str, list[tuple[Mark, Curve]]] = {}
    for named in group:
        for mark, curve in _student_curves(named, marks, metric):
            if curve_points(curve, axis):
                by_arm.setdefault(curve.arm, []).append((mark, curve))
    return [pairs[0] if len(pairs) == 1 else _band(pairs, axis) for pairs in by_arm.values()]


def _band(pairs: Sequence[tuple[Mark, Curve]], axis: str) -> tuple[Mark, Curve]:
    """Mean, lowest and highest of several curves where all of them are known, at the positions of any of them."""
    curves = [curve_points(curve, axis) for _, curve in pairs]
    first, last = max(points[0][0] for points in curves), min(points[-1][0] for points in curves)
    positions = sorted({x for points in curves for x, _ in points if first <= x <= last})
    values = np.array([np.interp(positions, *np.array(points).T) for points in curves])
    mark, curve = pairs[0]
    letters = ", ".join(m.run for m, _ in pairs)
    points = tuple(
        {axis: x, "value": float(column.mean()), "low": float(column.min()), "high": float(column.max())}
        for x, column in zip(positions, values.T, strict=True)
    )
    label = f"{mark.label}, mean and range of {len(pairs)} seeds"
    return replace(mark, label=label, run=letters), Curve(curve.arm, curve.metric, points)


def _student_curves(named: NamedRun, marks: Sequence[Mark], metric: str) -> list[tuple[Mark, Curve]]:
    mine = {mark.arm.name: mark for mark in reversed(marks) if mark.run == named.letter and mark.arm.role == "student"}
    return [(mine[c.arm], c) for c in named.run.result.curves if c.metric == metric and c.arm in mine]


def _common_teacher_value(runs: Sequence[NamedRun], metric: str) -> float | None:
    """The teachers' value where they all have the same one, so that one dashed line is true for all."""
    teachers = [first_arm(named.run.result, "teacher") for named in runs]
    values = {teacher.metrics.get(metric) if teacher else None for teacher in teachers}
    return values.pop() if len(values) == 1 else None


def differing_options(runs: Sequence[NamedRun]) -> dict[str, list[str]]:
    """Config options whose values differ, by name: a value a run."""
    options = [{"method": named.run.method, **flat(named.run.options)} for named in runs]
    names = dict.fromkeys(name for each in options for name in each)
    values = {name: [each.get(name, MISSING) for each in options] for name in names}
    return {name: row for name, row in values.items() if len(set(row)) > 1}


def warnings(runs: Sequence[NamedRun]) -> list[str]:
    """What makes the runs' numbers hard to compare."""
    found = []
    data = list(dict.fromkeys(str(named.run.options.get("data", "")) for named in runs))
    if len(data) > 1:
        shown = ", ".join(value or "none" for value in data)
        found.append(f"The runs used different data ({shown}), so their quality is not directly comparable.")
    machines = {
        str(named.run.environment.get("processor")) + str(named.run.environment.get("accelerator")) for named in runs
    }
    if len(machines) > 1:
        found.append("The runs were made on different machines, so their seconds are not directly comparable.")
    return found

"""Arms as pages show them: numbered and coloured once, then the same in every table and plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stillhouse.core.result import Arm, Cost, Metric
from stillhouse.reporting.numbers import (
    BYTES,
    COUNT,
    MISSING,
    SECONDS,
    Unit,
    column_decimals,
    column_unit,
    finite,
    fixed,
    times,
)

ROLES = ("teacher", "student", "baseline", "peer", "floor")
SERIES_COLOURS = 8
CROWDED = 16
"""With more arms than this in a plot, only those that matter are numbered."""


@dataclass(frozen=True)
class Mark:
    """An arm's place on a page."""

    number: int
    label: str
    arm: Arm
    colour: str
    """Name of a CSS colour variable: "ink", "muted" or "series-3"."""
    teacher: Arm | None = None
    """What its speed is compared with."""
    run: str = ""
    """Name of its run, on pages of several runs."""


@dataclass(frozen=True)
class Quantity:
    """One kind of cost: how to read it from a `Cost`, and its units."""

    title: str
    read: Callable[[Cost], float | None]
    units: Sequence[Unit] = (Unit("", 1.0),)
    is_latency: bool = False


@dataclass(frozen=True)
class Cell:
    """One entry of the arms table."""

    text: str
    note: str = ""
    best: bool = False


@dataclass(frozen=True)
class Column:
    """A column of the arms table, with its cells in the order of the rows."""

    title: str
    unit: str
    better: str
    """"lower", "higher", or "" for a column that has no direction."""
    cells: tuple[Cell, ...]
    floor: str = MISSING


@dataclass(frozen=True)
class ArmsTable:
    """Quality columns beside cost columns, one row a mark."""

    marks: tuple[Mark, ...]
    quality: tuple[Column, ...]
    costs: tuple[Column, ...]

    @property
    def has_floor(self) -> bool:
        """Whether any metric has a floor."""
        return any(column.floor != MISSING for column in self.quality)


def mark_arms(arms: Sequence[Arm]) -> tuple[Mark, ...]:
    """Number the arms of one run: teacher first, then students, baselines, peers, floors."""
    ordered = sorted(arms, key=lambda arm: ROLES.index(arm.role))
    teacher = next((arm for arm in ordered if arm.role == "teacher"), None)
    names = [arm.name for arm in ordered]
    labels = [f"{arm.name} (seed {arm.seed})" if names.count(arm.name) > 1 else arm.name for arm in ordered]
    return mark_labelled([(label, arm, teacher, "") for label, arm in zip(labels, ordered, strict=True)])


def mark_labelled(rows: Iterable[tuple[str, Arm, Arm | None, str]]) -> tuple[Mark, ...]:
    """Number and colour (label, arm, its teacher, its run) in the order given."""
    marks: list[Mark] = []
    series = 0
    for number, (label, arm, teacher, run) in enumerate(rows, 1):
        colour = {"teacher": "ink", "floor": "muted"}.get(arm.role)
        if colour is None:
            colour, series = f"series-{series % SERIES_COLOURS}", series + 1
        marks.append(Mark(number, label, arm, colour, teacher, run))
    return tuple(marks)


def quantities(arms: Iterable[Arm]) -> tuple[Quantity, ...]:
    """The kinds of cost that at least one arm states."""
    arms = tuple(arms)
    conditions = dict.fromkeys(condition for arm in arms for condition in arm.cost.latency_seconds)
    known = (
        Quantity("Network passes per item", lambda cost: cost.network_passes),
        *(_latency(condition) for condition in conditions),
        Quantity("Parameters", lambda cost: cost.parameters, COUNT),
        Quantity("Size on disk", lambda cost: cost.bytes_on_disk, BYTES),
        Quantity("Training time", lambda cost: cost.training_seconds, SECONDS),
        Quantity("Training passes", lambda cost: cost.training_passes, COUNT),
    )
    return tuple(kind for kind in known if finite(kind.read(arm.cost) for arm in arms))


def _latency(condition: str) -> Quantity:
    title = f"Time per item, {condition}" if condition else "Time per item"
    return Quantity(title, lambda cost: cost.latency_seconds.get(condition), SECONDS, is_latency=True)


def arms_table(marks: Sequence[Mark], metrics: Sequence[Metric]) -> ArmsTable:
    """The table of quality against cost."""
    costs = [cost_column(marks, kind) for kind in quantities(mark.arm for mark in marks)]
    if any(mark.arm.cost.updates for mark in marks):
        costs.append(Column("Updates", "", "", tuple(Cell(updates_text(mark.arm.cost)) for mark in marks)))
    return ArmsTable(tuple(marks), tuple(metric_column(marks, metric) for metric in metrics), tuple(costs))


def metric_column(marks: Sequence[Mark], metric: Metric) -> Column:
    """One metric of every arm, the best arm that is no teacher or floor marked, and the metric's floor."""
    values = [mark.arm.metrics.get(metric.key) for mark in marks]
    decimals = column_decimals([*values, metric.floor])
    best = best_value(marks, metric)
    cells = tuple(
        Cell(fixed(value, decimals), best=value is not None and value == best and mark.arm.role in CONTENDERS)
        for mark, value in zip(marks, values, strict=True)
    )
    return Column(metric.title, metric.unit, metric.better, cells, fixed(metric.floor, decimals))


CONTENDERS = ("student", "baseline", "peer")


def best_value(marks: Sequence[Mark], metric: Metric) -> float | None:
    """The best value among arms that are no teacher or floor; None where they do not differ."""
    values = finite(mark.arm.metrics.get(metric.key) for mark in marks if mark.arm.role in CONTENDERS)
    if len(set(values)) < 2:
        return None
    return min(values) if metric.better == "lower" else max(values)


def cost_column(marks: Sequence[Mark], kind: Quantity) -> Column:
    """One kind of cost of every arm; a latency carries its speed-up against the teacher."""
    values = [kind.read(mark.arm.cost) for mark in marks]
    unit = column_unit(values, kind.units)
    scaled = [None if value is None else value / unit.size for value in values]
    decimals = min(column_decimals(scaled), 3)
    notes = [speed_up(mark, kind) if kind.is_latency else "" for mark in marks]
    cells = tuple(Cell(fixed(value, decimals), note) for value, note in zip(scaled, notes, strict=True))
    return Column(kind.title, unit.name, "", cells)


def speed_up(mark: Mark, kind: Quantity) -> str:
    """ "31× faster", against the teacher under the same condition; nothing for the teacher itself."""
    if mark.teacher is None or mark.arm is mark.teacher:
        return ""
    ours, theirs = kind.read(mark.arm.cost), kind.read(mark.teacher.cost)
    return speed_words(ours, theirs)


def speed_words(ours: float | None, theirs: float | None) -> str:
    """Two durations in words: "31× faster", "1.4× slower", "as fast"."""
    if not ours or not theirs or not math.isfinite(ours) or not math.isfinite(theirs):
        return ""
    ratio = theirs / ours
    if 0.95 <= ratio <= 1.05:
        return "as fast"
    return f"{times(ratio)} faster" if ratio > 1 else f"{times(1 / ratio)} slower"


def updates_text(cost: Cost) -> str:
    """Updates by network: "student 400, fake score 2,000"."""
    parts = [f"{name.replace('_', ' ')} {count:,}" for name, count in cost.updates.items()]
    return ", ".join(parts) or MISSING


def pareto_front(points: Sequence[tuple[float, float]], better: str) -> list[bool]:
    """For each (cost, quality): whether no other point is at least as good in both and better in one.

    Args:
        better: "lower" or "higher" quality; a lower cost is always better.
    """
    sign = 1.0 if better == "lower" else -1.0
    keys = [(cost, sign * quality) for cost, quality in points]

    def beaten(one: tuple[float, float]) -> bool:
        return any(other != one and other[0] <= one[0] and other[1] <= one[1] for other in keys)

    return [not beaten(key) for key in keys]

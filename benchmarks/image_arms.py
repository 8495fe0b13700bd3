"""Arms of the image benchmarks: runs of a method with a shared setting, each tuned alike, kept and resumed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.ticker import FuncFormatter

import stillhouse
from stillhouse.core.evidence import Bench, Claim, ClaimedArm, judge, mean_with_interval, ratio_of_means
from stillhouse.core.files import content_hash
from stillhouse.core.result import Arm, Cost

TUNING_SEED = 100


@dataclass(frozen=True)
class ImageArm:
    """A method with options; what all arms of a benchmark share is left out."""

    name: str
    method: str
    options: Mapping[str, Any]
    tuned_as: str = ""
    """Name of the arm whose learning rate this one takes, where tuning each would decide nothing."""


@dataclass(frozen=True)
class ImageArms:
    """A family of arms over one data set.

    Args:
        bench: where pieces are kept.
        data: name of the data set, part of the claims.
        shared: options that all arms have.
        rates: learning rates tried by every arm on the select split with a seed of its own; the critic's is twice that.
        seeds: seeds of the report.
    """

    bench: Bench
    data: str
    shared: Mapping[str, Any]
    rates: Sequence[float]
    seeds: Sequence[int]

    def run(self, arm: ImageArm, seed: int, rate: float, judged_on: str) -> Any:
        """A run as a JSON value, taken up where an earlier start of the script left it."""
        options = self._options(arm, seed, rate, judged_on)
        return self.bench.piece({"method": arm.method, **options}, lambda: run_value(self.bench, arm.method, options))

    def kept(self, arm: ImageArm, seed: int, rate: float, judged_on: str) -> Any | None:
        """A run that is on disk; None where it is not."""
        return self.bench.kept({"method": arm.method, **self._options(arm, seed, rate, judged_on)})

    def _options(self, arm: ImageArm, seed: int, rate: float, judged_on: str) -> dict[str, Any]:
        return {
            **self.shared,
            **arm.options,
            "seed": seed,
            "student_lr": rate,
            "fake_lr": 2 * rate,
            "judged_on": judged_on,
        }

    def rate(self, arm: ImageArm, arms: Sequence[ImageArm] = ()) -> float:
        """The arm's learning rate: best FID on the select split."""
        if len(self.rates) == 1:
            return self.rates[0]
        tuned = self._tuned(arm, arms)
        return min(self.rates, key=lambda rate: self.run(tuned, TUNING_SEED, rate, "select")["metrics"]["fid"])

    def kept_rate(self, arm: ImageArm, arms: Sequence[ImageArm] = ()) -> float | None:
        """The arm's learning rate if it was tuned already."""
        tuned = self._tuned(arm, arms)
        runs = {rate: self.kept(tuned, TUNING_SEED, rate, "select") for rate in self.rates}
        if len(self.rates) > 1 and None in runs.values():
            return None
        return min(self.rates, key=lambda rate: runs[rate]["metrics"]["fid"] if runs[rate] else 0.0)

    def _tuned(self, arm: ImageArm, arms: Sequence[ImageArm]) -> ImageArm:
        """The arm whose rate this one takes."""
        return next((other for other in arms if other.name == arm.tuned_as), arm)

    def reports(self, arm: ImageArm, arms: Sequence[ImageArm] = ()) -> list[Any]:
        """The arm's reported runs, a seed each."""
        rate = self.rate(arm, arms)
        return [self.run(arm, seed, rate, "report") for seed in self.seeds]

    def collect(self, arm: ImageArm, values: Sequence[Any], role: Any) -> None:
        """Put the raw numbers into the result file."""
        for seed, value in zip(self.seeds, values, strict=True):
            cost = Cost(**value["cost"])
            self.bench.arms.append(ClaimedArm(self.data, Arm(arm.name, role, value["metrics"], cost, seed)))

    def ratio(
        self,
        id: str,
        statement: str,
        paper: float | None,
        top: Sequence[float],
        bottom: Sequence[float],
        threshold: str,
        command: str,
        note: str = "",
    ) -> Claim:
        """A claim about a ratio of means over the seeds."""
        return made_claim(
            id, statement, paper, ratio_of_means(top, bottom), threshold, len(top), self.data, command, note
        )


def run_value(bench: Bench, method: str, options: Mapping[str, Any]) -> Any:
    """Run (or resume) and read what the claims need."""
    folder = bench.pieces / "runs" / content_hash([method, repr(sorted(options.items()))])
    if (folder / "config.json").exists():
        run = stillhouse.resume(folder, quiet=True)
    else:
        run = stillhouse.run(method, out=folder, quiet=True, **options)
    student = run.result.arm("student")
    cost = dict(vars(student.cost))
    curves = {curve.metric: [dict(point) for point in curve.points] for curve in run.result.curves}
    others = {arm.name: dict(arm.metrics) for arm in run.result.arms if arm.role != "student"}
    other_costs = {arm.name: dict(vars(arm.cost)) for arm in run.result.arms if arm.role != "student"}
    tables = [[list(row) for row in table.rows] for table in run.result.tables]
    for checkpoints in folder.rglob("checkpoint"):
        shutil.rmtree(checkpoints)
    return {
        "metrics": dict(student.metrics),
        "cost": cost,
        "curves": curves,
        "tables": tables,
        "others": others,
        "other_costs": other_costs,
    }


def at(points: Sequence[Mapping[str, float]], axis: str, position: float) -> float:
    """A curve's value at a position of an axis, linearly between its points; its nearest end beyond them."""
    if position <= points[0][axis]:
        return points[0]["value"]
    for a, b in pairwise(points):
        if a[axis] <= position <= b[axis]:
            share = (position - a[axis]) / max(1e-12, b[axis] - a[axis])
            return a["value"] + share * (b["value"] - a["value"])
    return points[-1]["value"]


def made_claim(
    id: str,
    statement: str,
    paper: float | None,
    found: tuple[float, tuple[float, float]],
    threshold: str,
    seeds: int,
    data: str,
    command: str,
    note: str = "",
) -> Claim:
    """A claim with its verdict."""
    measured, (low, high) = found
    interval = (round(low, 4), round(high, 4))
    return Claim(
        id,
        statement,
        paper,
        round(measured, 4),
        interval,
        threshold,
        seeds,
        judge(interval, threshold),
        data,
        command,
        note,
    )


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return mean_with_interval(values)[0]


def plain_logarithm(axes: Any) -> None:
    """A logarithmic y axis with plain numbers, and a grid."""
    axes.set_yscale("log")
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.grid(alpha=0.3, which="both")

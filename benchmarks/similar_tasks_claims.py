"""What similar_tasks.py states from its pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stillhouse.core.evidence import Claim, judge, mean_with_interval
from stillhouse.vision.ranking import spearman

Rows = Mapping[str, Sequence[tuple[Any, Mapping[str, Any], Mapping[str, Any]]]]
"""(cell, what differs in its config, result) by part."""
METRIC_TITLES = {"auc": "PARC's AUC", "parc": "PARC", "rank sum": "AUC, LogME and H-score by rank sum"}


def by_seed(rows: Rows, arm: str) -> dict[int, float]:
    """Mean accuracy over the targets of an arm, by seed; seeds that lack a target are left out."""
    targets = {(cell.target, cell.budget) for cell, _, _ in rows["arms"]}
    found: dict[int, dict[Any, float]] = {}
    for cell, _, told in rows["arms"]:
        found.setdefault(cell.seed, {})[cell.target, cell.budget] = told["arms"][arm]["accuracy"]
    return {
        seed: float(np.mean(list(values.values()))) for seed, values in found.items() if len(values) == len(targets)
    }


def differences(rows: Rows, one: str, other: str) -> list[float]:
    """Points of mean accuracy between two arms, a number a seed."""
    left, right = by_seed(rows, one), by_seed(rows, other)
    return [100 * (left[seed] - right[seed]) for seed in sorted(left)]


GAINS = (
    (
        "over-broad",
        "DistillWeighted over the broad initialisation, points of accuracy",
        "weighted",
        "broad",
        5.6,
        ">= 0",
    ),
    ("over-fixmatch", "DistillWeighted over FixMatch, points of accuracy", "weighted", "fixmatch", 4.5, ">= 0"),
    ("over-scratch", "DistillWeighted over labels alone, points of accuracy", "weighted", "scratch", None, ">= 0"),
    ("over-nearest", "DistillWeighted over DistillNearest, points of accuracy", "weighted", "nearest", None, ">= 0"),
    ("over-uniform", "DistillWeighted over uniform weights, points of accuracy", "weighted", "uniform", None, ">= 0"),
    (
        "over-finetune",
        "DistillWeighted over fine-tuning the nearest source, points of accuracy",
        "weighted",
        "finetune",
        None,
        ">= 0",
    ),
    (
        "nearest-over-random",
        "DistillNearest over a random source, points of accuracy",
        "nearest",
        "random",
        None,
        ">= 0",
    ),
    (
        "nearest-over-worst",
        "DistillNearest over the least similar source, points of accuracy",
        "nearest",
        "worst",
        None,
        ">= 0",
    ),
)


def claims(rows: Rows, size: str) -> Iterator[Claim]:
    """Everything that the pieces on disk allow to be said."""
    command = "python benchmarks/similar_tasks.py" + ("" if size == "small" else f" --size {size}")
    names = sorted({cell.target for cell, _, _ in rows["arms"]})
    data = f"{', '.join(names)}; {size} size"
    for key, statement, one, other, paper, threshold in GAINS:
        values = differences(rows, one, other) if rows["arms"] else []
        if values:
            mean, interval = mean_with_interval(values)
            yield Claim(
                key, statement, paper, mean, interval, threshold, len(values), judge(interval, threshold), data, command
            )
    for name in ("auc", "parc", "cka", "logme", "h_score", "nearest", "leep", "nce", "rsa", "rank sum"):
        values = correlations(rows, name)
        if len(values) > 1:
            mean, interval = mean_with_interval(values)
            title = METRIC_TITLES.get(name, name)
            statement = f"{title}: Spearman with the accuracy of students from each source"
            note = "a number a target; the interval is over targets"
            yield Claim(
                f"predicts-{name}",
                statement,
                None,
                mean,
                interval,
                ">= 0.6",
                1,
                judge(interval, ">= 0.6"),
                data,
                command,
                note,
            )
    yield from other_claims(rows, command, data)


def correlations(rows: Rows, name: str) -> list[float]:
    """Spearman of a metric and the distilled accuracy over the sources, a number a target."""
    values = []
    for _, _, told in rows["predict"]:
        pairs = [(s, a) for s, a in zip(told["scores"].get(name, []), told["accuracy"], strict=False) if np.isfinite(s)]
        if len(pairs) > 2:
            values.append(spearman([s for s, _ in pairs], [a for _, a in pairs]))
    return values


def other_claims(rows: Rows, command: str, data: str) -> Iterator[Claim]:
    """Speed, far sources, wrong sources."""
    for _, _, told in rows["speed"]:
        ratio, seconds = told["distilled_step"] / told["plain_step"], told["similarity_of_28"]
        one = "A step with 28 cached sources against plain training, processor seconds"
        yield Claim(
            "step",
            one,
            None,
            ratio,
            (ratio, ratio),
            "<= 1.3",
            1,
            judge((ratio, ratio), "<= 1.3"),
            "28 x 28 grey, batch 128",
            command,
        )
        two = "Similarity of 28 sources at 500 labels by nine metrics with intervals, processor seconds"
        yield Claim(
            "similarity-seconds",
            two,
            None,
            seconds,
            (seconds, seconds),
            "<= 120",
            1,
            judge((seconds, seconds), "<= 120"),
            "128 features",
            command,
            "one core; the aim is two minutes",
        )
    far = [
        100 * (told["arms"]["weighted"]["accuracy"] - told["arms"]["scratch"]["accuracy"]) for _, _, told in rows["far"]
    ]
    if len(far) > 1:
        mean, interval = mean_with_interval(far)
        yield Claim(
            "far",
            "Only sources of another domain: DistillWeighted over labels alone, points",
            None,
            mean,
            interval,
            ">= -1",
            len(far),
            judge(interval, ">= -1"),
            data,
            command,
        )
    wrong = [told["weights"]["NaN"] for _, _, told in rows["wrong"]]
    if wrong:
        most = max(wrong)
        yield Claim(
            "nan",
            "Weight of a source whose outputs are not finite",
            None,
            most,
            (most, most),
            "<= 0",
            len(wrong),
            judge((most, most), "<= 0"),
            data,
            command,
        )


def tables(rows: Rows, targets: Mapping[str, Any]) -> str:
    """Markdown for the method's page."""
    lines = []
    cells = {(cell.target, cell.budget) for cell, _, _ in rows["arms"]}
    arms = list(rows["arms"][0][2]["arms"]) if rows["arms"] else []
    lines += ["| arm | " + " | ".join(f"{t}, {targets[t].labels[b]}" for t, b in sorted(cells)) + " | mean |"]
    lines += ["|---|" + "---:|" * (len(cells) + 1)]
    for arm in arms:
        row = []
        for key in sorted(cells):
            values = [
                100 * told["arms"][arm]["accuracy"]
                for cell, _, told in rows["arms"]
                if (cell.target, cell.budget) == key
            ]
            row.append((float(np.mean(values)), float(np.std(values))))
        lines.append(
            f"| {arm} | "
            + " | ".join(f"{m:.1f} ± {s:.1f}" for m, s in row)
            + f" | {np.mean([m for m, _ in row]):.1f} |"
        )
    if rows["predict"]:
        names = list(rows["predict"][0][2]["scores"])
        lines += ["", "| metric | " + " | ".join(cell.target for cell, _, _ in rows["predict"]) + " |"]
        lines += ["|---|" + "---:|" * len(rows["predict"])]
        for name in names:
            values = [spearman(told["scores"][name], told["accuracy"]) for _, _, told in rows["predict"]]
            lines.append(f"| {name} | " + " | ".join(f"{v:.2f}" for v in values) + " |")
    if rows["sharpness"]:
        powers = sorted({changes["power"] for _, changes, _ in rows["sharpness"]})
        lines += ["", "| power | mean accuracy | cells |", "|---|---:|---:|"]
        for power in powers:
            values = [
                told["arms"]["weighted"]["accuracy"]
                for _, changes, told in rows["sharpness"]
                if changes["power"] == power
            ]
            lines.append(f"| {power:g} | {100 * np.mean(values):.1f} | {len(values)} |")
    return "\n".join(lines)

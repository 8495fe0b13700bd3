"""What a reader wants to see: the sources in order, their weights, how similarity predicts accuracy, and what each arm cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from stillhouse.core.result import Picture, Table
from stillhouse.core.run import Run
from stillhouse.methods.similar_tasks.arms import Spent
from stillhouse.methods.similar_tasks.drawer import Drawer
from stillhouse.methods.similar_tasks.ranking import Score, combined_ranks, order
from stillhouse.vision.ranking import spearman
from stillhouse.vision.sources import Unusable

matplotlib.rcParams["svg.hashsalt"] = "stillhouse"
CLEAR, FAR, LINE = "#c0562b", "#8a94a6", "#4c566a"


def decimals(value: float, digits: int = 3) -> float | str:
    """A number for a table; a dash where there is none."""
    return "-" if not np.isfinite(value) else round(value, digits)


def ranking_table(scores: Sequence[Score], weights: np.ndarray, metric: str, unusable: Sequence[Unusable]) -> Table:
    """Sources, the most similar first; those without a part last, with the reason."""
    measures = list(scores[0].others)
    combined = combined_ranks(scores)
    rows: list[tuple[str | float, ...]] = []
    for place, i in enumerate(order(scores), 1):
        score = scores[i]
        interval = "-" if not np.isfinite(score.interval[0]) else f"{score.interval[0]:.3f} to {score.interval[1]:.3f}"
        others = [decimals(score.others.get(name, float("nan"))) for name in measures if name != metric]
        rows.append(
            (
                f"{place} {score.source}",
                round(float(weights[i]), 3),
                decimals(score.value),
                interval,
                f"{score.chance:.3f} ± {score.deviation:.3f}",
                f"{score.first:.0%}",
                *others,
                decimals(combined[i], 2),
                score.why or ("" if score.clears_chance else "not above chance"),
            )
        )
    gap: tuple[str | float, ...] = ("-",) * (6 + len([m for m in measures if m != metric]))
    rows += [(one.name, 0.0, *gap[1:], one.why) for one in unusable]
    columns = (
        "source",
        "weight",
        metric,
        "95 % interval",
        "shuffled labels",
        "nearest in",
        *[m for m in measures if m != metric],
        "rank sum",
        "remark",
    )
    return Table(
        "Which source is similar?",
        columns,
        tuple(rows),
        f"By {metric} on the labelled images; the interval and the share of times a source comes first are over half-samples of the "
        "labels. Rank sum: auc, LogME and H-score together.",
    )


def prediction_table(scores: Sequence[Score], accuracies: Mapping[int, float]) -> Table:
    """How each metric orders the sources, against the accuracy of a student distilled from each."""
    some = list(accuracies)
    truth = [accuracies[i] for i in some]
    table = {name: [scores[i].others.get(name, float("nan")) for i in some] for name in scores[some[0]].others}
    table["rank sum"] = combined_ranks(scores)[some].tolist()
    best = max(truth)
    rows: list[tuple[str | float, ...]] = []
    for name, values in table.items():
        whole = [j for j, value in enumerate(values) if np.isfinite(value)]
        if len(whole) < 2:
            rows.append((name, "-", "-"))
            continue
        chosen = max(whole, key=lambda j: values[j])
        rank = spearman([values[j] for j in whole], [truth[j] for j in whole])
        rows.append((name, round(rank, 2), round(best - truth[chosen], 4)))
    rows.append(("a random source", 0.0, round(best - float(np.mean(truth)), 4)))
    return Table(
        "Does similarity predict accuracy?",
        ("metric", "Spearman", "regret"),
        tuple(rows),
        f"Over {len(some)} students, each distilled from one source. Regret: accuracy of the best of them less that of the metric's choice.",
    )


def cost_table(spent: Mapping[str, Spent]) -> Table:
    """What every arm was made with."""
    return Table(
        "What each arm cost to make",
        ("arm", "updates", "images, forward and backward", "images through sources", "seconds"),
        tuple((name, s.updates, s.images, s.source_images, round(s.seconds, 1)) for name, s in spent.items()),
        "Seconds are of this machine; a pass of the sources is charged whether or not the cache had it.",
    )


def similarity_picture(
    drawer: Drawer,
    scores: Sequence[Score],
    accuracies: Mapping[int, float],
    metric: str,
    scratch: float | None,
    run: Run,
) -> Picture:
    """Similarity against the accuracy of the student distilled from each source, or similarity alone."""
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.add_subplot()
    if accuracies:
        for i, value in accuracies.items():
            colour = CLEAR if scores[i].clears_chance else FAR
            axes.errorbar(scores[i].value, value, xerr=_half(scores[i]), fmt="o", color=colour, ms=5, lw=0.8)
            number = str(1 + order(scores).index(i))
            axes.annotate(number, (scores[i].value, value), fontsize=8, xytext=(3, 3), textcoords="offset points")
        if scratch is not None:
            axes.axhline(scratch, color=LINE, ls="--", lw=1)
            axes.annotate(
                "labels alone",
                (1, scratch),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=7,
                color=LINE,
            )
        axes.set_ylabel("accuracy when distilled from it")
    else:
        ranked = [i for i in order(scores) if np.isfinite(scores[i].value)][::-1]
        for y, i in enumerate(ranked):
            colour = CLEAR if scores[i].clears_chance else FAR
            axes.errorbar(scores[i].value, y, xerr=_half(scores[i]), fmt="o", color=colour, ms=5, lw=0.8)
        axes.set_yticks(range(len(ranked)), [drawer.sources[i].name for i in ranked], fontsize=7)
    axes.set_xlabel(f"similarity to the labelled images ({metric})")
    figure.savefig(run.picture_file("similarity.svg"), format="svg", metadata={"Date": None})
    return Picture(
        "Similarity of the sources",
        "pictures/similarity.svg",
        f"{len(scores)} sources by {metric}",
        "Numbers are those of the table below. Bars are 95 % intervals over half-samples of the labels; grey sources are not above what shuffled labels give.",
    )


def _half(score: Score) -> float:
    width = (score.interval[1] - score.interval[0]) / 2
    return width if np.isfinite(width) else 0.0

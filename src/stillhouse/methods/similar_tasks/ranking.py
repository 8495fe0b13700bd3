"""Which source? Every similarity of every source to the labelled images, with what chance gives and how sure the order is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.spatial.distance import squareform

from stillhouse.core.errors import UserError, require
from stillhouse.core.seeding import derive_seed
from stillhouse.vision import similarity
from stillhouse.vision.ranking import rank_sum
from stillhouse.vision.similarity import Undefined, same_class
from stillhouse.vision.sources import Outputs

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Labels = np.ndarray
Measure = Callable[[np.ndarray, np.ndarray, Labels], float]
"""(features, class probabilities, labels) to a similarity."""
MetricName = Literal["auc", "auc_plain", "parc", "cka", "logme", "h_score", "nearest", "leep", "nce"]
MEASURES: dict[str, Measure] = {
    "auc": lambda f, q, y: similarity.auc(f, y),
    "auc_plain": lambda f, q, y: similarity.auc_plain(f, y),
    "parc": lambda f, q, y: similarity.parc(f, y),
    "cka": lambda f, q, y: similarity.label_cka(f, y),
    "logme": lambda f, q, y: similarity.logme(f, y),
    "h_score": lambda f, q, y: similarity.h_score(f, y),
    "nearest": lambda f, q, y: similarity.nearest_neighbour(f, y),
    "leep": lambda f, q, y: similarity.leep(q, y),
    "nce": lambda f, q, y: similarity.nce(q, y),
}
PAIRED: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray, np.ndarray], float]]] = {
    "auc": (similarity.whitened_distances, similarity.closeness),
    "auc_plain": (similarity.plain_distances, similarity.closeness),
    "parc": (similarity.whitened_distances, similarity.rank_correlation),
}
"""Metrics of pairs: distances of features, and what the labels make of them. Part of the images needs no new distances."""
COMBINED = ("auc", "logme", "h_score")
"""Whose ranks are added to a combined one."""
SHUFFLES, RESAMPLES = 20, 20


@dataclass(frozen=True)
class Score:
    """One source's similarity to the task."""

    source: str
    value: float
    """By the metric that weights go by; NaN where it is not defined."""
    interval: tuple[float, float]
    """95 %, over half-samples of the labels."""
    chance: float
    """Mean with shuffled labels."""
    deviation: float
    """And their deviation."""
    first: float
    """Share of the half-samples in which it is the nearest source."""
    others: dict[str, float]
    """By every metric; NaN where not defined."""
    why: str = ""
    """What keeps the source out, if anything."""

    @property
    def clears_chance(self) -> bool:
        """Whether it is two deviations above shuffled labels."""
        return self.value > self.chance + 2 * self.deviation


def score_sources(
    names: Sequence[str],
    outputs: Sequence[Outputs | None],
    problems: Sequence[str],
    labels: Int[np.ndarray, " n"],
    metric: str,
    *,
    seed: int = 0,
    measures: Sequence[str] = tuple(MEASURES),
    reference: Float[np.ndarray, "n e"] | None = None,
) -> list[Score]:
    """Scores in the order of the sources.

    Args:
        names: of the sources.
        outputs: on the labelled images; None where a source failed.
        problems: why a source has no part; empty strings for the others.
        labels: of the images.
        metric: what weights go by.
        seed: of shuffles and half-samples.
        measures: the metrics to show beside it.
        reference: features of a model trained on the task, for RSA.

    Raises:
        UserError: the metric is undefined for every usable source, for the labels allow none.
    """
    halves = [half_sample(labels, derive_seed("half", seed, i)) for i in range(RESAMPLES)]
    rng = np.random.default_rng(derive_seed("shuffles", seed))
    shuffles = [rng.permutation(labels) for _ in range(SHUFFLES)]
    arrays = [_arrays(output) if output and not why else None for output, why in zip(outputs, problems, strict=True)]
    judges = [part and judge_of(metric, part) for part in arrays]
    resampled = np.array([[_value(judge, labels, rows) for rows in halves] for judge in judges])
    resampled = resampled.reshape(len(names), len(halves))
    filled = np.where(np.isnan(resampled), -np.inf, resampled)
    winners = np.where(np.isfinite(filled.max(0)), filled.argmax(0), -1) if len(names) else np.empty(0)
    everything = np.arange(len(labels))
    scores, undefined = [], ""
    for i, (name, part, why, judge) in enumerate(zip(names, arrays, problems, judges, strict=True)):
        if part is None or judge is None:
            nothing = dict.fromkeys(measures, float("nan"))
            scores.append(Score(name, float("nan"), (float("nan"),) * 2, 0.0, 0.0, 0.0, nothing, why))
            continue
        try:
            value = judge(labels, everything)
            chance = np.array([judge(shuffled, everything) for shuffled in shuffles])
        except Undefined as error:
            value, chance, why = float("nan"), np.zeros(1), str(error)
            undefined = undefined or why
        others = {measure: measured(measure, part, labels) for measure in measures}
        if reference is not None:
            others["rsa"] = _rsa(part[0], reference)
        spread = float(np.nanstd(resampled[i])) if not np.isnan(resampled[i]).all() else float("nan")
        interval = (value - 1.96 * spread, value + 1.96 * spread)
        share = float((winners == i).mean())
        scores.append(Score(name, value, interval, float(chance.mean()), float(chance.std()), share, others, why))
    if undefined and all(np.isnan(score.value) for score in scores):
        raise UserError(
            f"{metric} says nothing of any source ({undefined})",
            "give two labels a class or more, or choose --similarity leep, nce or logme",
        )
    return scores


def _arrays(outputs: Outputs) -> tuple[np.ndarray, np.ndarray]:
    return outputs.features.double().numpy(), outputs.log_probabilities.double().exp().numpy()


def half_sample(labels: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " m"]:
    """Half of every class's images without replacement (two at least, where there are): its spread is that of the whole.

    A bootstrap would draw images twice, and copies are pairs of one class at distance 0.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        parts.append(members[: max(2, (len(members) + int(rng.integers(2))) // 2)])
    return np.sort(np.concatenate(parts))


Judge = Callable[[Labels, np.ndarray], float]
"""(labels of all images, rows that count) to a similarity."""


def judge_of(metric: str, part: tuple[np.ndarray, np.ndarray]) -> Judge:
    """A metric of one source, to be asked about many labels and parts of the images.

    Distances of pairs are those of all images: principal components of fewer images than there are of them would be others.
    """
    if metric not in PAIRED:
        return lambda labels, rows: MEASURES[metric](part[0][rows], part[1][rows], labels[rows])
    distances_of, judged = PAIRED[metric]
    try:
        table = squareform(distances_of(part[0]), checks=False)
    except Undefined as error:
        return _never(error)
    return lambda labels, rows: judged(squareform(table[np.ix_(rows, rows)], checks=False), same_class(labels[rows]))


def _never(error: Undefined) -> Judge:
    def judge(labels: Labels, rows: np.ndarray) -> float:
        raise error

    return judge


def _value(judge: Judge | None, labels: Labels, rows: np.ndarray) -> float:
    try:
        return judge(labels, rows) if judge else float("nan")
    except Undefined:
        return float("nan")


def measured(measure: str, part: tuple[np.ndarray, np.ndarray], labels: Labels) -> float:
    """A metric's value, NaN where it is undefined."""
    try:
        return MEASURES[measure](*part, labels)
    except Undefined:
        return float("nan")


def _rsa(features: np.ndarray, reference: np.ndarray) -> float:
    try:
        return similarity.rsa(features, reference)
    except Undefined:
        return float("nan")


def order(scores: Sequence[Score]) -> list[int]:
    """Positions of the sources, the nearest first, those without a score last."""
    return sorted(range(len(scores)), key=lambda i: -np.nan_to_num(scores[i].value, nan=-np.inf))


def combined_ranks(scores: Sequence[Score]) -> np.ndarray:
    """Sum of the ranks by `COMBINED`, of sources for which all are defined; NaN for the others."""
    table = np.array([[score.others.get(name, float("nan")) for name in COMBINED] for score in scores])
    whole = ~np.isnan(table).any(1)
    ranks = np.full(len(scores), np.nan)
    if whole.any():
        ranks[whole] = rank_sum(table[whole].T.tolist())
    return ranks


def require_metric(name: str) -> None:
    """Raises UserError unless there is such a metric."""
    require(name in MEASURES, f"no similarity {name!r}", f"choose of {', '.join(MEASURES)}")

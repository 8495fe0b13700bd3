"""SQuAD's metrics, precision and recall beside them, intervals by users, and calibration.

    tokens of normalised texts:  P = |overlap| / |predicted|,  R = |overlap| / |gold|,  F1 = 2 P R / (P + R)

Normalised: lower case, punctuation and the articles a, an, the dropped. Of several right answers the one with the highest
F1 counts. A question without an answer scores 1 for saying so and 0 for any span.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stillhouse.core.seeding import derive_seed

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_DROPPED = str.maketrans("", "", string.punctuation + "…’‘“”")


class Marks(NamedTuple):
    """Of one answer."""

    exact: float
    f1: float
    precision: float
    recall: float


def normalise(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_DROPPED)).split())


def mark(predicted: str, golds: Sequence[str]) -> Marks:
    """The marks of an answer against all that count as right; "" is "the passage does not say"."""
    return max((_against(predicted, gold) for gold in golds), key=lambda m: (m.f1, m.exact))


def _against(predicted: str, gold: str) -> Marks:
    ours, theirs = normalise(predicted).split(), normalise(gold).split()
    if not ours or not theirs:
        same = (
            float(not predicted.strip() and not gold.strip())
            if not gold.strip() or not predicted.strip()
            else float(ours == theirs)
        )
        return Marks(same, same, same, same)
    common = (Counter(ours) & Counter(theirs)).total()
    if not common:
        return Marks(0.0, 0.0, 0.0, 0.0)
    precision, recall = common / len(ours), common / len(theirs)
    return Marks(float(ours == theirs), 2 * precision * recall / (precision + recall), precision, recall)


@dataclass(frozen=True)
class Scores:
    """Means over questions, each 0 to 1."""

    f1: float
    exact: float
    precision: float
    recall: float
    has_answer_f1: float
    no_answer_accuracy: float
    """NaN where every question has an answer."""
    f1_interval: tuple[float, float]
    """95 % by a bootstrap over users: questions on one user's posts are no independent draws."""

    def metrics(self) -> dict[str, float]:
        """By key, for an arm; what is not there is left out."""
        found = {
            "f1": self.f1,
            "exact": self.exact,
            "precision": self.precision,
            "recall": self.recall,
            "has_answer_f1": self.has_answer_f1,
            "no_answer_accuracy": self.no_answer_accuracy,
        }
        return {key: value for key, value in found.items() if not np.isnan(value)}


def score(predicted: Sequence[str], golds: Sequence[Sequence[str]], groups: Sequence[str], seed: int = 0) -> Scores:
    """All metrics of the answers to some questions."""
    marks = np.array([mark(p, g) for p, g in zip(predicted, golds, strict=True)])
    answerable = np.array([any(gold for gold in g) for g in golds])
    exact, f1, precision, recall = marks.mean(0).tolist()
    return Scores(
        f1,
        exact,
        precision,
        recall,
        float(marks[answerable, 1].mean()) if answerable.any() else float("nan"),
        float(marks[~answerable, 1].mean()) if not answerable.all() else float("nan"),
        bootstrap(marks[:, 1], groups, seed),
    )


def bootstrap(values: np.ndarray, groups: Sequence[str], seed: int = 0, draws: int = 1000) -> tuple[float, float]:
    """95 % interval of the mean when whole groups are drawn with replacement."""
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    sums, sizes = np.bincount(index, values), np.bincount(index)
    random = np.random.default_rng(derive_seed("bootstrap", seed))
    drawn = random.integers(len(sums), size=(draws, len(sums)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def best_threshold(margins: np.ndarray, spans: np.ndarray, nulls: np.ndarray) -> float:
    """The margin above which a span is given, so that the mean score is highest.

    Args:
        margins: [questions] score of the best span less that of no answer.
        spans: [questions] F1 if the span is given.
        nulls: [questions] F1 if nothing is.

    Returns:
        Halfway between the two margins that it parts, so that it does not sit on one of them.
    """
    order = np.argsort(-margins, kind="stable")
    gained = np.concatenate([[0.0], np.cumsum((spans - nulls)[order])])
    given = int(np.argmax(gained))
    above = margins[order[given - 1]] if given else margins.max() + 2
    below = margins[order[given]] if given < len(margins) else margins.min() - 2
    return float((above + below) / 2)


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """ECE = sum_b n_b / n |mean confidence - share right| over bins of equal width."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[place == b].mean() - right[place == b].mean()) * (place == b).mean()
        for b in range(bins)
        if (place == b).any()
    ]
    return float(sum(gaps))


def best_temperature(scores: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    """T of softmax(scores / T) at which the right candidates are most likely, from a fine grid.

    Args:
        scores: of each question's candidates, the one for "no answer" among them.
        right: which of them are right; questions with no right candidate are passed over.
    """
    grid = np.geomspace(0.2, 20, 60)
    losses = [sum(-_log_share(s / t, r) for s, r in zip(scores, right, strict=True) if r.any()) for t in grid]
    return float(grid[int(np.argmin(losses))])


def _log_share(scores: np.ndarray, right: np.ndarray) -> float:
    top = scores.max()
    return float(np.log(np.exp(scores - top)[right].sum()) - np.log(np.exp(scores - top).sum()))

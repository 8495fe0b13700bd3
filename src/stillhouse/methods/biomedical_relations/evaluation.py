"""What is measured of an extractor: F1 by relation, macro and micro, calibration; and of a graph, edge by edge.

macro F1 = mean over relations of 2 TP / (2 TP + FP + FN)            micro F1 = the same of the sums
ECE = sum over ten bins of probability  n_bin / n | accuracy - mean probability |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from stillhouse.knowledge.documents import Document

BINS = 10


@dataclass(frozen=True)
class Scores:
    """How well relations are told."""

    macro_f1: float
    micro_f1: float
    by_relation: dict[str, float]
    """F1 of every relation that the labels have."""
    ece: float
    accuracy: float


def scores(
    probabilities: Float[np.ndarray, "pairs classes"],
    labels: Int[np.ndarray, " pairs"],
    relations: Sequence[str],
    none: bool,
) -> Scores:
    """Scores over the relations; pairs without a relation count as errors only (`none`: class 0 is no relation)."""
    predicted = probabilities.argmax(1)
    counted = range(1 if none else 0, len(relations))
    by_relation, sums = {}, np.zeros(3)
    for c in counted:
        hit = float(((predicted == c) & (labels == c)).sum())
        counts = np.array([hit, float((predicted == c).sum()) - hit, float((labels == c).sum()) - hit])
        sums += counts
        if (labels == c).any():
            by_relation[relations[c]] = f1(*counts)
    return Scores(
        float(np.mean(list(by_relation.values()))),
        f1(*sums),
        by_relation,
        calibration_error(probabilities, labels),
        float((predicted == labels).mean()),
    )


def f1(true_positives: float, false_positives: float, false_negatives: float) -> float:
    """2 TP / (2 TP + FP + FN); 0 where there is nothing."""
    total = 2 * true_positives + false_positives + false_negatives
    return 2 * true_positives / total if total else 0.0


def calibration_error(probabilities: Float[np.ndarray, "pairs classes"], labels: Int[np.ndarray, " pairs"]) -> float:
    """Expected calibration error of the chosen class over ten equal bins (Guo et al., arXiv 1706.04599, equation 5)."""
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.clip((sure * BINS).astype(int), 0, BINS - 1)
    gaps = [abs(right[place == b].mean() - sure[place == b].mean()) * (place == b).mean() for b in np.unique(place)]
    return float(np.sum(gaps))


def tempered(
    probabilities: Float[np.ndarray, "pairs classes"], temperature: float
) -> Float[np.ndarray, "pairs classes"]:
    """softmax(log p / T): the same order of classes, surer (T < 1) or less sure."""
    logs = np.log(np.clip(probabilities, 1e-9, 1.0)) / temperature
    shares = np.exp(logs - logs.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def fit_temperature(probabilities: Float[np.ndarray, "pairs classes"], labels: Int[np.ndarray, " pairs"]) -> float:
    """The temperature with the smallest log-loss, of a grid from 0.25 to 8 (to be fitted on the select split)."""
    grid = np.geomspace(0.25, 8, 61)
    rows = np.arange(len(labels))

    def loss(temperature: float) -> float:
        return float(-np.log(np.clip(tempered(probabilities, temperature)[rows, labels], 1e-12, 1)).mean())

    return float(min(grid, key=loss))


@dataclass(frozen=True)
class GraphScore:
    """Edges of a graph against annotated relations, document by document."""

    right: int
    found: int
    annotated: int
    reachable: int
    """Annotated relations whose concepts meet in a sentence: no extractor of sentences can find others."""

    @property
    def precision(self) -> float:
        """Share of the edges that are annotated."""
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of the annotated relations that are edges."""
        return self.right / self.annotated if self.annotated else 0.0


Key = tuple[str, frozenset[str], str]
"""Document, concepts, relation."""


def graph_score(
    found: Iterable[Key], documents: Sequence[Document], meeting: set[tuple[str, frozenset[str]]]
) -> GraphScore:
    """Every (document, pair of concepts, relation) of a graph, against the documents' annotation.

    Args:
        found: edges, each once per document that it was found in.
        documents: annotated.
        meeting: (document, pair of concepts) that are candidates.
    """
    gold: set[Key] = {(d.id, frozenset((r.first, r.second)), r.label) for d in documents for r in d.relations}
    told = set(found)
    return GraphScore(len(told & gold), len(told), len(gold), sum((d, pair) in meeting for d, pair, _ in gold))

"""Controls that no graph network is needed for: a row is evidence only where it clears them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.svm import SVC

from stillhouse.graphs.census import grow_chunk
from stillhouse.graphs.data import Ints, Split
from stillhouse.graphs.training import auc
from stillhouse.graphs.trees import TreeTable, bags, match_trees
from stillhouse.graphs.words import Words

PENALTIES = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Control:
    """AUC on the select and report splits."""

    select: float
    report: float


def size_alone(split: Split) -> Control:
    """Logistic regression on the numbers of nodes and edges."""
    parts = [
        np.log1p(np.stack([part.sizes, np.diff(part.edge_offsets)], 1))
        for part in (split.train, split.select, split.report)
    ]
    return _best_logistic(parts[0], parts[1], parts[2], split)


def count_regression(split: Split, counts: tuple[sp.csr_array, sp.csr_array, sp.csr_array]) -> Control:
    """Logistic regression on log(1 + tree counts), its penalty chosen on select.

    Args:
        counts: [graphs, trees] of the train, select and report splits.
    """
    train, select, report = (np.log1p(part.toarray()) for part in counts)
    return _best_logistic(train, select, report, split)


def weisfeiler_lehman(split: Split, words: Words, hops: int) -> Control:
    """SVM on the normalised Weisfeiler-Lehman subtree kernel: tree counts of depth 0 .. hops, inner products."""
    features = [_wl_features(split, words, depth) if depth else _word_counts(split, words) for depth in range(hops + 1)]
    train, select, report = (sp.hstack([level[i] for level in features]).tocsr() for i in range(3))
    kernels = [_normalised(part, train) for part in (train, select, report)]
    best = Control(-1.0, 0.5)
    for cost in (0.1, 1.0, 10.0):
        machine = SVC(C=cost, kernel="precomputed").fit(kernels[0], split.train.classes)
        found = Control(
            _margin_auc(machine, kernels[1], split.select.classes),
            _margin_auc(machine, kernels[2], split.report.classes),
        )
        best = max(best, found, key=lambda control: control.select)
    return best


def cross_validated(counts: np.ndarray, classes: Ints, folds: int = 5) -> float:
    """AUC of logistic regression by cross-validation on training data: what these counts can tell.

    Args:
        counts: [graphs, columns].
    """
    folds = min(folds, int(np.bincount(classes)[np.unique(classes)].min()))
    if folds < 2:
        return float("nan")
    model = LogisticRegression(C=0.1, max_iter=300)
    shares = cross_val_predict(
        model,
        np.log1p(counts),
        classes,
        cv=StratifiedKFold(folds, shuffle=True, random_state=0),
        method="predict_proba",
    )
    return auc(np.unique(classes, return_inverse=True)[1], shares)


def _best_logistic(train: np.ndarray, select: np.ndarray, report: np.ndarray, split: Split) -> Control:
    best = Control(-1.0, 0.5)
    for penalty in PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=500).fit(train, split.train.classes)
        found = Control(
            auc(split.select.classes, model.predict_proba(select)),
            auc(split.report.classes, model.predict_proba(report)),
        )
        best = max(best, found, key=lambda control: control.select)
    return best


def _margin_auc(machine: SVC, kernel: np.ndarray, classes: Ints) -> float:
    margins = machine.decision_function(kernel)
    return auc(classes, np.stack([-margins, margins], 1) if margins.ndim == 1 else margins)


def _wl_features(split: Split, words: Words, depth: int) -> list[sp.csr_array]:
    _, table, ids = grow_chunk(split.train, words, depth)
    others = [_counts(table, part, words, depth) for part in (split.select, split.report)]
    return [bags(ids, split.train, table.trees), *others]


def _counts(table: TreeTable, part: object, words: Words, depth: int) -> sp.csr_array:
    graphs, found, ids = grow_chunk(part, words, depth)  # type: ignore[arg-type]
    return bags(match_trees(table, found)[ids], graphs, table.trees)


def _word_counts(split: Split, words: Words) -> list[sp.csr_array]:
    return [bags(words.of_nodes(part), part, words.unknown + 1) for part in (split.train, split.select, split.report)]


def _normalised(part: sp.csr_array, train: sp.csr_array) -> np.ndarray:
    norms = [np.sqrt(np.maximum(x.multiply(x).sum(1), 1)) for x in (part, train)]
    return np.asarray((part @ train.T).toarray()) / np.outer(norms[0], norms[1])

"""Train on synthetic, test on real: three downstream models on encoded rows, sensitive columns left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from stillhouse.tables.fairness import Fairness, fairness

MODELS: Mapping[str, Callable[[int], Any]] = {
    "logistic regression": lambda seed: LogisticRegression(max_iter=200, C=0.1, tol=1e-3),
    "gradient boosting": lambda seed: HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=15, early_stopping=False, random_state=seed
    ),
    "random forest": lambda seed: RandomForestClassifier(60, min_samples_leaf=5, random_state=seed),
}


@dataclass(frozen=True)
class Rows:
    """Encoded rows: x (rows, width), 0/1 labels (rows,), group numbers (rows,)."""

    x: NDArray[np.float32]
    y: NDArray[Any]
    s: NDArray[Any]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: NDArray[Any]) -> Rows:
        """Some of the rows."""
        return Rows(self.x[index], self.y[index], self.s[index])


@dataclass(frozen=True)
class Utility:
    """Quality of decisions on real rows; F1 is of the positive class."""

    balanced_accuracy: float
    auroc: float
    f1: float
    fairness: Fairness
    decisions: NDArray[Any]


def utility(truth: NDArray[Any], scores: NDArray[Any], groups: NDArray[Any]) -> Utility:
    """Judge scores (rows,) in [0, 1]; a row is chosen at 0.5 or more."""
    decisions = (scores >= 0.5).astype(int)
    return Utility(
        float(balanced_accuracy_score(truth, decisions)),
        float(roc_auc_score(truth, scores)),
        float(f1_score(truth, decisions, zero_division=0)),
        fairness(truth, decisions, groups),
        decisions,
    )


def train_on_test_on(train: Rows, test: Rows, seed: int = 0) -> dict[str, Utility]:
    """Each downstream model trained on `train` and judged on `test`, by its name.

    Training rows of one class only leave a constant classifier.
    """
    if len(np.unique(train.y)) < 2:
        constant = utility(test.y, np.full(len(test), float(train.y[0])), test.s)
        return dict.fromkeys(MODELS, constant)
    return {name: utility(test.y, _scores(make(seed), train, test), test.s) for name, make in MODELS.items()}


def _scores(model: Any, train: Rows, test: Rows) -> NDArray[Any]:
    return model.fit(train.x, train.y).predict_proba(test.x)[:, 1]


def mean_utility(utilities: Mapping[str, Utility]) -> dict[str, float]:
    """Means over the downstream models, by metric name."""
    each = list(utilities.values())
    return {
        "balanced_accuracy": float(np.mean([u.balanced_accuracy for u in each])),
        "auroc": float(np.mean([u.auroc for u in each])),
        "f1": float(np.mean([u.f1 for u in each])),
        "parity_ratio": float(np.mean([u.fairness.parity_ratio for u in each])),
        "parity_difference": float(np.mean([u.fairness.parity_difference for u in each])),
        "odds_ratio": float(np.mean([u.fairness.odds_ratio for u in each])),
        "odds_difference": float(np.mean([u.fairness.odds_difference for u in each])),
    }

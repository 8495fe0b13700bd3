"""How unequally groups are treated by 0/1 decisions, and how much a representation says about the group.

Parity and odds come from fairlearn; groups with fewer than `LEAST_GROUP_ROWS` rows are left out of minima and
maxima, because their rates are noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from fairlearn import metrics as fairlearn
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

LEAST_GROUP_ROWS = 50


@dataclass(frozen=True)
class Fairness:
    """Ratios are 1 and differences 0 when all groups are treated alike."""

    parity_ratio: float
    parity_difference: float
    odds_ratio: float
    odds_difference: float


def large_groups(groups: NDArray[Any], least: int = LEAST_GROUP_ROWS) -> NDArray[np.bool_]:
    """Mask of the rows whose group has at least `least` rows; all rows where fewer than two groups have as many."""
    values, counts = np.unique(groups, return_counts=True)
    large = values[counts >= least]
    return np.isin(groups, large if len(large) > 1 else values)


def fairness(truth: NDArray[Any], decisions: NDArray[Any], groups: NDArray[Any]) -> Fairness:
    """Demographic parity and equalised odds of 0/1 decisions (rows,), by fairlearn.

    parity ratio = min_g P(yhat = 1 | g) / max_g P(yhat = 1 | g); difference = max - min. Odds are the worse of the two
    over P(yhat = 1 | y, g) for y in {0, 1}. A ratio 0 / 0 (nobody in any group is chosen) is 1: equal treatment,
    which is why a constant classifier always stands beside the others.
    """
    kept = large_groups(groups)
    truth, decisions, groups = truth[kept], decisions[kept], groups[kept]
    true, decided, group, counts = _counted(truth, decisions, groups)
    given = {"y_true": true, "y_pred": decided, "sensitive_features": group, "sample_weight": counts}
    return Fairness(
        _ratio(group_rates(decisions, groups)),
        float(fairlearn.demographic_parity_difference(**given)),
        min(_ratio(group_rates(decisions[truth == y], groups[truth == y])) for y in (0, 1)),
        float(fairlearn.equalized_odds_difference(**given)),
    )


def _counted(*columns: NDArray[Any]) -> list[NDArray[Any]]:
    """The different rows of some columns, and how often each occurs; fairlearn works row by row in Python."""
    numbers = [np.unique(column, return_inverse=True) for column in columns]
    rows, counts = np.unique(np.stack([number for _, number in numbers], 1), axis=0, return_counts=True)
    return [*(values[rows[:, i]] for i, (values, _) in enumerate(numbers)), counts]


def group_rates(decisions: NDArray[Any], groups: NDArray[Any]) -> Mapping[Any, float]:
    """P(yhat = 1 | g) by group; empty without rows."""
    if not len(groups):
        return {}
    decided, group, counts = _counted(decisions, groups)
    rates = fairlearn.MetricFrame(
        metrics=fairlearn.selection_rate,
        y_true=decided,
        y_pred=decided,
        sensitive_features=group,
        sample_params={"sample_weight": counts},
    ).by_group
    return {value: float(rate) for value, rate in rates.items()}


def _ratio(rates: Mapping[Any, float]) -> float:
    low, high = min(rates.values(), default=0.0), max(rates.values(), default=0.0)
    return low / high if high > 0 else 1.0


def sensitive_auroc(latents: NDArray[Any], groups: NDArray[Any], seed: int = 0) -> float:
    """s-AUROC: how well a random forest tells the group from z, on rows it was not fitted on (3 folds).

    One group against the rest, averaged over the groups that have at least `LEAST_GROUP_ROWS` rows; 0.5 is nothing.
    """
    kept = large_groups(groups)
    z, s = latents[kept], groups[kept]
    forest = RandomForestClassifier(50, min_samples_leaf=5, random_state=seed)
    values = np.unique(s)
    if len(values) < 2:
        return 0.5
    scores = cross_val_predict(forest, z, s, cv=3, method="predict_proba")
    return float(np.mean([roc_auc_score(s == value, scores[:, i]) for i, value in enumerate(values)]))


def association(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Cramer's V of two discrete columns: sqrt(chi2 / (n min(rows - 1, columns - 1))), 0 to 1."""
    counts = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(counts, (one, other), 1)
    counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
    least = min(counts.shape) - 1
    return float(np.sqrt(((counts - expected) ** 2 / expected).sum() / (counts.sum() * least))) if least else 0.0

"""How well a score orders networks by accuracy: rank correlations, also at fixed cost, regret, intervals by bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import kendalltau, rankdata, spearmanr

if TYPE_CHECKING:
    from jaxtyping import Float

EQUAL_COST = 1.05
"""Two networks cost the same if neither costs more than this many times the other."""


def tau(scores: Sequence[float], truth: Sequence[float]) -> float:
    """Kendall's tau-b; 0 where one side is constant."""
    value = float(kendalltau(scores, truth).statistic)
    return value if np.isfinite(value) else 0.0


def spearman(scores: Sequence[float], truth: Sequence[float]) -> float:
    """Spearman's rank correlation; 0 where one side is constant."""
    one, other = rankdata(scores), rankdata(truth)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one, other).statistic)


def partial_tau(scores: Sequence[float], truth: Sequence[float], given: Sequence[float]) -> float:
    """Kendall's partial tau: (t_xy - t_xz t_yz) / sqrt((1 - t_xz^2) (1 - t_yz^2)); 0 where `given` settles either side."""
    xy, xz, yz = tau(scores, truth), tau(scores, given), tau(truth, given)
    rest = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / rest**0.5 if rest > 1e-12 else 0.0


def tau_at_equal_cost(
    scores: Sequence[float], truth: Sequence[float], costs: Sequence[float], within: float = EQUAL_COST
) -> float:
    """Tau over the pairs of networks whose costs differ by at most a factor of `within`: what cost cannot tell.

    (concordant - discordant) / sqrt(pairs not tied in the score x pairs not tied in truth); NaN without such pairs.
    """
    return PairTable(scores, truth, costs, within).tau(np.ones(len(scores)))


class PairTable:
    """Signs of all pairs at equal cost, so that a resample of networks is two matrix products.

    Without costs every pair counts, and `tau` is Kendall's tau-b.
    """

    def __init__(
        self,
        scores: Sequence[float],
        truth: Sequence[float],
        costs: Sequence[float] | None = None,
        within: float = EQUAL_COST,
    ) -> None:
        x, y = (np.sign(np.subtract.outer(r, r)) for r in (rankdata(scores), rankdata(truth)))
        mask = np.ones(x.shape)
        if costs is not None:
            logs = np.log(np.asarray(costs, float))
            mask = (np.abs(np.subtract.outer(logs, logs)) <= np.log(within) + 1e-12).astype(float)
        self.product, self.scored, self.true = x * y * mask, x * x * mask, y * y * mask

    def tau(self, weights: Float[np.ndarray, " n"]) -> float:
        """Tau where network i is there `weights[i]` times."""
        agree, scored, true = (float(weights @ m @ weights) for m in (self.product, self.scored, self.true))
        return agree / (scored * true) ** 0.5 if true > 0 and scored > 0 else (0.0 if true > 0 else float("nan"))


def bootstrap(
    statistic: Callable[[Float[np.ndarray, " n"]], float], size: int, resamples: int = 500, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of statistic(weights) when `size` networks are drawn again with replacement."""
    rng = np.random.default_rng(seed)
    draws = [
        statistic(np.bincount(rng.integers(size, size=size), minlength=size).astype(float)) for _ in range(resamples)
    ]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


def regret(
    scores: Sequence[float], truth: Sequence[float], costs: Sequence[float], bound: float, top: int = 1
) -> float:
    """Best accuracy under a cost bound less the best among the `top` by score under it.

    Raises:
        ValueError: nothing is under the bound.
    """
    values, accuracies, allowed = np.asarray(scores, float), np.asarray(truth, float), np.asarray(costs, float) <= bound
    if not allowed.any():
        raise ValueError("nothing is under the bound")
    inside = np.flatnonzero(allowed)
    chosen = inside[np.argsort(-values[inside], kind="stable")[:top]]
    return float(accuracies[inside].max() - accuracies[chosen].max())


def rank_sum(parts: Mapping[str, Sequence[float]] | Sequence[Sequence[float]]) -> Float[np.ndarray, " n"]:
    """Sum over the parts of each network's rank, 0 to 1: scales and outliers of the parts do not matter."""
    rows = list(parts.values()) if isinstance(parts, Mapping) else list(parts)
    count = max(1, len(rows[0]) - 1)
    return np.sum([(rankdata(row) - 1) / count for row in rows], axis=0)

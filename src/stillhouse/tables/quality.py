"""How like the real rows the synthetic ones are, and how near to single real rows they come.

All distances are Euclidean between encoded rows. Rows are (n, width) arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from sklearn.neighbors import NearestNeighbors

from stillhouse.tables.codec import Block

Rows = NDArray[Any]


def nearest(among: Rows, rows: Rows, k: int = 1) -> tuple[NDArray[Any], NDArray[Any]]:
    """Distances and numbers of the k nearest of `among` for each of `rows`, both (n, k)."""
    distances, index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(among).kneighbors(rows)
    return distances, index


def radii(rows: Rows, k: int) -> NDArray[Any]:
    """Distance of each row to its k-th nearest other row."""
    return np.asarray(nearest(rows, rows, k + 1)[0][:, k])


def density_and_coverage(real: Rows, synthetic: Rows, k: int = 5) -> tuple[float, float]:
    """Density and coverage (arXiv 2002.09797).

    density = 1 / (k M) sum_j sum_i 1[y_j in B(x_i, NND_k(x_i))]; coverage = 1 / N sum_i 1[some y_j in that ball].
    """
    reach = radii(real, k)
    inside = np.array([0.0] * len(real))
    total = 0.0
    for start in range(0, len(synthetic), 1000):
        near = _distances(real, synthetic[start : start + 1000]) <= reach[:, None]
        total += near.sum()
        inside = np.maximum(inside, near.any(1))
    return float(total / (k * len(synthetic))), float(inside.mean())


def _distances(one: Rows, other: Rows) -> NDArray[Any]:
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
    return np.sqrt(np.maximum(squares, 0))


LEVELS = np.linspace(0, 1, 31)[1:-1]


def alpha_precision(real: Rows, synthetic: Rows) -> float:
    """1 - 2 mean_alpha |P(synthetic row in the alpha-ball of the real rows) - alpha| (arXiv 2102.08921).

    The alpha-ball is centred at the real mean and holds a share alpha of the real rows.
    """
    centre = real.mean(0)
    edges = np.quantile(np.linalg.norm(real - centre, axis=1), LEVELS)
    distances = np.linalg.norm(synthetic - centre, axis=1)
    shares = (distances[None] <= edges[:, None]).mean(1)
    return float(1 - 2 * np.abs(shares - LEVELS).mean())


def beta_recall(real: Rows, synthetic: Rows) -> float:
    """1 - 2 mean_beta |P(real row is near a synthetic row of the beta-ball) - beta| (arXiv 2102.08921).

    The beta-ball holds a share beta of the synthetic rows about their mean; a real row is near a synthetic row that
    is no farther than its nearest other real row.
    """
    reach = radii(real, 1)
    distances, index = nearest(synthetic, real)
    from_centre = np.linalg.norm(synthetic - synthetic.mean(0), axis=1)
    edges = np.quantile(from_centre, LEVELS)
    near = distances[:, 0] <= reach
    shares = (near[None] & (from_centre[index[:, 0]][None] <= edges[:, None])).mean(1)
    return float(1 - 2 * np.abs(shares - LEVELS).mean())


def authenticity(real: Rows, synthetic: Rows) -> float:
    """Share of synthetic rows farther from their nearest real row than that row is from its nearest other real row."""
    distances, index = nearest(real, synthetic)
    return float((distances[:, 0] > radii(real, 1)[index[:, 0]]).mean())


def closest_record(real: Rows, synthetic: Rows) -> NDArray[Any]:
    """Distance of each synthetic row to its closest real row (DCR), (rows,)."""
    return nearest(real, synthetic)[0][:, 0]


def membership_advantage(members: Rows, others: Rows, synthetic: Rows) -> float:
    """True minus false positive rate of "its nearest synthetic row is nearer than the median" as a membership guess.

    0: rows that trained the model are no nearer to its output than rows that did not; 1: all of them are.
    """
    inside, outside = closest_record(synthetic, members), closest_record(synthetic, others)
    median = np.median(np.concatenate([inside, outside]))
    return float((inside < median).mean() - (outside < median).mean())


def marginal_error(real: Rows, synthetic: Rows, blocks: tuple[Block, ...]) -> float:
    """Mean over columns: total variation of the one-hot places, or the Kolmogorov-Smirnov distance of the number.

    A column with both has the larger of the two.
    """
    return float(np.mean([_block_error(real, synthetic, block) for block in blocks]))


def _block_error(real: Rows, synthetic: Rows, block: Block) -> float:
    places = slice(block.start, block.number)
    variation = 0.5 * np.abs(real[:, places].mean(0) - synthetic[:, places].mean(0)).sum()
    if not block.continuous:
        return float(variation)
    one, other = _free_numbers(real, block), _free_numbers(synthetic, block)
    if not len(one) or not len(other):
        return 1.0 if len(one) != len(other) else float(variation)
    return max(float(variation), float(ks_2samp(one, other, method="asymp").statistic))


def _free_numbers(rows: Rows, block: Block) -> NDArray[Any]:
    """The normal scores of rows that are on no atom."""
    free = rows[:, block.number - 1] == 1 if block.levels else np.ones(len(rows), bool)
    return rows[free, block.number]


def correlation_error(real: Rows, synthetic: Rows) -> float:
    """Mean absolute difference of the Pearson correlations of all pairs of encoded places that vary in `real`."""
    varies = real.std(0) > 1e-6
    upper = np.triu_indices(int(varies.sum()), 1)
    one, other = (_correlations(rows[:, varies])[upper] for rows in (real, synthetic))
    return float(np.abs(one - other).mean()) if len(one) else 0.0


def _correlations(rows: Rows) -> NDArray[Any]:
    centred = rows - rows.mean(0)
    scaled = centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-12)
    return np.asarray(scaled.T @ scaled)

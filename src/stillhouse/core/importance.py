"""Which choices matter: functional ANOVA of scores over a space of categorical factors.

Hutter et al. 2014: with a model m of the score over the space, f_0 = E m, f_u(v) = E[m | u = v] - f_0,
f_uw = E[m | u, w] - f_u - f_w - f_0, and the importance of u is V_u / V with V_u = E f_u^2, V = Var m. The model is a
forest of regression trees, each of which is averaged over the whole grid of levels, so the shares are exact for it.
For a balanced design the group means themselves give the decomposition, and no model is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from stillhouse.core.seeding import derive_seed

MOST_GRID = 20_000
TREES = 40
RESAMPLES = 30


@dataclass(frozen=True)
class Factor:
    """A choice and its levels."""

    name: str
    levels: tuple[str, ...]


@dataclass(frozen=True)
class Importance:
    """Share of the variance of the scores, with a bootstrap interval over trials."""

    factors: tuple[str, ...]
    """One factor: its main effect; two: their interaction alone."""
    share: float
    interval: tuple[float, float]
    """90 %."""


def levels_of(factors: Sequence[Factor], trials: Sequence[Mapping[str, str]]) -> np.ndarray:
    """[trials, factors] index of each trial's level."""
    return np.array([[f.levels.index(trial[f.name]) for f in factors] for trial in trials], dtype=np.int64)


def importances(
    factors: Sequence[Factor], levels: np.ndarray, values: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Importance]:
    """Main effects and pairwise interactions by forest, the largest first.

    Args:
        factors: of the space.
        levels: [trials, factors] from `levels_of`.
        values: [trials] scores.
        seed: of forests and resamples.
        resamples: bootstrap samples of the trials.
    """
    sizes = [len(f.levels) for f in factors]
    point = variance_shares(sizes, levels, values, seed=seed, trees=2 * TREES)
    random = np.random.default_rng(derive_seed("importance", seed))
    draws = []
    for r in range(resamples):
        rows = random.integers(len(values), size=len(values))
        draws.append(variance_shares(sizes, levels[rows], values[rows], seed=r, trees=TREES))
    found = []
    for u, share in point.items():
        low, high = np.quantile([d[u] for d in draws], [0.05, 0.95]) if draws else (share, share)
        found.append(Importance(tuple(factors[i].name for i in u), share, (float(low), float(high))))
    return sorted(found, key=lambda one: -one.share)


def variance_shares(
    sizes: Sequence[int], levels: np.ndarray, values: np.ndarray, *, seed: int = 0, trees: int = TREES
) -> dict[tuple[int, ...], float]:
    """V_u / V of every factor and pair of factors, averaged over the trees of a forest fitted to the trials.

    Raises:
        ValueError: the space has more cells than can be tabulated.
    """
    grid = np.array(list(itertools.islice(itertools.product(*map(range, sizes)), MOST_GRID + 1)))
    if len(grid) > MOST_GRID:
        raise ValueError(f"the space has more than {MOST_GRID} cells: leave factors out")
    subsets = [*((i,) for i in range(len(sizes))), *itertools.combinations(range(len(sizes)), 2)]
    if np.ptp(values) == 0:
        return dict.fromkeys(subsets, 0.0)
    forest = RandomForestRegressor(trees, max_features=0.7, min_samples_leaf=2, random_state=seed % 2**31)
    forest.fit(one_hot(levels, sizes), values)
    shown = one_hot(grid, sizes).astype(np.float32)
    shares: list[dict[tuple[int, ...], float]] = []
    for tree in forest.estimators_:
        surface = tree.predict(shown, check_input=False).reshape(sizes)
        if surface.var() > 0:
            shares.append(decompose(surface))
    return {u: float(np.mean([s[u] for s in shares])) if shares else 0.0 for u in subsets}


def decompose(surface: np.ndarray) -> dict[tuple[int, ...], float]:
    """Shares of the variance of a full table of values: main effects and pairwise interactions, exactly.

    Args:
        surface: [levels of factor 0, levels of factor 1, ...] every cell once.
    """
    axes = range(surface.ndim)
    centred = surface - surface.mean()
    total = float((centred**2).mean())
    main = {i: centred.mean(axis=tuple(a for a in axes if a != i)) for i in axes}
    found: dict[tuple[int, ...], float] = {(i,): float((f**2).mean()) / total for i, f in main.items()}
    for i, j in itertools.combinations(axes, 2):
        both = centred.mean(axis=tuple(a for a in axes if a not in (i, j)))
        found[i, j] = float(((both - main[i][:, None] - main[j][None, :]) ** 2).mean()) / total
    return found


def one_hot(levels: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """[rows, sum of sizes] indicators: a tree must be able to split off any level."""
    return np.concatenate([np.eye(size)[levels[:, i]] for i, size in enumerate(sizes)], axis=1)


def analysis_of_variance(levels: np.ndarray, values: np.ndarray, groups: Sequence[Sequence[int]]) -> list[float]:
    """omega^2 of each group of factors (its cells taken together), from the trials' own group means.

    omega^2 = (SS_u - df_u MS_residual) / (SS + MS_residual): the share of the variance less what chance would give. It
    is meant for balanced designs, in which every level of a factor met the same levels of the others.

    Args:
        levels: [trials, factors].
        values: [trials].
        groups: factors of each group; (0, 1) is both with their interaction.
    """
    if np.ptp(values) == 0:
        return [0.0] * len(groups)
    centred = values - values.mean()
    total = float((centred**2).sum())
    sums, freedoms = [], []
    for group in groups:
        _, cell = np.unique(levels[:, list(group)], axis=0, return_inverse=True)
        cell = cell.ravel()
        counts = np.bincount(cell)
        means = np.bincount(cell, centred) / counts
        sums.append(float((counts * means**2).sum()))
        freedoms.append(len(counts) - 1)
    left = max(1, len(values) - 1 - sum(freedoms))
    noise = max(0.0, total - sum(sums)) / left
    return [(s - f * noise) / (total + noise) for s, f in zip(sums, freedoms, strict=True)]


def main_effects(
    factors: Sequence[Factor], levels: np.ndarray, values: np.ndarray
) -> dict[str, list[tuple[str, float, int]]]:
    """Of every factor the mean score and the number of trials at each level that was tried, best first."""
    found = {}
    for i, factor in enumerate(factors):
        rows = [(name, values[levels[:, i] == k]) for k, name in enumerate(factor.levels)]
        means = [(name, float(v.mean()), len(v)) for name, v in rows if len(v)]
        found[factor.name] = sorted(means, key=lambda row: -row[1])
    return found


def balanced_design(factors: Sequence[Factor], runs: int, seed: int = 0, sweeps: int = 2000) -> list[dict[str, str]]:
    """Trials in which every level occurs equally often (give or take one) and pairs of levels meet as evenly as can be.

    Levels of a column change places whenever that makes the pair counts more even.
    """
    random = np.random.default_rng(derive_seed("design", seed))
    sizes = [len(f.levels) for f in factors]
    table = np.stack([random.permutation(np.arange(runs) % size) for size in sizes], axis=1)

    def unevenness(column: int) -> float:
        found = 0.0
        for c in range(len(sizes)):
            if c != column:
                cells = np.bincount(table[:, column] * sizes[c] + table[:, c], minlength=sizes[column] * sizes[c])
                found += float(cells.var())
        return found

    for _ in range(sweeps):
        column = int(random.integers(len(sizes)))
        one, two = random.integers(runs, size=2)
        if table[one, column] == table[two, column]:
            continue
        before = unevenness(column)
        table[[one, two], column] = table[[two, one], column]
        if unevenness(column) > before:
            table[[one, two], column] = table[[two, one], column]
    return [{f.name: f.levels[k] for f, k in zip(factors, row, strict=True)} for row in table]

"""What a search found out, as tables: which choices matter, which levels were good, quality against size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stillhouse.core.importance import Factor, analysis_of_variance, importances, levels_of, main_effects
from stillhouse.core.result import Table
from stillhouse.core.run import Run
from stillhouse.methods.distiller.autodistiller import Trial

FEWEST = 12
"""Trials below which a forest has nothing to say."""
SHOWN = 10


def tables(trials: Sequence[Trial], factors: Sequence[Factor], run: Run) -> list[Table]:
    """All tables of a search."""
    used = [f for f in factors if len(f.levels) > 1]
    whole = [dict(filled(t.levels, used)) for t in trials]
    levels, values = levels_of(used, whole), np.array([t.select for t in trials])
    found = [best_table(trials, used), front_table(trials)]
    if len(trials) >= FEWEST:
        rows = run.kept("importances", lambda: {"rows": importance_rows(used, levels, values)})["rows"]
        found = [importance_table(rows, len(trials)), effects_table(used, levels, values), *found]
    return found


def filled(levels: Mapping[str, str], factors: Sequence[Factor]) -> Mapping[str, str]:
    """The levels with a value for every factor: a trial that had no choice counts as the first level."""
    return {f.name: levels.get(f.name, f.levels[0]) for f in factors}


def importance_rows(factors: Sequence[Factor], levels: np.ndarray, values: np.ndarray) -> list[list[str | float]]:
    """Factor or pair, share of the variance, its interval, and the same from the trials' own group means."""
    names = [f.name for f in factors]
    rows: list[list[str | float]] = []
    for one in importances(factors, levels, values):
        index = [names.index(name) for name in one.factors]
        by_means = analysis_of_variance(levels, values, [index])[0] if len(index) == 1 else float("nan")
        rows.append([" x ".join(one.factors), one.share, *one.interval, by_means])
    return rows


def importance_table(rows: Sequence[Sequence[str | float]], trials: int) -> Table:
    """Shares of the variance, those of the dummy factor marked."""
    shown = [row for row in rows if " x " not in str(row[0])]
    shown += [row for row in rows if " x " in str(row[0]) and "dummy" not in str(row[0])][:5]
    cells = tuple(
        (
            f"{row[0]} (changes nothing: the noise floor)" if row[0] == "dummy" else str(row[0]),
            round(float(row[1]), 3),
            f"{float(row[2]):.3f} to {float(row[3]):.3f}",
            "" if np.isnan(float(row[4])) else round(float(row[4]), 3),
        )
        for row in shown
    )
    return Table(
        "Which choices matter",
        ("choice", "share of the variance", "90 % over trials", "from group means"),
        cells,
        f"Functional ANOVA of the select score over {trials} trials: main effects by forest, and the largest interactions.",
    )


def effects_table(factors: Sequence[Factor], levels: np.ndarray, values: np.ndarray) -> Table:
    """Mean score at every level."""
    rows = [
        (name, level, round(mean, 4), n)
        for name, found in main_effects(factors, levels, values).items()
        if name != "dummy"
        for level, mean, n in found
    ]
    return Table("Main effects", ("choice", "level", "mean select score", "trials"), tuple(rows))


def best_table(trials: Sequence[Trial], factors: Sequence[Factor]) -> Table:
    """The best pipelines."""
    names = [f.name for f in factors if f.name != "dummy"]
    order = sorted(trials, key=lambda t: -t.select)[:SHOWN]
    rows: list[tuple[str | float, ...]] = [
        (*(t.levels.get(n, "") for n in names), round(t.select, 4), round(t.seconds, 1)) for t in order
    ]
    return Table(
        "The best trials", (*names, "select score", "seconds"), tuple(rows), f"{len(trials)} trials were finished."
    )


def front_table(trials: Sequence[Trial]) -> Table:
    """Trials that none beats in both quality and size."""
    rows = []
    best = -np.inf
    for t in sorted(trials, key=lambda t: (t.parameters, -t.select)):
        if t.select > best:
            best = t.select
            rows.append((t.parameters, round(t.select, 4), t.levels["intermediate"], t.levels["augmentation"]))
    columns = ("parameters", "select score", "intermediate", "augmentation")
    return Table("Quality against size", columns, tuple(rows), "The front: no other trial is both smaller and better.")

"""Functional ANOVA against tables whose decomposition is known."""

import itertools

import numpy as np
import pytest

from stillhouse.core.importance import (
    Factor,
    analysis_of_variance,
    balanced_design,
    decompose,
    importances,
    levels_of,
    main_effects,
    variance_shares,
)

FACTORS = (Factor("loss", ("a", "b", "c", "d")), Factor("map", ("x", "y")), Factor("dummy", ("1", "2", "3")))
GRID = np.array(list(itertools.product(range(4), range(2), range(3))))


def test_decompose_additive_table():
    # V = Var(0, 1, 2, 3) + Var(0, 2) = 1.25 + 1
    shares = decompose(np.arange(4.0)[:, None, None] + 2 * np.arange(2.0)[None, :, None] + np.zeros((4, 2, 3)))
    assert shares[0,] == pytest.approx(1.25 / 2.25) and shares[1,] == pytest.approx(1 / 2.25)
    assert all(value == pytest.approx(0, abs=1e-12) for u, value in shares.items() if u not in ((0,), (1,)))


def test_decompose_pure_interaction():
    shares = decompose(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert shares[0, 1] == pytest.approx(1) and shares[0,] == shares[1,] == pytest.approx(0)


def test_forest_finds_what_matters_and_not_the_dummy():
    random = np.random.default_rng(0)
    levels = GRID.repeat(2, axis=0)
    values = np.array([0.0, 1.0, 2.0, 3.0])[levels[:, 0]] + 0.3 * levels[:, 1] + random.normal(0, 0.1, len(levels))
    found = {one.factors: one for one in importances(FACTORS, levels, values, resamples=5)}
    assert found["loss",].share > 0.85 > 0.15 > found["map",].share > 4 * found["dummy",].share
    assert found["loss",].interval[0] > 0.7
    assert next(iter(found)) == ("loss",), "the largest first"


def test_equal_scores_have_no_importance():
    assert set(variance_shares([4, 2, 3], GRID, np.ones(len(GRID))).values()) == {0.0}


def test_analysis_of_variance_takes_chance_out():
    random = np.random.default_rng(1)
    levels = GRID.repeat(4, axis=0)
    values = levels[:, 1] + random.normal(0, 0.5, len(levels))
    loss, mapping, both = analysis_of_variance(levels, values, [(0,), (1,), (0, 2)])
    assert abs(loss) < 0.05 and abs(both) < 0.1
    assert mapping == pytest.approx(0.25 / (0.25 + 0.25), abs=0.12)


def test_balanced_design():
    design = balanced_design(FACTORS, 24)
    levels = levels_of(FACTORS, design)
    assert design == balanced_design(FACTORS, 24) and design != balanced_design(FACTORS, 24, seed=1)
    for i, factor in enumerate(FACTORS):
        assert set(np.bincount(levels[:, i])) == {24 // len(factor.levels)}
    pairs = np.bincount(levels[:, 0] * 3 + levels[:, 2], minlength=12)
    assert pairs.min() >= 1 and pairs.max() <= 3, "every pair of levels meets about twice"


def test_main_effects_are_means():
    trials = [
        {"loss": "a", "map": "x", "dummy": "1"},
        {"loss": "a", "map": "y", "dummy": "1"},
        {"loss": "c", "map": "x", "dummy": "1"},
    ]
    found = main_effects(FACTORS, levels_of(FACTORS, trials), np.array([1.0, 2.0, 5.0]))
    assert found["loss"] == [("c", 5.0, 1), ("a", 1.5, 2)]

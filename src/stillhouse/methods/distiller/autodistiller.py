"""AutoDistiller: which pipeline to try first on a task not seen before, learned from finished trials (section 5).

Rows are trials; the target is a pipeline's rank within its data set (0 worst, 1 best), so that easy and hard sets count
alike. An ensemble of boosted trees, each on a resample of the data sets and their trials, gives a mean and a spread.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import cattrs
import numpy as np
from scipy.stats import rankdata, spearmanr
from sklearn.ensemble import HistGradientBoostingRegressor

from stillhouse.core.cache import cache_root
from stillhouse.core.errors import UserError, require
from stillhouse.core.files import content_hash, read_json, write_json
from stillhouse.core.importance import Factor, one_hot
from stillhouse.core.seeding import derive_seed

SHIPPED = Path(__file__).parent / "trials.json"
MEMBERS = 10


@dataclass(frozen=True)
class Trial:
    """A finished trial."""

    levels: Mapping[str, str]
    select: float
    report: float
    seconds: float
    parameters: int


@dataclass(frozen=True)
class Study:
    """The trials on one data set, with what was known before."""

    data: str
    family: str
    """Sets that share texts are one family."""
    features: Mapping[str, float]
    teacher: float
    """The teacher's score on the select split."""
    trials: tuple[Trial, ...]

    @property
    def ranks(self) -> np.ndarray:
        """[trials] rank of each, 0 the worst, 1 the best."""
        return (rankdata([t.select for t in self.trials]) - 1) / max(1, len(self.trials) - 1)


@dataclass(frozen=True)
class Suggestion:
    """A pipeline and what is expected of it."""

    levels: Mapping[str, str]
    rank: float
    """Expected rank among pipelines, 1 the best."""
    spread: float
    """Standard deviation over the ensemble."""
    share: float
    """Expected score over the teacher's."""
    share_interval: tuple[float, float]


def read_studies(places: Sequence[Path]) -> list[Study]:
    """All studies of JSON files and folders of them.

    Raises:
        UserError: a file is not a table of trials.
    """
    found = []
    for place in places:
        for file in sorted(place.glob("*.json")) if place.is_dir() else [place] if place.exists() else []:
            try:
                found += [cattrs.structure(raw, Study) for raw in read_json(file)["studies"]]
            except (cattrs.BaseValidationError, KeyError, TypeError, ValueError) as error:
                raise UserError(f"{file} is not a table of trials of this version", "remove it") from error
    return found


def known_studies() -> list[Study]:
    """The table that comes with stillhouse, and every study that was run here."""
    return read_studies([SHIPPED, own_studies()])


def own_studies() -> Path:
    """Where finished studies are kept for later recommendations."""
    return cache_root() / "distiller-studies"


def remember(study: Study) -> Path:
    """Keep a finished study."""
    raw: Any = cattrs.unstructure(study)
    file = own_studies() / f"{study.data.replace('/', '-')}-{content_hash([repr(raw)])}.json"
    write_json(file, {"studies": [raw]})
    return file


class AutoDistiller:
    """Predicts the rank of pipelines on a described task.

    Args:
        studies: of two data sets or more.
        factors: what the pipelines differ in.
        seed: of the resamples.

    Raises:
        UserError: fewer than two data sets.
    """

    def __init__(self, studies: Sequence[Study], factors: Sequence[Factor], seed: int = 0) -> None:
        require(
            len({s.family for s in studies}) > 1,
            "trials of fewer than two data sets are known",
            "run a search on another one first",
        )
        self.studies, self.factors = list(studies), [f for f in factors if f.name != "dummy"]
        shared = set.intersection(*(set(s.features) for s in studies))
        self.names = tuple(sorted(shared))
        self.described = {id(s): np.array([s.features[n] for n in self.names], float) for s in studies}
        random = np.random.default_rng(derive_seed("autodistiller", seed))
        self.members = [self._member(random) for _ in range(MEMBERS)]

    def _member(
        self, random: np.random.Generator
    ) -> tuple[HistGradientBoostingRegressor, HistGradientBoostingRegressor]:
        rows, ranks, shares = [], [], []
        for study in self.studies:
            chosen = random.integers(len(study.trials), size=len(study.trials))
            x = self._rows(study.features, [study.trials[i].levels for i in chosen])
            rows.append(x)
            ranks.append(study.ranks[chosen])
            shares.append(np.array([study.trials[i].select for i in chosen]) / max(1e-9, study.teacher))
        table = np.concatenate(rows)
        options: dict[str, Any] = {
            "max_iter": 60,
            "learning_rate": 0.08,
            "min_samples_leaf": 5,
            "max_leaf_nodes": 8,
            "l2_regularization": 1.0,
            "early_stopping": False,
        }
        return (
            HistGradientBoostingRegressor(**options).fit(table, np.concatenate(ranks)),
            HistGradientBoostingRegressor(**options).fit(table, np.concatenate(shares)),
        )

    def _rows(self, features: Mapping[str, float], levels: Sequence[Mapping[str, str]]) -> np.ndarray:
        index = np.array([[_level(f, one) for f in self.factors] for one in levels])
        described = np.array([features[n] for n in self.names], float)
        return np.concatenate(
            [one_hot(index, [len(f.levels) for f in self.factors]), np.tile(described, (len(levels), 1))], axis=1
        )

    def predict(
        self, features: Mapping[str, float], levels: Sequence[Mapping[str, str]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean rank, its spread over members [pipelines], and the members' shares of the teacher [members, pipelines]."""
        rows = self._rows(features, levels)
        ranks = np.stack([rank.predict(rows) for rank, _ in self.members])
        shares = np.stack([share.predict(rows) for _, share in self.members])
        return ranks.mean(0), ranks.std(0), shares

    def recommend(self, features: Mapping[str, float], top: int = 3) -> list[Suggestion]:
        """The pipelines of highest expected rank, no two the same but for what an idle factor says."""
        grid = [
            dict(zip((f.name for f in self.factors), levels, strict=True))
            for levels in itertools.product(*(f.levels for f in self.factors))
        ]
        grid = [g for g in grid if g.get("intermediate") != "none" or g.get("mapping") == "skip"]
        mean, spread, shares = self.predict(features, grid)
        order = np.argsort(-mean, kind="stable")[:top]
        return [
            Suggestion(
                grid[i],
                float(mean[i]),
                float(spread[i]),
                float(shares[:, i].mean()),
                (float(np.quantile(shares[:, i], 0.05)), float(np.quantile(shares[:, i], 0.95))),
            )
            for i in order
        ]

    def nearest(self, features: Mapping[str, float], most: int = 3) -> list[tuple[str, float]]:
        """The known data sets most like this one, and their distance in standardised features."""
        table = np.stack(list(self.described.values()))
        scale = table.std(0) + 1e-9
        ours = np.array([features[n] for n in self.names], float)
        found = [(s.data, float(np.sqrt((((self.described[id(s)] - ours) / scale) ** 2).mean()))) for s in self.studies]
        return sorted(found, key=lambda row: row[1])[:most]


def _level(factor: Factor, levels: Mapping[str, str]) -> int:
    """Index of a trial's level; the first where the trial knew no such factor."""
    return factor.levels.index(levels[factor.name]) if levels.get(factor.name) in factor.levels else 0


@dataclass(frozen=True)
class LeftOut:
    """How well pipelines were chosen on a data set that the model had not seen."""

    data: str
    spearman: float
    regret: float
    """(best - best of the k chosen) / (best - mean), on the select split."""
    random_regret: float
    """The expectation of the same for k pipelines drawn at random, exactly."""


def leave_one_family_out(
    studies: Sequence[Study], factors: Sequence[Factor], k: int = 3, seed: int = 0
) -> list[LeftOut]:
    """Judge the recommendations on every data set in turn, learned from the other families."""
    found = []
    for study in studies:
        others = [s for s in studies if s.family != study.family]
        model = AutoDistiller(others, factors, seed)
        predicted, _, _ = model.predict(study.features, [t.levels for t in study.trials])
        scores = np.array([t.select for t in study.trials])
        chosen = np.argsort(-predicted, kind="stable")[:k]
        correlation = (
            float(spearmanr(predicted, scores).statistic) if np.ptp(predicted) > 0 and np.ptp(scores) > 0 else 0.0
        )
        found.append(
            LeftOut(study.data, correlation, regret(scores, float(scores[chosen].max())), random_regret(scores, k))
        )
    return found


def regret(scores: np.ndarray, reached: float) -> float:
    """(best - reached) / (best - mean); 0 where all are alike."""
    gap = float(scores.max() - scores.mean())
    return float(scores.max() - reached) / gap if gap > 0 else 0.0


def random_regret(scores: np.ndarray, k: int) -> float:
    """Expected regret of the best of k drawn without replacement: E max = sum_i s_(i) C(i - 1, k - 1) / C(n, k)."""
    ordered, n = np.sort(scores), len(scores)
    chances = np.array([comb(i, k - 1) for i in range(n)], float) / comb(n, k)
    return regret(scores, float((ordered * chances).sum()))

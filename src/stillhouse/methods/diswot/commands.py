"""DisWOT's own commands: how scores order networks whose accuracy is known, and what every score says of one network."""

from __future__ import annotations

import json as json_module
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from stillhouse.core.errors import require
from stillhouse.core.progress import Progress
from stillhouse.core.seeding import derive_seed
from stillhouse.methods.diswot.accuracy_table import read_accuracies
from stillhouse.methods.diswot.config import Config
from stillhouse.methods.diswot.scoring import COSTS, SCORES, make_judge, mean_and_spread
from stillhouse.vision.ranking import PairTable, bootstrap, partial_tau, rank_sum, regret
from stillhouse.vision.spaces import Description, load_space, words_of

Table = list[tuple[Description, float]]


def rank(
    table: tyro.conf.Positional[Path],
    column: str,
    config: tyro.conf.OmitArgPrefixes[Config],
    networks: int = 0,
    json: bool = False,
) -> None:
    """How well scores order networks whose accuracy is known, also among networks of equal cost.

    Args:
        table: a CSV file with a row a network: columns named like the options of --space, or `arch` (cells), or `depths` (resnets).
        column: of the accuracy.
        config: data, teacher, space and scores, as for `stillhouse run diswot`.
        networks: a sample of so many of them; 0 takes all.
        json: machine-readable.
    """
    space = load_space(config.space)
    known = read_accuracies(table, space, column)
    if networks:
        known = random.Random(derive_seed(config.seed, "networks")).sample(known, min(networks, len(known)))
    require(len(known) >= 3, f"{table} has {len(known)} networks", "give three or more: ranks of fewer say nothing")
    rows = ranked(known, config)
    if json:
        print(json_module.dumps(rows, indent=1))
        return
    print(f"{len(known)} networks of space {space.name}; tau with {column} [95 % interval over networks]")
    print(f"{'score':24} {'tau':>22} {'given MACs':>11} {'at equal MACs':>14} {'regret top 1':>13}")
    for row in rows:
        tau = f"{row['tau']:.3f} [{row['low']:.2f}, {row['high']:.2f}]"
        print(
            f"{row['score']:24} {tau:>22} {row['partial_tau']:11.3f} {row['tau_at_equal_cost']:14.3f} {row['regret']:13.3g}"
        )


def ranked(known: Table, config: Config, quiet: bool = False) -> list[dict[str, Any]]:
    """A row a score, and one for their rank sum: what `rank` prints."""
    names = (*dict.fromkeys((*config.scores, *COSTS)),)
    found, truth = _all_scores([description for description, _ in known], names, config, quiet), [a for _, a in known]
    values = {name: [mean_and_spread(row[name])[0] for row in found] for name in names}
    if len(config.scores) > 1:
        values[" + ".join(config.scores)] = list(rank_sum([values[name] for name in config.scores]))
    costs, everything = values["macs"], np.ones(len(truth))
    rows = []
    for name, scores in values.items():
        plain = PairTable(scores, truth)
        low, high = bootstrap(plain.tau, len(truth))
        rows.append(
            {
                "score": name,
                "tau": plain.tau(everything),
                "low": low,
                "high": high,
                "partial_tau": partial_tau(scores, truth, costs),
                "tau_at_equal_cost": PairTable(scores, truth, costs).tau(everything),
                "regret": regret(scores, truth, costs, float(np.median(costs))),
            }
        )
    return rows


EVERY_WIDTH = tuple(name for name in SCORES if name not in ("channel_relation", "semantic", "semantic_exact", "diswot"))
"""Scores that do not need students as wide as the teacher."""


def scores(
    config: tyro.conf.OmitArgPrefixes[Config], networks: int = 3, names: tuple[str, ...] = (), json: bool = False
) -> None:
    """The scores of a few networks drawn from a space, with their spread over draws of weights and images.

    Args:
        config: data, teacher, space and draws, as for `stillhouse run diswot`.
        networks: how many.
        names: of the scores; by default all that take students of any width.
        json: machine-readable.
    """
    rng, space = random.Random(config.seed), load_space(config.space)
    drawn = [space.sample(rng) for _ in range(networks)]
    found = _all_scores(drawn, names or EVERY_WIDTH, config, quiet=False)
    if json:
        print(json_module.dumps([{"network": d, "scores": s} for d, s in zip(drawn, found, strict=True)], indent=1))
        return
    for description, values in zip(drawn, found, strict=True):
        print(f"\n{words_of(description)}")
        for name, several in values.items():
            mean, spread = mean_and_spread(several)
            print(f"  {name:20} {mean:14.6g} ± {spread:.2g}")


def _all_scores(
    descriptions: list[Description], names: tuple[str, ...], config: Config, quiet: bool
) -> list[dict[str, tuple[float, ...]]]:
    from stillhouse.core.run import temporary_run
    from stillhouse.methods import diswot
    from stillhouse.vision.classes import class_splits
    from stillhouse.vision.images import load_images

    splits = class_splits(load_images(config.data, size=config.size or None), most=config.images)
    with temporary_run("diswot", config.seed, quiet=quiet) as run:
        teacher = diswot.teacher_of(config, splits, run)
    space, train = load_space(config.space), splits.train
    judge = make_judge(replace(config.setting(), names=names), diswot.batches_of(config, train), teacher)
    found = []
    with Progress("scores", len(descriptions), 0, quiet=quiet, unit="networks") as progress:
        for i, description in enumerate(descriptions):
            found.append(judge.score(space.build(description, train.channels, train.classes)))
            progress.update(i + 1, {})
    return found


COMMANDS: dict[str, Callable[..., None]] = {"rank": rank, "scores": scores}

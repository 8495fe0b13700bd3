"""The commands beside `run`: rank the models of a folder."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable

import numpy as np
import tyro

from stillhouse.methods.similar_tasks.config import Config
from stillhouse.methods.similar_tasks.drawer import Drawer, open_drawer, score_drawer, weights_of
from stillhouse.methods.similar_tasks.ranking import Score, combined_ranks, order
from stillhouse.methods.similar_tasks.target import load_target
from stillhouse.vision.few_labels import count_words

SHOWN = ("parc", "cka", "logme", "h_score", "nearest", "leep", "nce")


def rank(config: tyro.conf.OmitArgPrefixes[Config], json: bool = False) -> None:
    """Which of a folder's models is similar to a task? Nothing is trained.

    Args:
        config: as for `stillhouse run similar_tasks`; options of the training have no effect.
        json: machine-readable.
    """
    few = load_target(config)
    drawer = open_drawer(config, few)
    scores = score_drawer(drawer, config)
    weights = weights_of(scores, drawer.likeness(), config)
    if json:
        print(json_module.dumps(_plain(scores, weights, drawer), indent=1))
        return
    print(f"{few.labelled} labelled images, {few.pool.classes} classes; by {config.similarity}")
    if few.skipped:
        print(count_words(few.skipped))
    print("\n".join(_lines(scores, weights, config.similarity)))
    for one in drawer.unusable:
        print(f"no part: {one.name} ({one.why})")
    if not weights.any():
        print("no source is more similar than shuffled labels are: distilling from any of these is not advised")


def _lines(scores: list[Score], weights: np.ndarray, metric: str) -> list[str]:
    width = max(6, *(len(score.source) for score in scores))
    others = [name for name in SHOWN if name != metric]
    combined = combined_ranks(scores)
    head = f"{'source':{width}}  weight  {metric:>7}  95 % interval    chance         nearest in  "
    lines = [head + "  ".join(f"{name:>7}" for name in (*others, "ranks"))]
    for i in order(scores):
        score = scores[i]
        if score.why:
            lines.append(f"{score.source:{width}}  no part: {score.why}")
            continue
        low, high = score.interval
        values = [score.others[name] for name in others] + [float(combined[i])]
        lines.append(
            f"{score.source:{width}}  {weights[i]:6.3f}  {score.value:7.3f}  {low:6.3f} .. {high:6.3f}  "
            f"{score.chance:6.3f} ± {score.deviation:.3f}  {score.first:10.0%}  "
            + "  ".join(f"{v:7.3f}" for v in values)
        )
    return lines


def _plain(scores: list[Score], weights: np.ndarray, drawer: Drawer) -> dict[str, object]:
    rows = [
        {**vars(scores[i]), "weight": float(weights[i]), "rank_sum": float(combined_ranks(scores)[i])}
        for i in order(scores)
    ]
    return {"sources": rows, "no_part": [vars(one) for one in drawer.unusable]}


COMMANDS: dict[str, Callable[..., None]] = {"rank": rank}

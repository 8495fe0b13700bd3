"""`stillhouse recommend`: the pipelines to try first on a task, and why."""

from __future__ import annotations

import json as json_module
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from stillhouse.core.errors import Interrupted
from stillhouse.core.options import to_plain
from stillhouse.core.run import Run
from stillhouse.encoders.public import FAMILIES
from stillhouse.encoders.training import score_model
from stillhouse.methods.distiller.autodistiller import (
    AutoDistiller,
    LeftOut,
    Study,
    Suggestion,
    Trial,
    known_studies,
    leave_one_family_out,
)
from stillhouse.methods.distiller.config import Config
from stillhouse.methods.distiller.features import task_features
from stillhouse.methods.distiller.study import pipeline_of, space
from stillhouse.methods.distiller.task import Task, open_task


def study_of(task: Task, trials: Sequence[Trial]) -> Study:
    """A finished search as AutoDistiller keeps it."""
    name = Path(task.config.data).name
    teacher = score_model(task.teacher.model, task.teacher_items(task.data.select), task.data.metric)
    return Study(name, FAMILIES.get(name, name), task_features(task), teacher, tuple(trials))


def recommend(config: Config, top: int = 3) -> tuple[list[Suggestion], list[tuple[str, float]], Config]:
    """The pipelines expected to be best on the config's task, the known data sets most like it, and the best as a config.

    Raises:
        UserError: data or teacher cannot be used, or too few searches are known.
    """
    # first, because a teacher may take minutes: with too few searches this says so at once
    model = AutoDistiller(known_studies(), space(config), config.seed)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            Run.create("distiller", to_plain(config), out=Path(folder) / "run") as run,
        ):
            features = task_features(open_task(config, run))
    except Interrupted:
        raise Interrupted("stopped before the teacher was ready; start the command again") from None
    found = model.recommend(features, top)
    return found, model.nearest(features), config.with_pipeline(pipeline_of(found[0].levels, config))


def print_recommendation(config: Config, top: int, json: bool) -> None:
    """What the command prints."""
    found, near, best = recommend(config, top)
    judged = judged_on_left_out(config)
    if json:
        rows = {
            "pipelines": [asdict(one) for one in found],
            "nearest": near,
            "left_out": [asdict(one) for one in judged],
        }
        print(json_module.dumps(rows, indent=1))
        return
    for place, one in enumerate(found, start=1):
        low, high = one.share_interval
        print(f"{place}. {pipeline_of(one.levels, config).words()}")
        print(
            f"   expected {one.share:.2f} of the teacher's score ({low:.2f} to {high:.2f}), rank {one.rank:.2f} +- {one.spread:.2f} of 1"
        )
    print("most like: " + ", ".join(f"{name} ({distance:.1f} standard deviations away)" for name, distance in near))
    print(f"how sure:  {trust(judged)}")
    print(f"try it:    {command(best)}", file=sys.stderr)


def judged_on_left_out(config: Config) -> list[LeftOut]:
    """The known searches, each left out in turn; none where leaving one out leaves too few to learn from."""
    known = known_studies()
    return leave_one_family_out(known, space(config), seed=config.seed) if len({s.family for s in known}) > 2 else []


def trust(judged: Sequence[LeftOut]) -> str:
    """How good such advice was on data whose family it had not seen, against chance."""
    if not judged:
        return "not known; it takes searches on three kinds of data to leave one out"
    order, ours, chance = (
        sum(getattr(one, key) for one in judged) / len(judged) for key in ("spearman", "regret", "random_regret")
    )
    verdict = "no better than chance" if ours >= chance else "better than chance"
    return (
        f"on {len(judged)} data sets left out in turn its three had {ours:.2f} of the possible regret, three at random {chance:.2f}"
        f" ({verdict}); its order correlates {order:.2f} with the truth"
    )


def command(config: Config) -> str:
    """The command line that runs a pipeline."""
    p = config.pipeline
    parts = [
        f"stillhouse run distiller --data {config.data} --teacher {config.teacher}",
        f"--intermediate {p.intermediate}",
    ]
    parts += [f"--alpha {p.alpha:g}"] if p.intermediate == "mi" else []
    parts += [f"--mapping {p.mapping} --prediction {p.prediction}"]
    parts += [f"--augmentation {' '.join(p.augmentation)}"] if p.augmentation else []
    return " ".join([*parts, *(["--mixup"] if p.mixup else [])])

"""How the defaults of fair_tables were chosen: three settings an arm, on tables and seeds that are not reported.

    python benchmarks/fair_tables.py --parts tuning

Tables: loans and bank marketing (by marital status), seed 100, judged on the select rows; the report rows stay unseen.
The student, FLDGM GAN and FLDGM diffusion live on one teacher and have its beta to choose; the TabFairGAN-style arm has
its lambda and its learning rate. Chosen is what is best on the mean of both tables, by fair utility.

Colour-MNIST has one more setting: whether z may say what the label says of the colour (`fair_given`). It is chosen for all
arms of a teacher together, by their mean fair utility, on seed 100's select rows, whose colours are as biased as those learned from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import cattrs
import numpy as np

from fair_tables_runs import BASE, scratch_run
from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.evidence import Bench, ClaimedArm
from stillhouse.core.result import Arm
from stillhouse.methods import fair_tables
from stillhouse.methods.fair_tables import pipeline
from stillhouse.methods.fair_tables.evaluation import Maker, measure
from stillhouse.methods.fair_tables.task import Task

SEED = 100
BANK = PublicFile(
    "fairness_tabular/bank-full.csv",
    "https://github.com/tailequy/fairness_dataset, experiments/data",
    "03e78e93396e664a079dff3e1df1b40b6359b1f9945adfb9a09ceabd0fb79193",
)
BETAS = (30.0, 100.0, 300.0)
NEUTRAL = dataclasses.replace(
    BASE,
    fairness_weight=0.0,
    student_fairness_weight=0.0,
    tabfairgan_fairness=0.0,
    tabfairgan_rate=0.0,
    tabfairgan_updates=0,
)
"""Whatever else the defaults say, for the pieces' keys: a choice must not ask for its own repetition."""
GIVEN = ("nothing", "label")
IMAGES: dict[str, Any] = {
    "data": "colour-mnist",
    "latent": 16,
    "fair_given": "label",
    "batch": 128,
    "pairs": 128,
    "teacher_updates": 1500,
    "student_updates": 1000,
    "sampler_updates": 1000,
}
TABFAIRGAN = ((1.0, 5e-4), (1.0, 2e-3), (10.0, 2e-3))


def tables() -> dict[str, dict[str, Any]]:
    """Options of the two tables."""
    bank = {"data": str(find_public_file(BANK)), "label": "y", "sensitive": ("marital",), "positive": "yes"}
    return {"loans": {"data": "loans"}, "bank": {**bank, "most_rows": 4000}}


def on_select(config: fair_tables.Config) -> Task:
    """The task with the select rows in the place of the report rows."""
    task = pipeline.open_task(config)
    return dataclasses.replace(task, report=task.select)


def latent_arms(options: dict[str, Any]) -> list[Any]:
    """Student, FLDGM GAN and FLDGM diffusion of one teacher, measured on select rows."""
    config = dataclasses.replace(BASE, **options, seed=SEED)
    with scratch_run(config) as run:
        task = on_select(config)
        teacher, teacher_maker = pipeline.teach(config, task, run)
        makers = [
            teacher_maker,
            pipeline.distil(config, task, teacher, run)[1],
            pipeline.fldgm_gan(config, task, teacher, run),
            pipeline.fldgm_diffusion(config, task, teacher, run),
        ]
        return measured(makers, config, task, run)


def tabfairgan_arm(options: dict[str, Any]) -> list[Any]:
    """The TabFairGAN-style arm, measured on select rows."""
    config = dataclasses.replace(BASE, **options, seed=SEED)
    with scratch_run(config) as run:
        task = on_select(config)
        return measured([pipeline.tabfairgan(config, task, run)], config, task, run)


def measured(makers: list[Maker], config: fair_tables.Config, task: Task, run: Any) -> list[Any]:
    """The arms as JSON values."""
    return [cattrs.unstructure(measure(maker, task, config.measured_rows, run)) for maker in makers]


def tune(bench: Bench, asked: bool) -> None:
    """Measure every setting (or take those that are there), keep its arms, and print what is best for each arm."""
    scores: dict[str, dict[str, list[float]]] = {}
    tune_images(bench, asked)
    for table, setting, arms in settings(bench, asked):
        for raw in arms:
            arm = cattrs.structure(raw, Arm)
            bench.arms.append(ClaimedArm(f"tuning ({table})", dataclasses.replace(arm, note=setting)))
            scores.setdefault(arm.name, {}).setdefault(setting, []).append(arm.metrics["fair_utility"])
    for name, by_setting in scores.items():
        means = {setting: round(float(np.mean(values)), 3) for setting, values in by_setting.items()}
        print(f"{name}: best is {max(means, key=lambda s: means[s])} of {means}", flush=True)


def tune_images(bench: Bench, asked: bool) -> None:
    """The same for what z may say of the colour."""
    means = {}
    for given in GIVEN:
        changed = {**IMAGES, "fair_given": given}
        key = {
            "piece": "tuning",
            "table": "colour-mnist",
            "base": NEUTRAL,
            "given": given,
            **{k: v for k, v in IMAGES.items() if k != "fair_given"},
        }
        if not (asked or bench.has(key)):
            continue
        arms = [cattrs.structure(raw, Arm) for raw in bench.piece(key, lambda changed=changed: latent_arms(changed))]
        bench.arms += [ClaimedArm("tuning (colour-mnist)", dataclasses.replace(a, note=f"given {given}")) for a in arms]
        means[given] = np.mean([arm.metrics["fair_utility"] for arm in arms if arm.name != "teacher"])
    if means:
        print(
            f"z may say of the colour: best is what {max(means, key=lambda g: means[g])} says, of {means}", flush=True
        )


def settings(bench: Bench, asked: bool) -> Iterator[tuple[str, str, list[Any]]]:
    """Table, setting and measured arms."""
    for table, options in tables().items():
        for beta in BETAS:
            changed = {**options, "fairness_weight": beta, "student_fairness_weight": beta}
            key = {"piece": "tuning", "table": table, "base": NEUTRAL, "beta": beta}
            if asked or bench.has(key):
                yield table, f"beta {beta:g}", bench.piece(key, lambda changed=changed: latent_arms(changed))
        for weight, rate in TABFAIRGAN:
            changed = {**options, "tabfairgan_fairness": weight, "tabfairgan_rate": rate}
            key = {
                "piece": "tuning",
                "table": table,
                "base": NEUTRAL,
                "lambda": weight,
                "rate": rate,
                "updates": BASE.tabfairgan_updates,
            }
            if asked or bench.has(key):
                yield (
                    table,
                    f"lambda {weight:g}, rate {rate:g}",
                    bench.piece(key, lambda changed=changed: tabfairgan_arm(changed)),
                )

"""Every arm measured alike: utility and fairness of models trained on it, fidelity, and nearness to real records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import cattrs
import numpy as np
import torch

from stillhouse.core.files import read_json, write_json
from stillhouse.core.result import Arm, Cost, Metric, Role
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed, seed_everything
from stillhouse.methods.fair_tables.stages import Data
from stillhouse.methods.fair_tables.task import Task
from stillhouse.tables import quality
from stillhouse.tables.downstream import mean_utility, train_on_test_on, utility
from stillhouse.tables.fairness import association, sensitive_auroc

DISTANCE_ROWS = 2000
"""Rows on each side of everything that compares rows with rows."""

METRICS = (
    Metric("fair_utility", "Fair utility", "higher", "Parity ratio times (2 balanced accuracy - 1); 0 for a constant."),
    Metric("parity_ratio", "Parity ratio", "higher", "Least over greatest share of positive decisions among groups."),
    Metric("balanced_accuracy", "Balanced accuracy", "higher", "Mean of both classes' recall on real rows."),
    Metric("auroc", "AUROC", "higher", "Ranking quality on real rows."),
    Metric("f1", "F1 of the positive class", "higher"),
    Metric("parity_difference", "Parity difference", "lower"),
    Metric("odds_ratio", "Equalised odds ratio", "higher"),
    Metric("odds_difference", "Equalised odds difference", "lower"),
    Metric("aware_parity_ratio", "Parity ratio, group given", "higher", "The models also read the sensitive columns."),
    Metric("aware_balanced_accuracy", "Balanced accuracy, group given", "higher"),
    Metric("label_group_association", "Label-group association", "lower", "Cramer's V of label and group in the rows."),
    Metric(
        "sensitive_auroc", "s-AUROC from z", "lower", "How well a forest tells the group from z; 0.5 is not at all."
    ),
    Metric("density", "Density", "higher"),
    Metric("coverage", "Coverage", "higher"),
    Metric("alpha_precision", "Alpha-precision", "higher"),
    Metric("beta_recall", "Beta-recall", "higher"),
    Metric("marginal_error", "Marginal error", "lower"),
    Metric("correlation_error", "Correlation error", "lower"),
    Metric("authenticity", "Authenticity", "higher", "Share of rows that are no copy of a training row."),
    Metric("closest_record", "Distance to closest record", "higher", "Median distance to the nearest training row."),
    Metric("membership_advantage", "Membership advantage", "lower", "How much nearness tells who was a training row."),
)


@dataclass(frozen=True)
class Maker:
    """An arm before it is measured: how it draws rows, and what it cost."""

    name: str
    role: Role
    draw: Callable[[int], Data]
    cost: Cost = field(default_factory=Cost)
    latents: Callable[[Data], torch.Tensor] | None = None
    note: str = ""


def measure(maker: Maker, task: Task, rows: int, run: Run) -> Arm:
    """The arm's metrics on the report rows; kept in the run folder and taken from there the next time."""
    file = run.folder / "arms" / f"{maker.name.replace(' ', '-').replace('/', '-')}.json"
    if not file.exists():
        seed_everything(run.seed, "measure", maker.name)
        arm = Arm(maker.name, maker.role, arm_metrics(maker, task, rows, run.seed), maker.cost, run.seed, maker.note)
        write_json(file, cattrs.unstructure(arm))
    return cattrs.structure(read_json(file), Arm)


def arm_metrics(maker: Maker, task: Task, rows: int, seed: int) -> dict[str, float]:
    """All metrics of one arm from `rows` drawn rows."""
    synthetic = maker.draw(rows)
    metrics = utility_metrics(task, synthetic, seed) | fidelity(task, synthetic, seed)
    metrics["label_group_association"] = association(
        np.isin(synthetic.y.numpy(), task.positive).astype(int), synthetic.s.numpy()
    )
    if maker.latents:
        some = task.report.take(torch.arange(min(len(task.report), 2 * DISTANCE_ROWS)))
        metrics["sensitive_auroc"] = sensitive_auroc(maker.latents(some).numpy(), some.s.numpy(), seed % 2**32)
    return metrics


def utility_metrics(task: Task, synthetic: Data, seed: int) -> dict[str, float]:
    """Train on synthetic, test on real report rows: the sensitive columns left out, and once more with them."""
    seed %= 2**32
    found = mean_utility(train_on_test_on(task.rows(synthetic), task.rows(task.report), seed))
    aware = mean_utility(train_on_test_on(task.aware(synthetic), task.aware(task.report), seed))
    found["aware_parity_ratio"] = aware["parity_ratio"]
    found["aware_balanced_accuracy"] = aware["balanced_accuracy"]
    return found | {"fair_utility": fair_utility(found)}


def fair_utility(found: Mapping[str, float]) -> float:
    """Parity ratio times (2 balanced accuracy - 1): a constant classifier has 0."""
    return found["parity_ratio"] * (2 * found["balanced_accuracy"] - 1)


def fidelity(task: Task, synthetic: Data, seed: int) -> dict[str, float]:
    """Likeness to report rows, and nearness to training rows, on `DISTANCE_ROWS` rows of each."""
    random = np.random.default_rng(derive_seed(seed, "fidelity"))
    made, train, fresh = (_some(d, random) for d in (synthetic, task.train, task.report))
    equal = min(len(train), len(fresh))
    density, coverage = quality.density_and_coverage(fresh, made)
    return {
        "density": density,
        "coverage": coverage,
        "alpha_precision": quality.alpha_precision(fresh, made),
        "beta_recall": quality.beta_recall(fresh, made),
        "marginal_error": quality.marginal_error(fresh, made, task.blocks),
        "correlation_error": quality.correlation_error(fresh, made),
        "authenticity": quality.authenticity(train, made),
        "closest_record": float(np.median(quality.closest_record(train, made))),
        "membership_advantage": quality.membership_advantage(train[:equal], fresh[:equal], made),
    }


def _some(data: Data, random: np.random.Generator) -> np.ndarray:
    return data.x.numpy()[random.permutation(len(data))[:DISTANCE_ROWS]]


def constant_arm(task: Task, seed: int) -> Arm:
    """The classifier that always says no: perfect parity, no use."""
    report = task.rows(task.report)
    judged = utility(report.y, np.zeros(len(report)), report.s)
    found = mean_utility({"constant": judged})
    aware = {"aware_parity_ratio": found["parity_ratio"], "aware_balanced_accuracy": found["balanced_accuracy"]}
    return Arm("constant classifier", "floor", found | aware | {"fair_utility": fair_utility(found)}, seed=seed)

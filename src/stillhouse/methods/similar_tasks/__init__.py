"""A small classifier from few labels, many unlabelled images and a drawer full of other people's models.

Distilling from Similar Tasks for Transfer Learning on a Budget (arXiv 2304.12314): DistillNearest and DistillWeighted.

Every source model looks at the labelled images once; the similarity of its features to the task, e_s, gives it a weight,

    a_s = e_s^p / sum_s e_s^p          p = inf is DistillNearest
    L = lambda L_lab + (1 - lambda) sum_s a_s L_s

L_lab: cross-entropy with the labels; L_s: cross-entropy of a head g_s on the student's features with source s's soft outputs over its
own classes, on labelled and unlabelled images. Sources are never trained, their data is not needed, and their soft outputs are
computed once on unchanged images, so a step costs the same whatever their size; the heads are dropped afterwards.

No code of the authors was released, so details beyond the abstract are ours: similarity is PARC's AUC (PARC has a ceiling that
depends on the class count), a source counts only beyond what shuffled labels give, sources with the same features share a vote, L_s
is divided by the logarithm of the class count, and T_s is set by the entropy of the soft outputs. Each can be turned off.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from stillhouse.core.estimate import Estimate, Stage
from stillhouse.core.options import read_options
from stillhouse.core.portable import Portable
from stillhouse.core.result import Arm, Metric, Result, Role
from stillhouse.core.run import Run
from stillhouse.methods.similar_tasks.arms import TITLES, Spent, Workshop
from stillhouse.methods.similar_tasks.commands import COMMANDS
from stillhouse.methods.similar_tasks.config import ArmName, Config
from stillhouse.methods.similar_tasks.drawer import Drawer, open_drawer, score_drawer, weights_of
from stillhouse.methods.similar_tasks.report import cost_table, prediction_table, ranking_table, similarity_picture
from stillhouse.methods.similar_tasks.target import load_target
from stillhouse.vision.costs import latency_seconds, parameters
from stillhouse.vision.few_labels import FewLabels, count_words, smallest_class
from stillhouse.vision.images import ImageData
from stillhouse.vision.model_files import Classifier, open_saved, save_classifier
from stillhouse.vision.portable import portable_classifier
from stillhouse.vision.source_tasks import parse_network
from stillhouse.vision.spaces import load_space
from stillhouse.vision.training import accuracy
from stillhouse.vision.trials import classifier_trials

__all__ = ["COMMANDS", "PRESETS", "Config", "distill", "estimate", "load", "portable"]

PRESETS = {
    "laptop": Config(),
    "paper": Config(
        data="cifar10",
        size=0,
        images=0,
        labels=1000,
        source_tasks=("omniglot-european", "omniglot-asian", "omniglot-other", "fashion-mnist", "mnist"),
        source_networks=("resnets width=16", "resnets blocks1=5 blocks2=5 blocks3=5", "mobilenets", "plain width=64"),
        source_updates=20_000,
        similarity="parc",
        significance=0.0,
        power=12.0,
        redundancy=0.0,
        label_share=0.8,
        temperature=1.0,
        divide_by_classes=False,
        student="mobilenets width=24",
        broad_updates=50_000,
        updates=100 * 50_000 // 128,
        shift=4,
        mirror=True,
    ),
}
METRICS = (
    Metric("accuracy", "Accuracy", "higher", "Share of the report split's images whose class is told right."),
    Metric("accuracy_select", "Accuracy, select split", "higher", "The same on images that choices may be made on."),
)


def distill(config: Config, run: Run) -> Result:
    """Weigh the sources, distil from them, and compare with the other ways to get the same network."""
    few = load_target(config)
    for line in filter(None, [count_words(few.skipped)]):
        run.log(line)
    shape = " x ".join(map(str, few.shape))
    run.log(
        f"{few.labelled} labelled of {len(few.pool)} images of {shape}, {few.pool.classes} classes; opening the sources"
    )
    drawer = open_drawer(config, few)
    scores = score_drawer(drawer, config)
    weights = weights_of(scores, drawer.likeness(), config)
    workshop = Workshop(config, few, drawer, scores, weights, run)
    run.log(_weights_line(drawer, weights))
    names: list[ArmName] = ["weighted", *(arm for arm in get_args(ArmName) if arm in config.arms and arm != "weighted")]
    arms: list[Arm] = []
    spent: dict[str, Spent] = {}
    for name in names:
        if name == "probe":
            arms.append(workshop.linear_probe())
            continue
        made = workshop.make(name)
        if made is None:
            run.log(f"{TITLES[name]}: none, for the nearest source is an ONNX file")
            continue
        role: Role = "student" if name in ("weighted", "nearest") else "baseline"
        arms.append(workshop.arm(name, made, role))
        spent[TITLES[name]] = made.spent
    space, description = parse_network(config.student)
    student = workshop.make("weighted")
    assert student is not None
    save_classifier(student.network, space, description, few.shape, few.pool.class_names, run.model_folder)
    arms[0] = replace(arms[0], cost=replace(arms[0].cost, bytes_on_disk=_bytes(run.model_folder)))
    arms.append(_floor(few, config.seed))
    return _result(config, workshop, arms, spent)


def _bytes(folder: Path) -> int:
    return (folder / "network.safetensors").stat().st_size


def _weights_line(drawer: Drawer, weights: np.ndarray) -> str:
    if not weights.any():
        return (
            "no source is more similar than chance: distillation is off, and the student learns from the labels alone"
        )
    heaviest = np.argsort(-weights)[:4]
    return "weights: " + ", ".join(f"{drawer.sources[i].name} {weights[i]:.2f}" for i in heaviest if weights[i] > 0)


def _floor(few: FewLabels, seed: int) -> Arm:
    shares = {"accuracy": few.report, "accuracy_select": few.select or few.report}
    metrics = {name: float(torch.bincount(data.labels).max() / len(data)) for name, data in shares.items()}
    return Arm("the most frequent class", "floor", metrics, seed=seed)


def _result(config: Config, workshop: Workshop, arms: list[Arm], spent: dict[str, Spent]) -> Result:
    drawer, few, run = workshop.drawer, workshop.few, workshop.run
    accuracies = {}
    if "oracle" in config.arms:
        accuracies = {i: accuracy(workshop.one_source(i).network, few.report) for i in drawer.usable}
    scratch = next((arm.metrics["accuracy"] for arm in arms if arm.name == TITLES["scratch"]), None)
    scores = workshop.scores
    if "scratch" in config.arms:
        reference = workshop.reference_features(drawer.probe.pool.images[: drawer.probe.labelled])
        scores = score_drawer(drawer, config, reference)
    tables = [ranking_table(scores, workshop.weights, config.similarity, drawer.unusable)]
    if len(accuracies) > 2:
        tables.append(prediction_table(scores, accuracies))
    tables.append(cost_table(spent))
    return Result(
        "similar_tasks",
        _sentence(arms, workshop),
        METRICS if few.select is not None else METRICS[:1],
        tuple(arms),
        pictures=(similarity_picture(drawer, scores, accuracies, config.similarity, scratch, run),),
        tables=tuple(tables),
        notes=_notes(config, workshop),
    )


def _sentence(arms: list[Arm], workshop: Workshop) -> str:
    few, found = workshop.few, {arm.name: arm.metrics["accuracy"] for arm in arms}
    used = int((workshop.weights > 0).sum())
    words = (
        f"With {few.labelled} labels and {len(few.pool) - few.labelled} unlabelled images, a network of "
        f"{arms[0].cost.parameters or 0:,} parameters distilled from {used} of {len(workshop.drawer.sources)} sources tells "
        f"{arms[0].metrics['accuracy']:.1%} of the report images right"
    )
    beside: tuple[tuple[ArmName, str], ...] = (("scratch", "from the labels alone"), ("fixmatch", "with FixMatch"))
    others = [f"{found[TITLES[name]]:.1%} {said}" for name, said in beside if TITLES[name] in found]
    return f"{words}; {', '.join(others)}." if others else f"{words}."


def _notes(config: Config, workshop: Workshop) -> tuple[str, ...]:
    few, drawer = workshop.few, workshop.drawer
    size = len(few.report)
    name, count = smallest_class(few)
    notes = [
        f"Report split: {size} images, so accuracies that differ by less than {2 * (0.25 / size) ** 0.5:.3f} do not differ; "
        "one draw of labels, one seed.",
        "All arms have the same network, initial weights, updates and labelled images, but where their row says otherwise.",
    ]
    if not workshop.weights.any():
        notes.append(
            "No source is more similar than chance: nothing was distilled, and DistillWeighted is labels alone."
        )
    if count < 2:
        notes.append(f"Class {name!r} has one label: similarity rests on the other classes.")
    left = [f"{drawer.sources[i].name} ({why})" for i, why in enumerate(drawer.problems) if why]
    left += [f"{one.name} ({one.why})" for one in drawer.unusable]
    if left:
        notes.append(f"Sources without a part: {'; '.join(left)}.")
    if few.skipped:
        notes.append(count_words(few.skipped))
    if far := workshop.far_share():
        notes.append(far)
    return tuple(notes)


def estimate(config: Config) -> Estimate:
    """From a few passes of the student on random images; sources on disk or in the cache cost less than said."""
    size, channels, classes = config.size or 32, 3 if config.data == "cifar10" else 1, 10
    space, description = parse_network(config.student)
    network = load_space(space).build(description, channels, classes)
    forward = latency_seconds(network, (channels, size, size), 64)
    trained = len(config.source_tasks) * len(config.source_networks) * (config.sources == "train")
    updates = trained * config.source_updates
    batch = config.labelled_batch + config.unlabelled_batch
    singles = {"nearest", "worst", "random"} & set(config.arms)
    distilled = len({"weighted", "uniform"} & set(config.arms)) + max(
        len(singles), (trained or 10) * ("oracle" in config.arms)
    )
    alone = len({"scratch", "finetune", "broad"} & set(config.arms)) + (2 if "broad" in config.arms else 0)
    fixmatch = len({arm for arm in config.arms if arm.startswith("fixmatch")})
    mega = 8 * parameters(network)

    def stage(name: str, arms: int, each: int, images: int) -> Stage:
        passes = 3 * arms * each * images
        return Stage(name, arms * each, passes, passes * forward, mega)

    return Estimate(
        (
            Stage("sources", updates, 3 * 64 * updates, 3 * 64 * updates * 1.5 * forward),
            stage("distilled students", distilled, config.updates, batch),
            stage("students from labels", alone, config.updates, config.labelled_batch),
            stage("FixMatch", fixmatch, config.updates, batch + config.unlabelled_batch),
        )
    )


def load(folder: Path) -> Classifier:
    """The distilled student of a run's model folder."""
    return open_saved(folder)


def portable(run: Path) -> Portable:
    """The student, and the accuracy of its exported forms on the report split."""
    few = load_target(read_options(run, "similar_tasks", Config))
    return portable_classifier(load(run / "model").network, few.pool, few.report, lambda f: load(f).network)


def _tried(run: Path) -> tuple[Classifier, ImageData]:
    return load(run / "model"), load_target(read_options(run, "similar_tasks", Config)).report


TRIALS = classifier_trials(_tried)

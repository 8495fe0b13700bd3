"""Find the student that a teacher distils best into, without training any, and distil it.

DisWOT: Student Architecture Search for Distillation WithOut Training (arXiv 2303.15678).

A network's score compares it at random weights with the teacher, on one batch of labelled images:

    M_r = - || rn(F_T F_T') - rn(F_S F_S') ||^2 / B^2      relation: which samples are alike (F: last map, flattened)
    M_s = - sum_k || rn(g_Tk g_Tk') - rn(g_Sk g_Sk') ||^2 / (K C)     semantic: which channels a class uses (g = dCE / dW)

`scores=("diswot",)` is the published M_r + M_s. The default sums ranks of parts, because M_s drowns M_r in a raw sum, and because
at random weights the teacher says next to nothing: noise in its place gives the same order (docs/methods/diswot.md has the tables).
Search is aging evolution with crossover under bounds in parameters, MACs and measured latency.

What else differs from the released code, and why: every child is held to the bounds (there, the first network only); parents are the
best of a tournament (there, among the worst); batches and weights are the same for all networks, several draws, spread shown;
the semantic similarity in closed form, O(K C); a network that is not connected scores -inf; nothing is chosen on test accuracy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillhouse.core.estimate import Estimate, Stage
from stillhouse.core.files import folder_bytes
from stillhouse.core.options import read_options
from stillhouse.core.portable import Portable
from stillhouse.core.result import Arm, Cost, Metric, Result, Role
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed, generator, seed_everything
from stillhouse.methods.diswot.commands import COMMANDS
from stillhouse.methods.diswot.config import Config
from stillhouse.methods.diswot.distillation import Teacher, cached_teacher, distillation, online_teacher
from stillhouse.methods.diswot.initialise import initialise
from stillhouse.methods.diswot.report import best_table, front_table, parts_table, search_picture
from stillhouse.methods.diswot.scoring import Setting, make_judge, places_in
from stillhouse.methods.diswot.search import Bounds, Candidate, Found, Plan, search, try_out
from stillhouse.vision.classes import Batch, class_batch, class_splits
from stillhouse.vision.costs import latency_seconds, macs, parameters
from stillhouse.vision.images import ImageData, Splits, load_images
from stillhouse.vision.model_files import load_classifier, save_classifier
from stillhouse.vision.portable import portable_classifier
from stillhouse.vision.resnets import CifarResNet
from stillhouse.vision.spaces import Description, load_space, words_of
from stillhouse.vision.teachers import open_classifier
from stillhouse.vision.training import Objective, Recipe, accuracy, draw, logits_of, train_classifier
from stillhouse.vision.trials import classifier_trials

__all__ = ["COMMANDS", "PRESETS", "Config", "distill", "estimate", "load", "plan_of", "portable", "search"]

PRESETS = {
    "laptop": Config(),
    "paper": Config(
        data="cifar10",
        size=0,
        teacher="resnet56-cifar10",
        space="cells",
        scores=("diswot",),
        draws=1,
        initialisation="gaussian",
        max_macs=100_000_000,
        evaluations=1000,
        crossover=0.0,
        losses=("kd", "relation", "ickd"),
        updates=240 * 50_000 // 64,
        shift=4,
        mirror=True,
    ),
}
METRICS = (
    Metric("accuracy", "Accuracy", "higher", "Share of the report split's images whose class is told right."),
    Metric("accuracy_select", "Accuracy, select split", "higher", "The same on images that choices may be made on."),
)


@dataclass(frozen=True)
class Student:
    """The distilled network and what it is."""

    network: nn.Module
    space: str
    description: Description
    class_names: tuple[str, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Class scores [n, classes] of images in [-1, 1]."""
        return logits_of(self.network, images)

    def classify(self, images: Tensor) -> list[str]:
        """Names of the classes."""
        return [self.class_names[i] for i in self(images).argmax(1).tolist()]


@dataclass(frozen=True, eq=False)
class Setup:
    """What every student of a run is trained and judged with."""

    config: Config
    splits: Splits
    teacher: nn.Module
    run: Run

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        return tuple(self.splits.train.images.shape[1:])  # type: ignore[return-value]

    def build(self, description: Mapping[str, Any]) -> nn.Module:
        """The described network with the run's initial weights."""
        network = load_space(self.config.space).build(description, self.shape[0], self.splits.train.classes)
        initialise(network, "kaiming", generator(self.config.seed, "weights"))
        return network

    def shown_teacher(self) -> Teacher:
        """What the losses look at; computed once where the student's images are not moved."""
        places = places_in(self.teacher, self.shape, self.config.teacher_map)
        if self.config.shift == 0:
            return cached_teacher(self.teacher, places, self.splits.train)
        return online_teacher(self.teacher, places)


def distill(config: Config, run: Run) -> Result:
    """Search under the bounds, distil the student that was found, and compare it with other ways to get one."""
    splits = class_splits(load_images(config.data, size=config.size or None), most=config.images)
    setup = Setup(config, splits, teacher_of(config, splits, run), run)
    found = search(
        plan_of(config),
        batches_of(config, splits.train),
        setup.teacher,
        splits.train.classes,
        file=run.folder / "search.jsonl",
        workers=config.workers,
        quiet=run.quiet,
    )
    run.log(
        f"searched {len(found.candidates)} networks in {found.seconds:.0f} s; best: {words_of(found.best.description)}"
    )
    arms = [_measured("teacher", "teacher", setup.teacher, setup, Cost(), "")]
    arms += _students(found, setup) if config.train else [_untrained(found, setup)]
    chance = float(torch.bincount(splits.report.labels).max() / len(splits.report))
    arms.append(
        Arm("the most frequent class", "floor", {"accuracy": chance, "accuracy_select": chance}, seed=config.seed)
    )
    return Result(
        "diswot",
        _sentence(arms, found, config),
        METRICS,
        tuple(arms),
        pictures=(search_picture(found, run),),
        tables=(best_table(found), front_table(found), parts_table(found)),
        notes=_notes(config, found, splits),
    )


def plan_of(config: Config) -> Plan:
    """The search that a config asks for."""
    return Plan(
        load_space(config.space),
        config.setting(),
        Bounds(config.max_parameters, config.max_macs, config.max_latency_ms / 1e3),
        config.strategy,
        config.evaluations,
        config.population,
        config.tournament,
        config.crossover,
        config.seed,
    )


def batches_of(config: Config, train: ImageData) -> list[Batch]:
    """The images of every draw."""
    return [class_batch(train, config.batch, derive_seed(config.seed, "draw", i)) for i in range(config.draws)]


def recipe_of(config: Config, updates: int) -> Recipe:
    """How every network of a run is trained."""
    return Recipe(updates, config.train_batch, config.learning_rate, shift=config.shift, mirror=config.mirror)


def teacher_of(config: Config, splits: Splits, run: Run) -> nn.Module:
    """The named teacher, or one trained in this run.

    Before anything is trained, a network of the space is scored with it, so that a bound that excludes all, or a score that does
    not fit, is told at once.
    """
    train = splits.train
    if config.teacher != "train":
        shape = tuple(train.images.shape[1:])
        return open_classifier(config.teacher, shape, train.class_names)  # type: ignore[arg-type]
    seed_everything("teacher", config.seed)
    widths = tuple(config.teacher_width << stage for stage in range(3))
    network = CifarResNet(train.channels, train.classes, (config.teacher_blocks,) * 3, widths)
    try_out(plan_of(config), batches_of(config, train), network, train.classes)
    train_classifier(Objective(network), train, recipe_of(config, config.teacher_updates), run, stage="teacher")
    return network.eval()


def _students(found: Found, setup: Setup) -> list[Arm]:
    """The found student distilled, and what it has to be better than."""
    best, config = found.best, setup.config
    network, seconds = _trained(best, config.losses, "student", setup)
    description, shape = best.description, setup.shape
    save_classifier(network, config.space, description, shape, setup.splits.train.class_names, setup.run.model_folder)
    weights = setup.run.model_folder / "network.safetensors"
    cost = Cost(
        bytes_on_disk=weights.stat().st_size,
        training_seconds=found.seconds + seconds,
        updates={"student": config.updates},
    )
    arms = [_measured("found student, distilled", "student", network, setup, cost, words_of(description))]
    if not config.compare:
        return arms
    largest = max(found.candidates, key=lambda c: c.costs.parameters)
    others: list[tuple[str, Candidate, tuple[str, ...]]] = [
        ("found student, labels alone", best, ()),
        ("random student, distilled", found.candidates[0], config.losses),
        ("largest student, distilled", largest, config.losses),
    ]
    for name, candidate, losses in others:
        network, seconds = _trained(candidate, losses, name, setup)
        cost = Cost(training_seconds=seconds, updates={"student": config.updates})
        arms.append(_measured(name, "baseline", network, setup, cost, words_of(candidate.description)))
    return arms


def _trained(candidate: Candidate, losses: tuple[str, ...], stage: str, setup: Setup) -> tuple[nn.Module, float]:
    """A candidate trained on labels and these losses; seconds it took."""
    network, recipe = setup.build(candidate.description), recipe_of(setup.config, setup.config.updates)
    objective = Objective(network)
    if losses:
        seed_everything(stage, setup.config.seed)
        objective = distillation(network, setup.shown_teacher(), losses, draw(setup.splits.train, recipe))
    fitted = train_classifier(objective, setup.splits.train, recipe, setup.run, stage=stage)
    return network.eval(), fitted.seconds


def _measured(name: str, role: Role, network: nn.Module, setup: Setup, cost: Cost, note: str) -> Arm:
    metrics = {
        "accuracy": accuracy(network, setup.splits.report),
        "accuracy_select": accuracy(network, setup.splits.select),
    }
    full = Cost(
        parameters(network),
        cost.bytes_on_disk,
        latency_seconds={
            "batch 1": latency_seconds(network, setup.shape),
            "batch 64": latency_seconds(network, setup.shape, 64),
        },
        training_seconds=cost.training_seconds,
        updates=cost.updates,
    )
    million = f"{macs(network, setup.shape) / 1e6:.2f} million MACs"
    return Arm(name, role, metrics, full, setup.config.seed, "; ".join(filter(None, [note, million])))


def _untrained(found: Found, setup: Setup) -> Arm:
    """The found network as it is, where it is not to be trained."""
    network, config = setup.build(found.best.description), setup.config
    save_classifier(
        network,
        config.space,
        found.best.description,
        setup.shape,
        setup.splits.train.class_names,
        setup.run.model_folder,
    )
    cost = Cost(bytes_on_disk=folder_bytes(setup.run.model_folder), training_seconds=found.seconds)
    return _measured("found student, not trained", "student", network, setup, cost, words_of(found.best.description))


def _sentence(arms: list[Arm], found: Found, config: Config) -> str:
    teacher, student = arms[0], arms[1]
    words = (
        f"Of {len(found.candidates)} networks scored in {found.seconds:.0f} s without training any, the best has "
        f"{found.best.costs.parameters:,} parameters and {found.best.costs.macs / 1e6:.2f} million MACs"
    )
    if not config.train:
        return f"{words}."
    return (
        f"{words}; distilled it tells {student.metrics['accuracy']:.1%} of the report images right, "
        f"the teacher {teacher.metrics['accuracy']:.1%} with {teacher.cost.parameters or 0:,} parameters."
    )


def _notes(config: Config, found: Found, splits: Splits) -> tuple[str, ...]:
    disconnected = sum(not math.isfinite(sum(c.mean(name) for name in c.scores)) for c in found.candidates)
    size = len(splits.report)
    notes = [
        f"Report split: {size} images, so accuracies of networks that differ by less than {2 * (0.1 / size) ** 0.5:.3f} do not differ; one seed.",
        "Latency is of this machine; MACs count convolutions and linear layers.",
    ]
    if disconnected:
        notes.append(f"{disconnected} of the scored networks were not connected or had dead maps and count as worst.")
    if config.teacher_state in ("random", "noise", "permuted"):
        notes.append(
            "The teacher was shown to the scores without its trained weights: the search would be the same for any teacher."
        )
    return tuple(notes)


def estimate(config: Config) -> Estimate:
    """From one score and a few updates on random images; the teacher's and students' sizes are those of the config."""
    space, setting, size = load_space(config.space), config.setting(), config.size or 32
    channels = 3 if config.data == "cifar10" else 1
    labels = torch.arange(max(config.batch, config.train_batch)) % 10
    images = torch.rand(len(labels), channels, size, size) * 2 - 1
    data = ImageData("random", images, labels, tuple("0123456789"))
    widths = tuple(config.teacher_width << stage for stage in range(3))
    teacher = CifarResNet(channels, 10, (config.teacher_blocks,) * 3, widths)
    student = space.build({option: values[0] for option, values in space.choices.items()}, channels, 10)
    batches = [Batch(images[: config.batch], labels[: config.batch])] * config.draws
    judge = make_judge(Setting(setting.names, setting.draws, teacher=setting.teacher), batches, teacher)
    started = time.monotonic()
    judge.score(student)
    score = time.monotonic() - started
    each = {
        name: _seconds_an_update(network, data, config)
        for name, network in (("teacher", teacher), ("student", student))
    }
    students = (1 + 3 * config.compare) * config.train
    trained = config.teacher == "train"
    passes = 2 * config.train_batch
    return Estimate(
        (
            Stage(
                "teacher",
                config.teacher_updates * trained,
                passes * config.teacher_updates * trained,
                each["teacher"] * config.teacher_updates * trained,
                8 * parameters(teacher),
            ),
            Stage(
                "search",
                0,
                2 * config.batch * config.draws * config.evaluations,
                score * config.evaluations / config.workers,
            ),
            Stage(
                "students",
                students * config.updates,
                students * 2 * passes * config.updates,
                students * config.updates * (each["student"] + 0.4 * each["teacher"]),
                8 * parameters(student),
            ),
        )
    )


def _seconds_an_update(network: nn.Module, data: ImageData, config: Config) -> float:
    recipe, objective = recipe_of(config, 1), Objective(network)
    started = time.monotonic()
    for _ in range(2):
        sum(objective(draw(data, recipe)).values(), torch.zeros(())).backward()
    return (time.monotonic() - started) / 2


def load(folder: Path) -> Student:
    """The distilled student of a run's model folder."""
    network, card = load_classifier(folder)
    return Student(network, card["space"], card["description"], card["classes"])


def portable(run: Path) -> Portable:
    """The student, and the accuracy of its exported forms on the report split."""
    config = read_options(run, "diswot", Config)
    splits = class_splits(load_images(config.data, size=config.size or None), most=config.images)
    return portable_classifier(load(run / "model").network, splits.train, splits.report, lambda f: load(f).network)


def _tried(run: Path) -> tuple[Student, ImageData]:
    config = read_options(run, "diswot", Config)
    splits = class_splits(load_images(config.data, size=config.size or None), most=config.images)
    return load(run / "model"), splits.report


TRIALS = classifier_trials(_tried)

"""Networks that are trained here, with and without a teacher: the pieces of stages `students`, `distillers` and `found`.

Fashion-MNIST at 8 x 8, so that hundreds of trainings fit on a processor; judged on its 10,000 test images. The teacher is a ResNet-20
of 16-32-64 channels on 20,000 training images; what it shows of every image is computed once, so every student pays the same for it.
Every arm has the same images, updates, batch, rates and augmentation (mirroring), and none was tuned.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache

from torch import nn

from diswot_scores import all_cells
from diswot_teacher import fashion, fashion_teacher
from stillhouse.core.run import temporary_run
from stillhouse.core.seeding import generator, seed_everything
from stillhouse.methods.diswot.distillation import Teacher, cached_teacher, distillation
from stillhouse.methods.diswot.initialise import initialise
from stillhouse.methods.diswot.scoring import places_in
from stillhouse.vision.cells import CellNetwork, cell_of, live_cost
from stillhouse.vision.classes import class_splits
from stillhouse.vision.images import Splits, load_images
from stillhouse.vision.resnets import CifarResNet, released_resnet
from stillhouse.vision.training import Objective, Recipe, accuracy, draw, train_classifier

RECIPE = Recipe(updates=160, batch=64, learning_rate=0.1, shift=0, mirror=True)
WIDTH = 8
STUDENT_LEVELS = (11, 18, 20, 28)
"""Live costs of the students' cells: within one, networks cost the same."""
PER_LEVEL = 16
ARMS: Mapping[str, tuple[str, ...]] = {
    "labels alone": (),
    "KD": ("kd",),
    "KD + SP (the paper's relation)": ("kd", "relation"),
    "KD + the paper's semantic": ("kd", "semantic"),
    "KD + relation + semantic (DisWOT+)": ("kd", "relation", "semantic"),
    "KD + relation + ICKD (DisWOT+ as released)": ("kd", "relation", "ickd"),
    "KD + ICKD": ("kd", "ickd"),
    "KD + AT": ("kd", "attention"),
    "KD + FitNet": ("kd", "fitnet"),
    "KD + contrastive": ("kd", "contrastive"),
}


@cache
def cifar() -> Splits:
    """CIFAR-10 as JPEG, 4,000 training images."""
    return class_splits(load_images("cifar10"), most=4000)


@cache
def shown(data: str) -> Teacher:
    """What the teacher shows of every training image."""
    teacher, splits = (
        (fashion_teacher(), fashion()) if data == "fashion" else (released_resnet("resnet56-cifar10"), cifar())
    )
    return cached_teacher(teacher, places_in(teacher, tuple(splits.train.images.shape[1:])), splits.train)  # type: ignore[arg-type]


def teacher_accuracy(data: str) -> float:
    """On the report split."""
    teacher, splits = (
        (fashion_teacher(), fashion()) if data == "fashion" else (released_resnet("resnet56-cifar10"), cifar())
    )
    return accuracy(teacher, splits.report)


def student_cells() -> list[str]:
    """Cells of a few live costs, drawn once."""
    rng, chosen = random.Random(21), []
    for level in STUDENT_LEVELS:
        chosen += rng.sample([row[0] for row in all_cells() if live_cost(cell_of(row[0])) == level], PER_LEVEL)
    return chosen


def cell_student(cell: str) -> nn.Module:
    """A student of one cell a stage for grey images."""
    return CellNetwork(1, 10, cell_of(cell), WIDTH, 1)


def trained(
    network: nn.Module, data: str, losses: Sequence[str], seed: int, recipe: Recipe = RECIPE
) -> dict[str, float]:
    """Train a network and judge it on the report split."""
    splits = fashion() if data == "fashion" else cifar()
    initialise(network, "kaiming", generator(seed, "weights"))
    seed_everything("objective", seed)
    objective = distillation(network, shown(data), losses, draw(splits.train, recipe)) if losses else Objective(network)
    with temporary_run("student", seed) as run:
        fitted = train_classifier(objective, splits.train, recipe, run, stage="student", seed=seed)
    return {
        "accuracy": accuracy(network, splits.report),
        "accuracy_select": accuracy(network, splits.select),
        "seconds": fitted.seconds,
    }


def tiny_resnet(channels: int) -> nn.Module:
    """The student of the distillers' comparison: about a tenth of its teacher's size."""
    return CifarResNet(channels, 10, (1, 1, 1), (8, 16, 32) if channels == 1 else (16, 32, 64))

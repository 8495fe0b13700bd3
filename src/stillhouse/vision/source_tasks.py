"""Source models of our own: small networks trained on tasks that are at hand, kept in the cache."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from stillhouse.core.cache import cached_folder
from stillhouse.core.errors import UserError, require
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.vision.classes import class_splits, of_classes
from stillhouse.vision.images import BUILT_IN, ImageData, load_images
from stillhouse.vision.model_files import load_classifier, save_classifier
from stillhouse.vision.sources import Source, torch_source
from stillhouse.vision.spaces import Description, load_space, words_of
from stillhouse.vision.training import Objective, Recipe, accuracy, train_classifier

FAMILIES = {"mnist-5k": "mnist"}
"""Sets that are part of another, or of the same images."""
FASHION_TOPS = ("t-shirt", "pullover", "dress", "coat", "shirt")
FASHION_REST = ("trouser", "sandal", "sneaker", "bag", "ankle boot")
CIFAR_ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
CIFAR_VEHICLES = ("airplane", "automobile", "ship", "truck")


@dataclass(frozen=True)
class Task:
    """A classification task: some classes of a named data set."""

    data: str
    classes: tuple[str, ...] = ("*",)
    """Patterns of class names."""


TASKS: Mapping[str, Task] = {
    **{name: Task(name) for name in BUILT_IN if name != "captioned-digits"},
    "fashion-tops": Task("fashion-mnist", FASHION_TOPS),
    "fashion-rest": Task("fashion-mnist", FASHION_REST),
    "cifar-animals": Task("cifar10", CIFAR_ANIMALS),
    "cifar-vehicles": Task("cifar10", CIFAR_VEHICLES),
    "omniglot-european": Task("omniglot", ("Latin/*", "Greek/*")),
    "omniglot-asian": Task("omniglot", ("Sanskrit/*", "Japanese_*")),
    "omniglot-korean": Task("omniglot", ("Korean/*",)),
    "omniglot-other": Task("omniglot", ("Tagalog/*", "Balinese/*", "Early_Aramaic/*")),
}


@cache
def task_images(name: str, size: int, channels: int | None = None) -> ImageData:
    """The images of a task.

    Raises:
        UserError: there is no such task, or its data is not at hand.
    """
    require(name in TASKS, f"no source task {name!r}", f"choose of {', '.join(TASKS)}")
    task = TASKS[name]
    return of_classes(load_images(task.data, size=size or None, channels=channels), task.classes)


def shares_images(name: str, target: ImageData) -> bool:
    """Whether a task's images and classes are among the target's: then its models are no *similar* task's."""
    task = TASKS[name]
    family = FAMILIES.get(task.data, task.data)
    if family != FAMILIES.get(target.name, target.name):
        return False
    return task.classes == ("*",) or bool(set(task_images(name, target.size).class_names) & set(target.class_names))


def parse_network(text: str) -> tuple[str, Description]:
    """ "mobilenets width=8 depth1=1" as space and description; what is not named has its default.

    Raises:
        UserError: the space is unknown, or an option is not of the form name=value.
    """
    space, *options = text.split() or [""]
    choices = load_space(space).choices
    description: Description = {}
    for option in options:
        name, equals, value = option.partition("=")
        require(bool(equals) and name in choices, f"no option {option!r} in space {space}", f"it has {dict(choices)}")
        fitting = [choice for choice in choices[name] if str(choice) == value]
        require(bool(fitting), f"{name} of {space} cannot be {value}", f"choose of {choices[name]}")
        description[name] = fitting[0]
    return space, description


def train_source(task: str, network: str, size: int, channels: int, recipe: Recipe) -> tuple[Source, float]:
    """A small network trained on a task, from the cache if it is there, and its accuracy on images it did not learn from."""
    space, description = parse_network(network)

    def make(folder: Path) -> None:
        data = class_splits(task_images(task, size, channels))
        seed_everything("source", task, network)
        made = load_space(space).build(description, channels, data.train.classes)
        with Run.create("source", {"seed": 0}, out=folder / "run", quiet=True) as run:
            train_classifier(Objective(made), data.train, recipe, run, stage="source")
        shutil.rmtree(folder / "run")
        save_classifier(made, space, description, (channels, size, size), data.train.class_names, folder)
        (folder / "accuracy").write_text(str(accuracy(made, data.report)))

    data = task_images(task, size, channels)
    folder = cached_folder("source networks", (network, repr(recipe), data.content_hash), make)
    made, card = load_classifier(folder)
    source = torch_source(
        f"{task}, {space} {words_of(description)}".strip(),
        made,
        card["shape"],
        {**card, "task": task, "network": network},
    )
    return source, float((folder / "accuracy").read_text())


def union(tasks: Sequence[str], size: int, channels: int) -> ImageData:
    """The tasks' images together, every class of every task a class of its own.

    Raises:
        UserError: there is no task.
    """
    if not tasks:
        raise UserError("no source task to learn a broad initialisation from", "give one, or turn the broad arms off")
    parts = [class_splits(task_images(task, size, channels)).train for task in tasks]
    labels: list[Tensor] = []
    names: list[str] = []
    for task, part in zip(tasks, parts, strict=True):
        labels.append(part.labels + len(names))
        names += [f"{task}: {name}" for name in part.class_names]
    return ImageData("union", torch.cat([part.images for part in parts]), torch.cat(labels), tuple(names))

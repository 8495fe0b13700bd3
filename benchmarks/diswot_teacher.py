"""The data and the teacher of the students that diswot.py trains."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from stillhouse.core.cache import cached_folder
from stillhouse.core.run import temporary_run
from stillhouse.core.seeding import seed_everything
from stillhouse.vision.classes import class_splits
from stillhouse.vision.images import Splits, load_images
from stillhouse.vision.resnets import CifarResNet
from stillhouse.vision.training import Objective, Recipe, train_classifier


@cache
def fashion() -> Splits:
    """Fashion-MNIST at 8 x 8, 20,000 training images."""
    return class_splits(load_images("fashion-mnist", size=8), most=20_000)


@cache
def fashion_teacher() -> nn.Module:
    """The trained teacher, made once."""
    network = CifarResNet(1, 10, (3, 3, 3), (16, 32, 64))
    recipe = Recipe(updates=1200, batch=64, learning_rate=0.1, shift=0, mirror=True)

    def make(folder: Path) -> None:
        seed_everything("benchmark teacher")
        with temporary_run("teacher", 0) as run:
            train_classifier(Objective(network), fashion().train, recipe, run, stage="teacher")
        save_file(network.state_dict(), folder / "weights.safetensors")

    key = ("diswot benchmark teacher", repr(recipe), fashion().train.content_hash)
    network.load_state_dict(load_file(cached_folder("classifiers", key, make) / "weights.safetensors"))
    return network.eval()

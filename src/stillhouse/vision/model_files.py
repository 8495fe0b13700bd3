"""Classifiers in folders: saved with what they are made from, loaded without running anyone's code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import read_json, write_atomically, write_json
from stillhouse.vision.spaces import load_space

CARD, WEIGHTS = "network.json", "network.safetensors"


def save_classifier(
    network: nn.Module,
    space: str,
    description: Mapping[str, Any],
    shape: tuple[int, int, int],
    names: tuple[str, ...],
    folder: Path,
) -> None:
    """Write weights and a card: space, description, image shape, class names."""
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_atomically(folder / WEIGHTS, save(weights))
    card = {"space": space, "description": dict(description), "shape": list(shape), "classes": list(names)}
    write_json(folder / CARD, card)


def load_classifier(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network, in evaluation mode, and its card.

    Raises:
        UserError: a file is missing or damaged, or they do not belong together.
    """
    require(
        folder.is_dir(), f"no classifier folder {folder}", "give a folder with network.json and network.safetensors"
    )
    card = read_json(folder / CARD)
    try:
        shape, names = tuple(map(int, card["shape"])), tuple(card["classes"])
        network = load_space(card["space"]).build(card["description"], shape[0], len(names))
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError, OSError) as error:
        raise UserError(f"{folder} holds no whole classifier ({first_line(error)})", "save it again") from error
    return network.eval(), {**card, "shape": shape, "classes": names}


@torch.no_grad()
def require_fit(network: nn.Module, shape: tuple[int, int, int], classes: int, what: str) -> None:
    """Check that a classifier takes images of this shape and scores so many classes.

    Raises:
        UserError: it does not, or its scores are not finite.
    """
    training = network.training
    try:
        scores = network.eval()(torch.zeros(2, *shape))
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{what} does not take images of {' x '.join(map(str, shape))} ({first_line(error)})",
            "choose --size and --channels that it was made for, or another teacher",
        ) from error
    finally:
        network.train(training)
    require(
        scores.shape == (2, classes),
        f"{what} gives scores of shape {tuple(scores.shape)[1:]}, the data has {classes} classes",
        "take a teacher of the same classes",
    )
    require(math.isfinite(float(scores.sum())), f"{what} gives scores that are not finite", "its weights are damaged")

"""What a Mirage run makes: a summary and a network trained on it, saved and loaded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from stillhouse.core.errors import UserError
from stillhouse.core.files import read_json, write_atomically, write_json
from stillhouse.graphs.codec import read_summary
from stillhouse.graphs.data import GraphSet
from stillhouse.graphs.networks import GraphClassifier
from stillhouse.graphs.summary import Summary
from stillhouse.graphs.training import Recipe, Score, make_classifier, probabilities


@dataclass(frozen=True)
class Student:
    """A summary and a network trained on it."""

    summary: Summary
    network: GraphClassifier
    recipe: Recipe

    def predict(self, graphs: GraphSet) -> np.ndarray:
        """[graphs, classes] class shares of real graphs, classes in the order of `summary.class_names`."""
        exam = self.summary.exam(graphs)
        return probabilities(self.network, exam.graph, exam.counts)


def save_student(student: Student, folder: Path) -> None:
    """Write the network beside the summary's file."""
    weights = {name: value.contiguous() for name, value in student.network.state_dict().items()}
    write_atomically(folder / "network.safetensors", save(weights))
    write_json(folder / "network.json", dataclasses.asdict(student.recipe))


def load_student(folder: Path) -> Student:
    """Read a model folder.

    Raises:
        UserError: a file is missing or does not fit.
    """
    summary = read_summary(folder / "summary.mirage")
    try:
        recipe = Recipe(**read_json(folder / "network.json"))
        network = make_classifier(recipe, summary.material().graph, summary.classes)
        network.load_state_dict(load_file(folder / "network.safetensors"))
    except (TypeError, RuntimeError, SafetensorError, OSError) as error:
        raise UserError(f"{folder} holds no network of this version ({error})", "run mirage again") from error
    network.eval()
    return Student(summary, network, recipe)


class BestSoFar:
    """The best update on the select split and its weights; part of the checkpoint."""

    def __init__(self) -> None:
        self.score = Score(-1.0, 0.5, 0.5, 0)
        self.weights: dict[str, torch.Tensor] = {}

    def see(self, update: int, select: float, report: float, model: torch.nn.Module) -> None:
        """Take in an evaluation; the earlier of equals stays."""
        if select > self.score.select:
            self.score = Score(select, report, report, update)
            self.weights = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            self.score = replace(self.score, last=report)

    def restore(self, model: torch.nn.Module) -> None:
        """Put the best weights back into `model`."""
        model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"score": dataclasses.asdict(self.score), "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score, self.weights = Score(**state_dict["score"]), dict(state_dict["weights"])

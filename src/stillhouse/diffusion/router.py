"""Several students behind one call: labels are divided among them, and each image takes one pass of one network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import read_json
from stillhouse.core.seeding import derive_seed
from stillhouse.diffusion.conditions import Conditions
from stillhouse.diffusion.denoiser import Denoiser

Parts = tuple[tuple[int, ...], ...]
"""For each student its labels; disjoint, and together all."""
ROUTER = "router.json"
"""In the folder of an exported model: the parts, the labels' names, the noise levels."""


def divide(
    embeddings: Float[Tensor, "labels width"], students: int, how: Literal["consecutive", "kmeans", "random"], seed: int
) -> Parts:
    """Labels divided into parts whose sizes differ by one at most.

    Args:
        embeddings: of the labels, for "kmeans", which puts near ones together.
        how: "consecutive" as for ImageNet in the paper, "kmeans", or "random" as a control.

    Raises:
        UserError: fewer labels than students.
    """
    labels = len(embeddings)
    require(
        0 < students <= labels, f"{labels} conditions cannot be divided among {students} students", "use fewer students"
    )
    if how == "kmeans":
        return _balanced_kmeans(embeddings, students, seed)
    order = np.arange(labels)
    if how == "random":
        order = np.random.default_rng(derive_seed(seed, "random partition")).permutation(labels)
    return tuple(tuple(sorted(part.tolist())) for part in np.array_split(order, students))


def _balanced_kmeans(embeddings: Float[Tensor, "labels width"], students: int, seed: int) -> Parts:
    """k-means centres, then the assignment to equally many places a centre with the least squared distances."""
    from sklearn.cluster import KMeans

    points = embeddings.detach().cpu().double().numpy()
    found = KMeans(students, n_init=10, random_state=derive_seed(seed, "k-means partition") % 2**32).fit(points)
    by_size = np.argsort(-np.bincount(found.labels_, minlength=students), kind="stable")
    sizes = [len(part) for part in np.array_split(np.arange(len(points)), students)]
    places = np.repeat(by_size, sizes)
    costs = ((points[:, None] - found.cluster_centers_[None, places]) ** 2).sum(2)
    rows, columns = linear_sum_assignment(costs)
    parts = [tuple(rows[places[columns] == centre].tolist()) for centre in range(students)]
    return tuple(sorted(parts))


def label_embeddings(teacher: Denoiser, conditions: Conditions) -> Float[Tensor, "labels width"]:
    """What the teacher knows of each label: a row of its class embedding, or the mean of a text's token embeddings.

    Raises:
        UserError: the teacher is unconditional.
    """
    table = conditions.table
    if table is None:
        require(False, "the teacher has no conditions to divide", "use a class- or text-conditional teacher")
    assert table is not None
    if table.ndim > 1:
        return table.mean(dim=1)
    return teacher.unet.class_embedding.weight.detach()[table]


class RoutedDenoiser(Denoiser):
    """Students of which each denoises the conditions of its part; one call, one network pass an image.

    Args:
        students: in the order of the parts; all with the first one's preconditioning and image shape.
        parts: the labels of each.
        table: the labels' text embeddings, for text-conditional students: a text that is none of them goes where the
            nearest of them goes.
    """

    part_of_label: Tensor
    table: Tensor | None

    def __init__(self, students: Sequence[Denoiser], parts: Parts, table: Tensor | None) -> None:
        first = students[0]
        super().__init__(first.unet, first.preconditioning, first.null_condition)
        self.students = nn.ModuleList(students)
        part_of_label = torch.empty(sum(map(len, parts)), dtype=torch.long)
        for number, part in enumerate(parts):
            part_of_label[list(part)] = number
        self.register_buffer("part_of_label", part_of_label)
        self.register_buffer("table", table if table is not None and table.ndim > 1 else None)

    @property
    def parameter_count(self) -> int:
        """Parameters of all students."""
        return sum(p.numel() for p in self.students.parameters())

    def route(self, condition: Tensor) -> Int[Tensor, " batch"]:
        """Which student each condition belongs to."""
        if self.table is None:
            return self.part_of_label[condition]
        nearest = torch.cdist(condition.flatten(1), self.table.flatten(1)).argmin(dim=1)
        return self.part_of_label[nearest]

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        """D(x; sigma, condition) of the student that the condition belongs to."""
        assert condition is not None
        chosen, denoised = self.route(condition), torch.empty_like(x)
        for number in chosen.unique().tolist():
            rows = chosen == number
            denoised[rows] = self.students[number](x[rows], sigma[rows], condition[rows])
        return denoised


def read_router(file: Path) -> tuple[Parts, tuple[str, ...], tuple[float, ...]]:
    """The labels of each student, the labels' names, and the noise levels.

    Raises:
        UserError: the file is missing or damaged, or the parts are not disjoint and complete.
    """
    mend = "export the model again: remove its folder and the run's result.json, then resume the run"
    settings = read_json(file)
    try:
        parts = tuple(tuple(map(int, part)) for part in settings["parts"])
        names, sigmas = tuple(map(str, settings["class_names"])), tuple(map(float, settings["sigmas"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is not a router ({first_line(error)})", mend) from error
    divided = sorted(label for part in parts for label in part) == list(range(len(names)))
    require(divided, f"{file} does not divide its {len(names)} labels among the students", mend)
    return parts, names, sigmas

"""Training a classifier: SGD with momentum, a short warm-up and a cosine, images moved and mirrored.

What is minimised is an `Objective`: a module that holds the network (and whatever else is learned with it) and turns a
step's images into named losses, whose sum is differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from stillhouse.core.result import Cost
from stillhouse.core.run import Run
from stillhouse.core.training import Fitted, fit
from stillhouse.vision.augmentation import mirrored, shifted
from stillhouse.vision.images import ImageData

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

BATCH_IN_USE = 256


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained."""

    updates: int = 500
    batch: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warm_up: float = 0.1
    """Share of the updates in which the rate rises to `learning_rate`; then it falls along a cosine."""
    shift: int = 1
    """Images are moved by up to this many pixels both ways."""
    mirror: bool = False
    """Half of the images are mirrored left to right."""


@dataclass(frozen=True, eq=False)
class StepImages:
    """The images of one update."""

    images: Float[Tensor, "n c h w"]
    """Augmented."""
    labels: Int[Tensor, " n"]
    rows: Int[Tensor, " n"]
    """Where they are in the training data."""
    mirror: Bool[Tensor, " n"]
    """Which are mirrored."""


class Objective(nn.Module):
    """Cross-entropy with the labels; distillers add their losses."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, step: StepImages) -> dict[str, Tensor]:
        """Named losses, already weighted: their sum is minimised."""
        return {"labels": nn.functional.cross_entropy(self.network(step.images), step.labels)}


def train_classifier(
    objective: Objective,
    data: ImageData,
    recipe: Recipe,
    run: Run,
    *,
    stage: str,
    evaluate: Callable[[int, float], None] | None = None,
    evaluate_at: frozenset[int] = frozenset(),
    seed: int | None = None,
) -> Fitted:
    """Minimise the objective on the data; the network is in evaluation mode afterwards. Resumes like `fit`."""
    weights = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(
        weights, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: rate_share(update, recipe))

    def step(_: int) -> dict[str, Tensor]:
        objective.network.train()
        losses = objective(draw(data, recipe))
        total = cast(Tensor, sum(losses.values()))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()
        return {name: loss.detach() for name, loss in losses.items()}

    fitted = fit(
        step,
        {"objective": objective, "optimizer": optimizer, "schedule": schedule},
        recipe.updates,
        run,
        stage=stage,
        evaluate=evaluate,
        evaluate_at=evaluate_at,
        seed=seed,
    )
    objective.network.eval()
    return fitted


def rate_share(update: int, recipe: Recipe) -> float:
    """Share of the learning rate at an update."""
    rising = max(1, round(recipe.warm_up * recipe.updates))
    if update < rising:
        return (update + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (update - rising) / max(1, recipe.updates - rising)))


def draw(data: ImageData, recipe: Recipe) -> StepImages:
    """Images of one update, drawn with the global generator."""
    rows = torch.randint(len(data), (recipe.batch,))
    mirror = torch.rand(recipe.batch) < (0.5 if recipe.mirror else 0.0)
    images = mirrored(data.images[rows], mirror)
    if recipe.shift:
        images = shifted(images, recipe.shift)
    return StepImages(images, data.labels[rows], rows, mirror)


@torch.no_grad()
def logits_of(network: nn.Module, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
    """Class scores in evaluation mode, in batches."""
    training = network.training
    network.eval()
    scores = torch.cat([network(part) for part in images.split(BATCH_IN_USE)])
    network.train(training)
    return scores


def accuracy(network: nn.Module, data: ImageData) -> float:
    """Share of the images whose class has the highest score."""
    return float((logits_of(network, data.images).argmax(1) == data.labels).float().mean())


def training_cost(fitted: Fitted, parameters: int, latency: dict[str, float], size: int | None = None) -> Cost:
    """What a classifier costs to train and to use."""
    return Cost(
        parameters=parameters,
        bytes_on_disk=size,
        latency_seconds=latency,
        training_seconds=fitted.seconds,
        updates={"network": fitted.updates},
    )

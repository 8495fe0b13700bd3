"""The baseline that learns from unlabelled images without any source: FixMatch (arXiv 2001.07685), the whole recipe.

A batch of B labelled and mu B unlabelled images, the latter weakly and strongly changed, in one pass (they share batch statistics);
pseudo-label: the class of softmax(weak) from the present model where it is at least `threshold`; loss: CE of the strong view, mean over
all unlabelled images, masked ones counting as 0; SGD with Nesterov momentum at lr cos(7 pi k / 16 K); decay on kernels only; an
average of the weights with its own copy of the batch statistics is what is used.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stillhouse.core.ema import Ema
from stillhouse.core.run import Run
from stillhouse.core.training import Fitted, Stateful, fit
from stillhouse.vision.augmentation import cut_out, rand_augmented
from stillhouse.vision.few_labels import HIDDEN, FewLabels
from stillhouse.vision.training import Recipe, StepImages

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float

EMA_DECAY = 0.999


def rate_share(update: int, updates: int) -> float:
    """cos(7 pi k / 16 K): ends at a fifth of the first rate."""
    return math.cos(7 * math.pi * update / (16 * updates))


def strong(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """RandAugment, then a cutout."""
    return cut_out(rand_augmented(images))


def consistency(
    weak: Float[Tensor, "n k"], strong_logits: Float[Tensor, "n k"], threshold: float
) -> tuple[Float[Tensor, ""], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """l_u = mean_i 1(max q_i >= threshold) CE(argmax q_i, strong_i), q = softmax(weak) without gradient; the mask; the pseudo-labels."""
    surest, guess = weak.detach().softmax(1).max(1)
    mask = (surest >= threshold).float()
    losses = nn.functional.cross_entropy(strong_logits, guess, reduction="none")
    return (mask * losses).mean(), mask, guess


def kernels_and_rest(network: nn.Module, decay: float) -> list[dict[str, object]]:
    """Parameter groups: weight decay for kernels, none for biases and normalisation."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": kernels, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


def train_fixmatch(
    network: nn.Module,
    few: FewLabels,
    images_of_step: Callable[[], StepImages],
    recipe: Recipe,
    threshold: float,
    run: Run,
    *,
    stage: str,
) -> tuple[nn.Module, Fitted]:
    """The averaged network after so many updates, in evaluation mode. Resumes like `fit`.

    Args:
        images_of_step: draws labelled images, then unlabelled ones (label -1), weakly changed.
        recipe: updates, learning rate, momentum and weight decay are used.
    """
    optimizer = torch.optim.SGD(
        kernels_and_rest(network, recipe.weight_decay), recipe.learning_rate, recipe.momentum, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: rate_share(update, recipe.updates))
    average = Ema(network, EMA_DECAY)

    def step(_: int) -> dict[str, Tensor]:
        network.train()
        given = images_of_step()
        hidden = given.labels == HIDDEN
        changed = strong(few.pool.images[given.rows[hidden]])
        labelled, weak, strong_logits = network(torch.cat([given.images, changed])).split(
            [int((~hidden).sum()), int(hidden.sum()), len(changed)]
        )
        supervised = nn.functional.cross_entropy(labelled, given.labels[~hidden])
        unsupervised, mask, guess = consistency(weak, strong_logits, threshold)
        optimizer.zero_grad()
        (supervised + unsupervised).backward()
        optimizer.step()
        schedule.step()
        average.update()
        told = {"labels": supervised.detach(), "pseudo-labels": unsupervised.detach(), "mask": mask.mean()}
        if few.truth is not None:
            right = (guess == few.truth[given.rows[hidden]]).float()
            told["pseudo_right"] = (right * mask).sum() / mask.sum().clamp_min(1)
        return told

    state: dict[str, Stateful] = {"network": network, "optimizer": optimizer, "schedule": schedule, "average": average}
    fitted = fit(step, state, recipe.updates, run, stage=stage)
    return average.average.eval(), fitted

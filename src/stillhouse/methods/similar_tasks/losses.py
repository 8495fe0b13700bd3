"""L = lambda L_lab + (1 - lambda) sum_s a_s L_s: labelled cross-entropy, and one head a source on the student's features.

L_s = mean over labelled and unlabelled images of CE(softmax(h_s(phi_s(x)) / T_s), softmax(g_s(phi(x)) / T_s)), over the classes of
source s; the heads g_s are dropped after training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stillhouse.vision.few_labels import HIDDEN
from stillhouse.vision.maps import classifier_name, module_named, watched_input
from stillhouse.vision.sources import flat_features
from stillhouse.vision.training import Objective, StepImages

if TYPE_CHECKING:
    from jaxtyping import Float

COLDEST, HOTTEST = 0.05, 20.0
"""Where a source's temperature is looked for."""


def softened(log_probabilities: Float[Tensor, "n k"], temperature: float) -> Float[Tensor, "n k"]:
    """softmax(h / T), from log-probabilities at T = 1 (which differ from h by a constant a row)."""
    return (log_probabilities / temperature).softmax(1)


def soft_cross_entropy(
    targets: Float[Tensor, "n k"], logits: Float[Tensor, "n k"], temperature: float
) -> Float[Tensor, ""]:
    """Mean of -sum_k p_k log softmax(logits / T)_k; the KL divergence up to the targets' own entropy."""
    return -(targets * (logits / temperature).log_softmax(1)).sum(1).mean()


def relative_entropy_of(probabilities: Float[Tensor, "n k"]) -> float:
    """Mean entropy as a share of log k."""
    entropy = -(probabilities * probabilities.clamp_min(1e-12).log()).sum(1).mean()
    return float(entropy) / math.log(probabilities.shape[1])


def temperature_for(log_probabilities: Float[Tensor, "n k"], share: float) -> float:
    """T_s at which the mean entropy of the soft outputs is `share` of log k (it rises with T), by bisection.

    A source of 1,000 classes far from home and an over-sure one of four then say about as much.
    """
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(30):
        middle = (low + high) / 2
        if relative_entropy_of(softened(log_probabilities, math.exp(middle))) < share:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


@dataclass(frozen=True, eq=False)
class SoftTargets:
    """A source's soft outputs on the whole pool, computed once."""

    name: str
    weight: float
    """a_s."""
    probabilities: Float[Tensor, "pool k"]
    temperature: float

    @property
    def classes(self) -> int:
        """Of the source."""
        return self.probabilities.shape[1]


class SimilarTasks(Objective):
    """The network, and a linear head a source on what enters its last layer; heads start from zero, so they draw no random numbers."""

    def __init__(
        self,
        network: nn.Module,
        sources: Sequence[SoftTargets],
        label_share: float,
        *,
        divide_by_classes: bool = True,
    ) -> None:
        super().__init__(network)
        self.sources, self.label_share = tuple(sources), label_share if sources else 1.0
        self.last = classifier_name(network)
        width = int(module_named(network, self.last).in_features)  # type: ignore[arg-type]
        # one matrix for all heads: a step costs one product however many sources there are
        self.heads = nn.Linear(width, sum(source.classes for source in self.sources)) if self.sources else nn.Identity()
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)
        self.scales = [1 / math.log(source.classes) if divide_by_classes else 1.0 for source in self.sources]

    def forward(self, step: StepImages) -> dict[str, Tensor]:
        with watched_input(self.network, self.last) as seen:
            logits = self.network(step.images)
        labels = nn.functional.cross_entropy(logits, step.labels, ignore_index=HIDDEN)
        if not self.sources:
            return {"labels": labels}
        said = self.heads(flat_features(seen["input"])).split([source.classes for source in self.sources], 1)
        distilled = sum(
            (
                source.weight * scale * soft_cross_entropy(source.probabilities[step.rows], part, source.temperature)
                for source, scale, part in zip(self.sources, self.scales, said, strict=True)
            ),
            torch.zeros(()),
        )
        return {"labels": self.label_share * labels, "sources": (1 - self.label_share) * distilled}

"""From similarities to the weights of the sources (e_s >= 0 to a_s, sum 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

Weighting = Literal["power", "softmax"]


def above_chance(
    scores: Float[np.ndarray, " s"],
    chance: Float[np.ndarray, " s"],
    deviation: Float[np.ndarray, " s"],
    significance: float,
) -> Float[np.ndarray, " s"]:
    """e_s: score less what shuffled labels give, 0 where that is below `significance` of their deviations; NaN counts as 0.

    With significance 0 the scores as they are, negative ones as 0: an odd power would flip their sign, an even one reward them.
    """
    if not significance:
        return np.nan_to_num(np.maximum(scores, 0.0))
    excess = scores - chance
    return np.nan_to_num(np.where(excess > significance * deviation, excess, 0.0))


def power_weights(similarity: Float[np.ndarray, " s"], power: float) -> Float[np.ndarray, " s"]:
    """a_s = e_s^p / sum e^p over the sources with e_s > 0; p = 0 is uniform over them, p = inf the largest alone.

    All zero where no e_s is above 0: no source then has a part.
    """
    e = np.maximum(np.asarray(similarity, float), 0.0)
    if not (e > 0).any():
        return np.zeros_like(e)
    if math.isinf(power):
        return nearest_weights(e)
    raised = np.where(e > 0, (e / e.max()) ** power, 0.0)
    return raised / raised.sum()


def softmax_weights(similarity: Float[np.ndarray, " s"], temperature: float) -> Float[np.ndarray, " s"]:
    """a_s = softmax(z_s / temperature) over the sources with e_s > 0, z_s their standardised e_s (e has no scale of its own)."""
    e = np.maximum(np.asarray(similarity, float), 0.0)
    some = e > 0
    if not some.any():
        return np.zeros_like(e)
    spread = e[some].std()
    z = (e[some] - e[some].max()) / (spread if spread > 0 else 1.0)
    raised = np.zeros_like(e)
    raised[some] = np.exp(z / temperature)
    return raised / raised.sum()


def nearest_weights(similarity: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """DistillNearest: 1 for the largest e_s, the first where several are."""
    e = np.asarray(similarity, float)
    weights = np.zeros_like(e)
    if (e > 0).any():
        weights[int(e.argmax())] = 1.0
    return weights


def top(similarity: Float[np.ndarray, " s"], k: int) -> Float[np.ndarray, " s"]:
    """The k largest e_s, the others as 0; k = 0 keeps all."""
    e = np.asarray(similarity, float)
    if not k or k >= len(e):
        return e
    kept = np.argsort(-e, kind="stable")[:k]
    return np.where(np.isin(np.arange(len(e)), kept), e, 0.0)


def shared_votes(
    weights: Float[np.ndarray, " s"], alike: Float[np.ndarray, "s s"], threshold: float
) -> Float[np.ndarray, " s"]:
    """a_s divided by the number of sources (with a weight) whose features are alike beyond the threshold, itself counted; sum 1.

    Models of one data set then have one vote together. `alike` is CKA, 1 on the diagonal; threshold 0 changes nothing.
    """
    a = np.asarray(weights, float)
    if not threshold or not (a > 0).any():
        return a
    votes = ((alike > threshold) & (a > 0)).sum(1)
    shared = np.where(a > 0, a / np.maximum(votes, 1), 0.0)
    return shared / shared.sum()


def effective_number(weights: Sequence[float] | Float[np.ndarray, " s"]) -> float:
    """1 / sum a^2: how many sources have a say; 0 without any."""
    squares = float((np.asarray(weights, float) ** 2).sum())
    return 1 / squares if squares > 0 else 0.0

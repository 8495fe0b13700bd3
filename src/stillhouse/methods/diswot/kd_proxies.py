"""Losses of the distillation literature between two random networks as proxies (claim C5): minus the loss, larger is better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import kl_div, normalize, smooth_l1_loss

from stillhouse.vision.maps import pooled

if TYPE_CHECKING:
    from jaxtyping import Float

TEMPERATURE = 4.0


def kd(teacher: Float[Tensor, "B K"], student: Float[Tensor, "B K"]) -> float:
    """Divergence of softened class scores (arXiv 1503.02531)."""
    soft, log = (teacher / TEMPERATURE).softmax(1), (student / TEMPERATURE).log_softmax(1)
    return -float(kl_div(log, soft, reduction="batchmean")) * TEMPERATURE**2


def distances(features: Float[Tensor, "B C"]) -> Float[Tensor, "B B"]:
    """Euclidean distances between samples, in units of their mean."""
    found = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    mean = found[found > 0].mean() if bool((found > 0).any()) else torch.ones(())
    return found / mean


def rkd(teacher: Float[Tensor, "B C"], student: Float[Tensor, "B D"]) -> float:
    """Relational distillation's distances (arXiv 1904.05068)."""
    return -float(smooth_l1_loss(distances(student), distances(teacher)))


def cc(teacher: Float[Tensor, "B C"], student: Float[Tensor, "B D"]) -> float:
    """Correlation congruence (arXiv 1904.01802): Gram matrices of normalised features."""
    grams = [normalize(f, dim=1) @ normalize(f, dim=1).T for f in (teacher, student)]
    return -float((grams[0] - grams[1]).square().mean())


def pkt(teacher: Float[Tensor, "B C"], student: Float[Tensor, "B D"]) -> float:
    """Probabilistic knowledge transfer (arXiv 1803.10837): divergence of the samples' neighbour distributions."""
    parts = []
    for features in (teacher, student):
        unit = normalize(features, dim=1)
        likeness = (unit @ unit.T + 1) / 2
        parts.append(likeness / likeness.sum(1, keepdim=True))
    return -float((parts[0] * ((parts[0] + 1e-7) / (parts[1] + 1e-7)).log()).sum(1).mean())


def attention_map(maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B places"]:
    """Mean squared activation of every place, as a vector of norm 1."""
    return normalize(maps.square().mean(1).flatten(1), dim=1)


def attention(teacher: tuple[Tensor, ...], student: tuple[Tensor, ...]) -> float:
    """Attention transfer (arXiv 1612.03928) over the stages that both have, the last aligned."""
    total = 0.0
    for theirs, ours in zip(reversed(teacher), reversed(student), strict=False):
        size = (ours.shape[2], ours.shape[3])
        total += float((attention_map(pooled(theirs, size)) - attention_map(ours)).square().mean())
    return -total


def nst(teacher: Float[Tensor, "B C h w"], student: Float[Tensor, "B D i j"]) -> float:
    """Neuron selectivity (arXiv 1707.01219), squared polynomial kernel: maximum mean discrepancy of channels."""
    size = (student.shape[2], student.shape[3])
    t, s = normalize(pooled(teacher, size).flatten(2), dim=2), normalize(student.flatten(2), dim=2)
    kernels = [(a @ b.mT).square().mean() for a, b in ((t, t), (s, s), (t, s))]
    return -float(kernels[0] + kernels[1] - 2 * kernels[2])

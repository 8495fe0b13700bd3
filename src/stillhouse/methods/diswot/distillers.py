"""Distillation losses on what teacher and student show of the same images; all but KD take any two sizes of image.

`relation` and `semantic` are the paper's two similarities made differentiable (claim C4); the others are what they are compared
with. Inputs of the teacher carry no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, mse_loss, normalize, one_hot

from stillhouse.methods.diswot.kd_proxies import attention_map
from stillhouse.methods.diswot.scores import channel_gram, sample_gram
from stillhouse.vision.maps import pooled

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class Shown:
    """What a network shows of some images."""

    logits: Float[Tensor, "n K"]
    maps: Float[Tensor, "n C h w"]
    """The last before pooling."""
    stage_maps: tuple[Float[Tensor, "n c i j"], ...]
    """The last at each size, largest first."""


class Connectors(nn.Module):
    """What is learned beside the student: linear maps from its channels to the teacher's, where a loss needs them."""

    def __init__(self, student: Shown, teacher: Shown) -> None:
        super().__init__()
        ours, theirs = student.maps.shape[1], teacher.maps.shape[1]
        self.last = nn.Conv2d(ours, theirs, 1, bias=False) if ours != theirs else nn.Identity()
        middle = middle_of(student), middle_of(teacher)
        self.middle = nn.Conv2d(middle[0].shape[1], middle[1].shape[1], 1)
        width = min(64, ours)
        self.ours, self.theirs = nn.Linear(ours, width), nn.Linear(theirs, width)


def middle_of(shown: Shown) -> Tensor:
    """The map before the last size: FitNet's hint."""
    return shown.stage_maps[max(0, len(shown.stage_maps) - 2)]


def kd(teacher: Float[Tensor, "n K"], student: Float[Tensor, "n K"], temperature: float = 4.0) -> Tensor:
    """T^2 KL(softmax(t / T) || softmax(s / T)), mean over images (arXiv 1503.02531)."""
    soft, log = (teacher / temperature).softmax(1), (student / temperature).log_softmax(1)
    return kl_div(log, soft, reduction="batchmean") * temperature**2


def relation(teacher: Float[Tensor, "n C h w"], student: Float[Tensor, "n D i j"]) -> Tensor:
    """- M_r: || rn(F_T F_T') - rn(F_S F_S') ||^2 / n^2; this is similarity-preserving distillation (SP, arXiv 1907.09682)."""
    return (sample_gram(teacher) - sample_gram(student)).square().mean()


def classifier_gradient(
    logits: Float[Tensor, "n K"], maps: Float[Tensor, "n C h w"], labels: Int[Tensor, " n"]
) -> Float[Tensor, "K C"]:
    """g = dCE / dW of a linear classifier on the averaged map: (softmax - one hot)' f / n, so no second derivative is needed."""
    errors = logits.softmax(1) - one_hot(labels, logits.shape[1])
    return errors.T @ maps.mean((2, 3)) / len(labels)


def semantic(teacher: Float[Tensor, "K C"], student: Float[Tensor, "K C"]) -> Tensor:
    """- M_s: sum_k || rn(g_Tk g_Tk') - rn(g_Sk g_Sk') ||^2 / (K C)."""
    grams = [normalize(g[:, :, None] * g[:, None, :], dim=2) for g in (teacher, student)]
    return (grams[0] - grams[1]).square().sum() / (teacher.shape[0] * teacher.shape[1])


def ickd(teacher: Float[Tensor, "n C h w"], student: Float[Tensor, "n C i j"]) -> Tensor:
    """Inter-channel correlation (arXiv 2202.03680): channel Gram matrices of every image; as the release adds to SP for DisWOT+."""
    return (channel_gram(teacher) - channel_gram(student)).square().sum((1, 2)).mean() / teacher.shape[1]


def fitnet(teacher: Float[Tensor, "n C h w"], student: Float[Tensor, "n C i j"]) -> Tensor:
    """Hints (arXiv 1412.6550): squared difference of a middle map, the teacher's averaged to the student's size."""
    return mse_loss(student, pooled(teacher, (student.shape[2], student.shape[3])))


def attention(teacher: tuple[Tensor, ...], student: tuple[Tensor, ...]) -> Tensor:
    """Attention transfer (arXiv 1612.03928): squared difference of normalised attention maps, last stages aligned."""
    pairs = list(zip(reversed(teacher), reversed(student), strict=False))
    sizes = [(ours.shape[2], ours.shape[3]) for _, ours in pairs]
    losses = [
        (attention_map(pooled(theirs, size)) - attention_map(ours)).square().sum(1).mean()
        for (theirs, ours), size in zip(pairs, sizes, strict=True)
    ]
    return torch.stack(losses).sum()


def contrastive(teacher: Float[Tensor, "n d"], student: Float[Tensor, "n d"], temperature: float = 0.1) -> Tensor:
    """CRD's idea (arXiv 1910.10699) with the batch as its negatives: an image's two embeddings belong together."""
    scores = normalize(student, dim=1) @ normalize(teacher, dim=1).T / temperature
    return nn.functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


Loss = Callable[[Shown, Shown, Tensor, Connectors], Tensor]
"""loss(teacher, student, labels, connectors)"""


def _semantic(teacher: Shown, student: Shown, labels: Tensor, connectors: Connectors) -> Tensor:
    ours = classifier_gradient(student.logits, connectors.last(student.maps), labels)
    return semantic(classifier_gradient(teacher.logits, teacher.maps, labels), ours)


LOSSES: Mapping[str, Loss] = {
    "kd": lambda t, s, _, __: kd(t.logits, s.logits),
    "relation": lambda t, s, _, __: relation(t.maps, s.maps),
    "semantic": _semantic,
    "ickd": lambda t, s, _, c: ickd(t.maps, c.last(s.maps)),
    "fitnet": lambda t, s, _, c: fitnet(middle_of(t), c.middle(middle_of(s))),
    "attention": lambda t, s, _, __: attention(t.stage_maps, s.stage_maps),
    "contrastive": lambda t, s, _, c: contrastive(c.theirs(t.maps.mean((2, 3))), c.ours(s.maps.mean((2, 3)))),
}
"""Distillers by name; they may be summed."""

"""The similarities of the paper between a teacher and a student, and what is left of them without a teacher.

f [B, C, h, w] is a network's last map before pooling, g = dCE / dW [K, C] the gradient of its classifier. rn divides every
row by its L2 norm. All functions return floats, larger is better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stillhouse.core.errors import require
from stillhouse.vision.maps import pooled

if TYPE_CHECKING:
    from jaxtyping import Float

RELEASED_EPS = 1e-12
"""The smallest norm that the released code divides by, in single precision."""


def sample_gram(f: Float[Tensor, "B C h w"]) -> Float[Tensor, "B B"]:
    """rn(F F'), F = f as [B, C h w]: how alike the samples of a batch are to the network."""
    rows = f.flatten(1)
    return normalize(rows @ rows.T, dim=1)


def relation(teacher: Float[Tensor, "B C h w"], student: Float[Tensor, "B D i j"]) -> float:
    """M_r = - || rn(F_T F_T') - rn(F_S F_S') ||^2 / B^2 (paper, equation of the relation similarity; the SP loss)."""
    return -float((sample_gram(teacher) - sample_gram(student)).square().mean())


def channel_gram(f: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C C"]:
    """rn(F F') for every image, F = its map as [C, h w]: how alike the channels are."""
    rows = f.flatten(2)
    return normalize(rows @ rows.mT, dim=2)


def channel_relation(teacher: Float[Tensor, "B C h w"], student: Float[Tensor, "B C i j"]) -> float:
    """- mean over images of || rn(F_T F_T') - rn(F_S F_S') ||^2 / C^2: what the released ranking scripts compute, on image 0.

    Raises:
        UserError: teacher and student differ in channels.
    """
    _same_channels(teacher.shape[1], student.shape[1], "channel_relation", "relation")
    return -float((channel_gram(teacher) - channel_gram(student)).square().mean())


def semantic(teacher: Float[Tensor, "K C"], student: Float[Tensor, "K C"], eps: float = RELEASED_EPS) -> float:
    """M_s = - sum_k || rn(g_Tk g_Tk') - rn(g_Sk g_Sk') ||^2 / (K C) (paper, equation of the semantic similarity; the ICKD loss).

    Row i of rn(g g') is r_i sign(g_i) g / |g| with r_i = min(1, |g_i| |g| / eps), so with a the mean over i and c the cosine

        M_s = - mean over k, i of [ r_Ti^2 + r_Si^2 - 2 r_Ti r_Si sign(g_Ti g_Si) c ]

    in O(K C). eps = 1e-12 is the released behaviour; 0 is exact.

    Raises:
        UserError: the two differ in classes or channels.
    """
    require(
        teacher.shape[0] == student.shape[0],
        f"the teacher has {teacher.shape[0]} classes, the student {student.shape[0]}",
        "build both for the classes of the data",
    )
    _same_channels(teacher.shape[1], student.shape[1], "semantic", "class_gram")
    g_t, g_s = teacher.double(), student.double()
    norm_t, norm_s = g_t.norm(dim=1, keepdim=True), g_s.norm(dim=1, keepdim=True)
    r_t, r_s = (_shortened(g, norm, eps) for g, norm in ((g_t, norm_t), (g_s, norm_s)))
    cosine = (g_t * g_s).sum(1, keepdim=True) / (norm_t * norm_s).clamp_min(torch.finfo(torch.float64).tiny)
    return -float((r_t.square() + r_s.square() - 2 * r_t * r_s * g_t.sign() * g_s.sign() * cosine).mean())


def _shortened(g: Tensor, norm: Tensor, eps: float) -> Tensor:
    size = g.abs() * norm
    return (size / eps).clamp_max(1) if eps else (size > 0).to(g.dtype)


def vanished(g: Float[Tensor, "K C"], eps: float = RELEASED_EPS) -> float:
    """Share of entries whose row of rn(g g') the released code shortens: large where a saturated softmax has no gradient."""
    norm = g.double().norm(dim=1, keepdim=True)
    return float((g.double().abs() * norm < eps).double().mean())


def diswot(
    teacher_map: Tensor,
    student_map: Tensor,
    teacher_gradient: Tensor,
    student_gradient: Tensor,
    eps: float = RELEASED_EPS,
) -> float:
    """The published score, M_r + M_s as they come: M_s is in [-4, 0] and M_r in [-4 / B, 0], so M_s decides."""
    return relation(teacher_map, student_map) + semantic(teacher_gradient, student_gradient, eps)


def class_gram(teacher: Float[Tensor, "K C"], student: Float[Tensor, "K D"]) -> float:
    """- || rn(g_T g_T') - rn(g_S g_S') ||^2 / K^2 over classes: the semantic similarity for any two widths."""
    grams = [normalize(g.double() @ g.double().T, dim=1, eps=0.0 + 1e-300) for g in (teacher, student)]
    return -float((grams[0] - grams[1]).square().mean())


def cam(f: Float[Tensor, "B C h w"], weight: Float[Tensor, "K C"], labels: Tensor) -> Float[Tensor, "B h w"]:
    """Grad-CAM of each image's class under average pooling: ReLU(sum_c W_yc f_c)."""
    return torch.einsum("bchw,bc->bhw", f, weight[labels]).relu()


def cam_relation(
    teacher: Float[Tensor, "B C h w"],
    student: Float[Tensor, "B D i j"],
    teacher_weight: Tensor,
    student_weight: Tensor,
    labels: Tensor,
) -> float:
    """Mean cosine between the two networks' localisation maps of each image's class, the teacher's averaged to the student's size."""
    size = (student.shape[2], student.shape[3])
    theirs = pooled(cam(teacher, teacher_weight, labels)[:, None], size).flatten(1)
    ours = cam(student, student_weight, labels).flatten(1)
    return float(torch.nn.functional.cosine_similarity(theirs, ours).mean())


def sample_uniformity(student: Float[Tensor, "B C h w"]) -> float:
    """Mean entry of rn(F F') over samples: M_r with a teacher to whom all samples are alike (rows have norm 1)."""
    return float(sample_gram(student).mean())


def channel_uniformity(student: Float[Tensor, "B C h w"]) -> float:
    """Mean entry of rn(F F') over channels, times sqrt(C) so that widths compare: no teacher in it."""
    return float(channel_gram(student).mean()) * student.shape[1] ** 0.5


def teacher_regression(
    features: Float[Tensor, "B D"], teacher_logits: Float[Tensor, "B K"], ridge: float = 1e-2
) -> float:
    """Share of the teacher's (centred) scores that ridge regression on the student's random features explains on the other half.

    Fitted on the even samples and judged on the odd ones, and the other way round, in closed form.
    """
    x, y = features.double(), teacher_logits.double()
    y = y - y.mean(1, keepdim=True)
    parts = [_explained(x, y, ridge, first) for first in (0, 1)]
    return sum(parts) / 2


def _explained(x: Tensor, y: Tensor, ridge: float, first: int) -> float:
    fit_x, fit_y, x, y = x[first::2], y[first::2], x[1 - first :: 2], y[1 - first :: 2]
    centre, deviation, level = fit_x.mean(0), fit_x.std(0) + 1e-8, fit_y.mean(0)
    a, b = (fit_x - centre) / deviation, (x - centre) / deviation
    gram = a @ a.T
    inverse = torch.linalg.solve(
        gram + ridge * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(a)), fit_y - level
    )
    left = (y - level - b @ a.T @ inverse).square().sum()
    return float(1 - left / (y - level).square().sum().clamp_min(1e-12))


def logit_alignment(features: Float[Tensor, "B D"], teacher_logits: Float[Tensor, "B K"]) -> float:
    """Linear CKA between the student's pooled features (its last layer's tangent kernel) and the teacher's scores, 0 to 1."""
    x, y = (m.double() - m.double().mean(0) for m in (features, teacher_logits))
    top = (y.T @ x).square().sum()
    return float(top / ((x.T @ x).norm() * (y.T @ y).norm()).clamp_min(1e-300))


def _same_channels(teacher: int, student: int, score: str, instead: str) -> None:
    require(
        teacher == student,
        f"{score} compares channels, of which the teacher has {teacher} and the student {student}",
        f"use {instead}, which takes any widths",
    )

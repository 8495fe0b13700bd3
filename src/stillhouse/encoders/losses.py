"""Distillation losses of Distiller (arXiv 2109.11105), section 3, as pure functions.

Hidden states H_T, H_S are [batch, tokens, width] with a mask of real tokens; H_S has passed a learned map to the
teacher's width where the widths differ. Every loss is a mean over examples or tokens, so that none grows with the
batch, the length or the padding.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

States = Float[Tensor, "batch tokens width"]
Mask = Bool[Tensor, "batch tokens"]
Attention = Float[Tensor, "batch heads tokens tokens"]
Logits = Float[Tensor, "batch classes"]


def masked_mean(values: Float[Tensor, "batch tokens"], mask: Mask) -> Float[Tensor, ""]:
    """Mean over real tokens."""
    return (values * mask).sum() / mask.sum()


def hidden_ce(student: States, teacher: States, mask: Mask) -> Float[Tensor, ""]:
    """- sum softmax(H_T) log softmax(H_S) over the width, mean over tokens ("ce")."""
    values = -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1)
    return masked_mean(values, mask)


def hidden_mse(student: States, teacher: States, mask: Mask) -> Float[Tensor, ""]:
    """|| H_S - H_T ||^2 / width, mean over tokens ("mse")."""
    return masked_mean((student - teacher).square().mean(-1), mask)


def hidden_cos(student: States, teacher: States, mask: Mask) -> Float[Tensor, ""]:
    """1 - cos(H_S, H_T), mean over tokens ("cos", DistilBERT)."""
    return masked_mean(1 - functional.cosine_similarity(student, teacher, dim=-1), mask)


def hidden_pkd(student: Float[Tensor, "batch width"], teacher: Float[Tensor, "batch width"]) -> Float[Tensor, ""]:
    """|| h_S / |h_S| - h_T / |h_T| ||^2 of the first token, mean over examples ("pkd", patient distillation)."""
    return (functional.normalize(student, dim=-1) - functional.normalize(teacher, dim=-1)).square().sum(-1).mean()


def hidden_l2(student: Float[Tensor, "batch width"], teacher: Float[Tensor, "batch width"]) -> Float[Tensor, ""]:
    """|| h_S - h_T ||^2 / width of the first token, mean over examples ("l2": pkd without its normalisation)."""
    return (student - teacher).square().mean()


def attention_mse(student: Attention, teacher: Attention, mask: Mask) -> Float[Tensor, ""]:
    """Mean square difference of the attention of equal heads ("att_mse").

    Raises:
        ValueError: the head counts differ.
    """
    _require_equal_heads(student, teacher)
    return masked_mean((student - teacher).square().sum(-1).mean(1) / mask.sum(-1, keepdim=True), mask)


def attention_mse_sum(student: Attention, teacher: Attention, mask: Mask) -> Float[Tensor, ""]:
    """The same of the sums over heads, whose counts may differ ("att_mse_sum"); sums are taken per head of the teacher."""
    scale = teacher.shape[1] / student.shape[1]
    return attention_mse(student.sum(1, keepdim=True) * scale, teacher.sum(1, keepdim=True), mask)


def attention_ce(student: Attention, teacher: Attention, mask: Mask, floor: float = 1e-6) -> Float[Tensor, ""]:
    """Cross entropy of the attention of equal heads, mean over heads and real queries ("att_ce").

    Raises:
        ValueError: the head counts differ.
    """
    _require_equal_heads(student, teacher)
    return masked_mean(-(teacher * student.clamp_min(floor).log()).sum(-1).mean(1), mask)


def attention_ce_mean(student: Attention, teacher: Attention, mask: Mask) -> Float[Tensor, ""]:
    """The same of the means over heads, whose counts may differ ("att_ce_mean")."""
    return attention_ce(student.mean(1, keepdim=True), teacher.mean(1, keepdim=True), mask)


def _require_equal_heads(student: Attention, teacher: Attention) -> None:
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(f"{student.shape[1]} heads against {teacher.shape[1]}: use a loss of their sum or mean")


def prediction_ce(student: Logits, teacher: Logits, temperature: float) -> Float[Tensor, ""]:
    """- tau^2 softmax(z_T / tau) . log softmax(z_S / tau), mean over examples ("ce").

    The factor tau^2 keeps the gradient's size where the temperature changes; the released code has none.
    """
    soft = (teacher / temperature).softmax(-1)
    return -(soft * (student / temperature).log_softmax(-1)).sum(-1).mean() * temperature**2


def prediction_kl(student: Logits, teacher: Logits, temperature: float) -> Float[Tensor, ""]:
    """tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau)), mean over examples ("kl"): ce less the teacher's entropy."""
    soft, ours = (teacher / temperature).log_softmax(-1), (student / temperature).log_softmax(-1)
    return functional.kl_div(ours, soft, reduction="batchmean", log_target=True) * temperature**2


def prediction_mse(student: Logits, teacher: Logits, temperature: float) -> Float[Tensor, ""]:
    """|| z_S - z_T ||^2 / classes, mean over examples ("mse"); dividing both by tau only scales it, so tau is not used."""
    del temperature
    return (student - teacher).square().mean()


def hard_label_loss(student: Logits, labels: Tensor) -> Float[Tensor, ""]:
    """Cross entropy with the labels of those examples that have one (class >= 0); 0 where none has."""
    known = labels >= 0
    if not bool(known.any()):
        return student.sum() * 0
    return functional.cross_entropy(student[known], labels[known])


HIDDEN = {"ce": hidden_ce, "mse": hidden_mse, "cos": hidden_cos}
"""Losses of all tokens' states."""
FIRST_TOKEN = {"pkd": hidden_pkd, "l2": hidden_l2}
"""Losses of the first token's state."""
ATTENTION = {
    "att_mse": attention_mse,
    "att_mse_sum": attention_mse_sum,
    "att_ce": attention_ce,
    "att_ce_mean": attention_ce_mean,
}
PREDICTION = {"ce": prediction_ce, "kl": prediction_kl, "mse": prediction_mse}


def collapse(states: Float[Tensor, "batch width"]) -> tuple[float, float]:
    """Mean cosine between different examples, and effective rank exp(entropy of the spectrum): 1 and 1 have collapsed."""
    unit = functional.normalize(states.double(), dim=-1)
    n = len(unit)
    cosines = unit @ unit.T
    mean_cosine = (cosines.sum() - cosines.diagonal().sum()) / (n * (n - 1))
    spectrum = torch.linalg.svdvals(unit - unit.mean(0))
    shares = spectrum / spectrum.sum().clamp_min(1e-12)
    return float(mean_cosine), float(torch.exp(-(shares * (shares + 1e-12).log()).sum()))

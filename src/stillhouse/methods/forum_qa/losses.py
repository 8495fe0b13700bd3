"""The two losses of extractive readers, as pure functions of start and end scores."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

Scores = Float[Tensor, "batch tokens"]
Allowed = Bool[Tensor, "batch tokens"]
NEVER = -1e4
"""Score of a token where no answer may begin or end: the question, separators, padding."""


def masked(scores: Scores, allowed: Allowed) -> Scores:
    """The scores with those of other tokens out of reach."""
    return scores.masked_fill(~allowed, NEVER)


def span_loss(
    start: Scores, end: Scores, starts: Int[Tensor, " batch"], ends: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """L = -1/2 [log softmax(s)_{s*} + log softmax(e)_{e*}]; token 0 where the window has no answer (BERT, arXiv 1810.04805)."""
    return (functional.cross_entropy(start, starts) + functional.cross_entropy(end, ends)) / 2


def distillation_loss(
    start: Scores, end: Scores, teacher_start: Scores, teacher_end: Scores, temperature: float
) -> Float[Tensor, ""]:
    """L = tau^2/2 [KL(softmax(s_T / tau) || softmax(s_S / tau)) + the same of the ends], mean over windows."""

    def kl(ours: Scores, theirs: Scores) -> Float[Tensor, ""]:
        logs = (ours / temperature).log_softmax(-1), (theirs / temperature).log_softmax(-1)
        return functional.kl_div(*logs, reduction="batchmean", log_target=True)

    return temperature**2 * (kl(start, teacher_start) + kl(end, teacher_end)) / 2

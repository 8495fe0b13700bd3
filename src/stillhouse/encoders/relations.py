"""Self-attention relations of MiniLMv2 (arXiv 2012.15828, equations 4 to 6), the loss of AutoDistil, as pure functions.

Queries, keys or values of one layer, heads side by side, are [batch, tokens, width]. They are split again into
`relation_heads` parts, so that teacher and student may have other widths and other numbers of heads:

    R[a] = softmax( phi_a phi_a^T / sqrt(width / relation_heads) + mask ),     phi in {Q, K, V}
    L = sum_phi  1 / (A_r |x|) sum_a sum_t  KL( R_T[a, t] || R_S[a, t] )
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stillhouse.core.errors import require

States = Float[Tensor, "batch tokens width"]
Scores = Float[Tensor, "batch heads tokens tokens"]
Mask = Bool[Tensor, "batch tokens"]


class Projections(NamedTuple):
    """Queries, keys and values of one layer, heads side by side."""

    query: States
    key: States
    value: States


def relation_scores(states: States, relation_heads: int) -> Scores:
    """phi_a phi_a^T / sqrt(d_r) of every relation head a, before mask and softmax."""
    batch, tokens, width = states.shape
    split = states.view(batch, tokens, relation_heads, width // relation_heads).transpose(1, 2)
    return split @ split.transpose(2, 3) * (width // relation_heads) ** -0.5


def log_relations(scores: Scores, mask: Mask) -> Scores:
    """log R: shares over the real tokens; places of padded keys hold -inf."""
    return scores.masked_fill(~mask[:, None, None, :], -torch.inf).log_softmax(-1)


def relation_kl(student: Scores, teacher: Scores, mask: Mask) -> Float[Tensor, ""]:
    """KL(R_T || R_S), mean over relation heads and real queries (MiniLMv2, equation 5)."""
    ours, theirs = log_relations(student, mask), log_relations(teacher, mask)
    both = (mask[:, None, None, :] & mask[:, None, :, None]).expand_as(ours)
    gaps = torch.where(both, theirs.exp() * (theirs - ours), 0.0)
    return gaps.sum() / (mask.sum() * student.shape[1])


def relation_mse(student: Scores, teacher: Scores, mask: Mask) -> Float[Tensor, ""]:
    """Mean square difference of raw scores between real tokens: what the released code trains with.

    There the mean runs over padded queries too, so that padding dilutes the loss.
    """
    both = mask[:, None, None, :] & mask[:, None, :, None]
    squares = (student - teacher).square() * both
    return squares.sum() / (both.sum() * student.shape[1])


LOSSES = {"kl": relation_kl, "mse-released": relation_mse}


def relation_loss(
    student: Projections, teacher: Projections, mask: Mask, relation_heads: int, kind: str = "kl"
) -> Float[Tensor, ""]:
    """Sum over Q-Q, K-K and V-V relations.

    Args:
        student, teacher: of the layers that are compared; widths may differ, both are multiples of `relation_heads`.
        mask: real tokens.
        relation_heads: parts that the heads, side by side, are split into.
        kind: "kl", or "mse-released".
    """
    loss = LOSSES[kind]
    parts = [
        loss(relation_scores(ours, relation_heads), relation_scores(theirs, relation_heads), mask)
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return torch.stack(parts).sum()


def uninformed_loss(teacher: Projections, mask: Mask, relation_heads: int) -> Float[Tensor, ""]:
    """The KL loss of a student that relates every token to all alike: what a loss has to be below to say anything."""
    scores = [relation_scores(states, relation_heads) for states in teacher]
    return torch.stack([relation_kl(torch.zeros_like(one), one, mask) for one in scores]).sum()


def fitting_heads(widths: Sequence[int], most: int) -> int:
    """The largest number of relation heads up to `most` that divides every width.

    Raises:
        UserError: only 1 does, and more were allowed.
    """
    common = gcd(*widths)
    found = max(n for n in range(1, most + 1) if common % n == 0)
    require(
        found > 1 or most == 1,
        f"widths {', '.join(map(str, sorted(set(widths))))} have no common number of relation heads",
        "choose hidden sizes with a common divisor, or --relation-heads 1",
    )
    return found

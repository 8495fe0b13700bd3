"""The equations of MoSE (arXiv 2503.03008) as pure functions.

Exits I = (i_1 < ... < N) are layer numbers; every term is a mean over items, and the sum over exits is divided by the sum of the
weights, so that a learning rate means the same under every scheme.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

Scheme = Literal["depth", "uniform", "log", "last-only"]
SCHEMES: tuple[str, ...] = get_args(Scheme)
MOST_SCALE = 100.0
"""Of the similarities, as in CLIP."""
Pairs = Float[Tensor, "batch batch"]


def exit_weights(exits: Sequence[int], layers: int, scheme: Scheme) -> dict[int, float]:
    """alpha_i, summing to 1: depth i / N (the paper's, before division), uniform 1, log ln(1 + i) / ln(1 + N), last-only.

    An exit of weight 0 gets no gradient.
    """
    raw = {
        "depth": lambda i: i / layers,
        "uniform": lambda i: 1.0,
        "log": lambda i: math.log1p(i) / math.log1p(layers),
        "last-only": lambda i: float(i == max(exits)),
    }[scheme]
    total = sum(raw(i) for i in exits)
    return {i: raw(i) / total for i in exits}


def weighted_sum(losses: Mapping[int, Tensor], weights: Mapping[int, float]) -> Float[Tensor, ""]:
    """L = sum_i alpha_i L_i."""
    return torch.stack([weights[i] * loss for i, loss in losses.items()]).sum()


def masked_lm_loss(logits: Float[Tensor, "chosen pieces"], ids: Int[Tensor, " chosen"]) -> Float[Tensor, ""]:
    """Cross entropy of the hidden tokens."""
    return functional.cross_entropy(logits, ids)


def contextual_loss(logits: Float[Tensor, " batch"], same_repository: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Binary cross entropy: are the two snippets of a window from one repository? (in-context classification)"""
    return functional.binary_cross_entropy_with_logits(logits, same_repository)


def similarities(query: Float[Tensor, "batch width"], code: Float[Tensor, "batch width"], scale: Tensor) -> Pairs:
    """S = t E_q E_c^T of unit embeddings, t at most 100."""
    return scale.clamp(max=MOST_SCALE) * query @ code.T


def false_negatives(query_ids: Int[Tensor, " batch"], code_ids: Int[Tensor, " batch"]) -> Bool[Tensor, "batch batch"]:
    """Pairs off the diagonal whose query or whose code is the same: no negatives."""
    same = (query_ids[:, None] == query_ids[None]) | (code_ids[:, None] == code_ids[None])
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)


def contrastive_loss(scores: Pairs, ignored: Bool[Tensor, "batch batch"]) -> Float[Tensor, ""]:
    """L_i = 1/2 [CE(S, diag) + CE(S^T, diag)] without the ignored pairs (symmetric, as in CLIP)."""
    kept = scores.masked_fill(ignored, -torch.inf)
    target = torch.arange(len(kept), device=kept.device)
    return (functional.cross_entropy(kept, target) + functional.cross_entropy(kept.T, target)) / 2


def self_distillation_loss(
    scores: Pairs, deepest: Pairs, ignored: Bool[Tensor, "batch batch"], temperature: float
) -> Float[Tensor, ""]:
    """KL(softmax(sg[S_N] / tau) || softmax(S_i / tau)), mean over queries; nothing flows into the deepest exit.

    An extension: the paper's self-distillation has no teacher term, its exits share layers and nothing else.
    """
    hidden = torch.finfo(scores.dtype).min
    theirs = (deepest.detach() / temperature).masked_fill(ignored, hidden).log_softmax(-1)
    ours = (scores / temperature).masked_fill(ignored, hidden).log_softmax(-1)
    return functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def prefix(embedding: Float[Tensor, "batch width"], dimensions: int) -> Float[Tensor, "batch dimensions"]:
    """The first numbers of an embedding as a unit embedding (Matryoshka)."""
    return functional.normalize(embedding[:, :dimensions], dim=-1)

"""Masked language modelling: pre-training an encoder, and refilling words of a text (contextual augmentation)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed
from stillhouse.core.training import Fitted, fit
from stillhouse.encoders.batches import Items, Schedule, assemble, ordered_batches, plain_items
from stillhouse.encoders.data import Texts
from stillhouse.encoders.models import Batch, forward
from stillhouse.encoders.tokens import Vocabulary, encode
from stillhouse.encoders.training import Recipe, descend, make_optimizer

MASKED_SHARE, SHOWN_AS_MASK, SHOWN_AS_RANDOM = 0.15, 0.8, 0.1
"""BERT's: 15 % of tokens are guessed, of which 80 % are shown as [MASK], 10 % as any token, 10 % as they are."""


class MaskedLM(nn.Module):
    """An encoder, and BERT's head over its own word vectors."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        words: Tensor = cast(nn.Embedding, model.get_input_embeddings()).weight
        self.model = model
        self.transform = nn.Sequential(
            nn.Linear(model.config.hidden_size, words.shape[1]), nn.GELU(), nn.LayerNorm(words.shape[1])
        )
        self.bias = nn.Parameter(torch.zeros(len(words)))

    def forward(self, batch: Batch) -> Float[Tensor, "batch tokens width"]:
        """What is compared with the word vectors."""
        return self.transform(forward(self.model, batch).hidden[-1])

    def scores(self, states: Float[Tensor, "n width"]) -> Float[Tensor, "n pieces"]:
        """Logits over all pieces."""
        return states @ cast(nn.Embedding, self.model.get_input_embeddings()).weight.T + self.bias


def mask_tokens(
    ids: Int[Tensor, "batch tokens"], maskable: Tensor, mask_id: int, pieces: int
) -> tuple[Int[Tensor, "batch tokens"], Tensor]:
    """BERT's corruption; ids as shown, and which places are to be guessed (at least one of the batch)."""
    # drawn on the CPU: the same on every device
    draws = torch.rand(2, *ids.shape).to(ids.device)
    chosen = maskable & (draws[0] < MASKED_SHARE)
    if not bool(chosen.any()):
        chosen = maskable
    dice = draws[1]
    shown = torch.where(chosen & (dice < SHOWN_AS_MASK), mask_id, ids)
    other = chosen & (dice >= SHOWN_AS_MASK) & (dice < SHOWN_AS_MASK + SHOWN_AS_RANDOM)
    return torch.where(other, torch.randint(pieces, ids.shape).to(ids.device), shown), chosen


def pretrain(
    lm: MaskedLM, items: Items, special: Sequence[int], mask_id: int, recipe: Recipe, run: Run, stage: str, seed: int
) -> Fitted:
    """Train encoder and head to guess masked tokens of these texts."""
    optimizer = make_optimizer(lm, recipe.rate, recipe.weight_decay)
    schedule = Schedule(items.lengths, recipe.batch, derive_seed(stage, seed))
    not_special = ~torch.isin(torch.arange(lm.bias.numel()), torch.tensor(list(special))).to(lm.bias.device)

    def step(update: int) -> dict[str, Tensor]:
        lm.train()
        batch = assemble(items, schedule[update], lm.model.config.pad_token_id).to(lm.bias.device)
        shown, chosen = mask_tokens(batch.first, batch.mask & not_special[batch.first], mask_id, lm.bias.numel())
        states = lm(batch._replace(first=shown, second=shown))
        loss = functional.cross_entropy(lm.scores(states[chosen]), batch.first[chosen])
        descend(loss, lm, optimizer, recipe.rate * recipe.factor(update))
        return {stage: loss.detach()}

    fitted = fit(step, {"model": lm, "optimizer": optimizer}, recipe.updates, run, stage=stage, seed=seed)
    lm.eval()
    return fitted


def refill(
    lm: MaskedLM, vocabulary: Vocabulary, share: float, max_tokens: int, top_p: float = 0.8
) -> Callable[[Sequence[str], int], list[str]]:
    """An operation that masks a share of the tokens and draws new ones from the smallest set of probability `top_p`.

    Args:
        lm: reads the vocabulary's ids.
        vocabulary: the student's.
        share: of tokens to be drawn anew.
        max_tokens: longer texts are cut.
        top_p: 0.8 as published.
    """
    special = sorted(vocabulary.tokenizer.all_special_ids)
    mask_id = vocabulary.tokenizer.mask_token_id

    def operation(texts: Sequence[str], seed: int) -> list[str]:
        random = torch.Generator().manual_seed(seed)
        rows = Texts(tuple(texts), None, np.zeros(len(texts), np.int64))
        items = plain_items(encode(vocabulary.tokenizer, rows, max_tokens))
        made = list(texts)
        for index in ordered_batches(items.lengths, 64):
            filled = _refilled(
                lm, assemble(items, index, lm.model.config.pad_token_id), special, mask_id, share, top_p, random
            )
            for row, item in enumerate(index):
                ids = filled[row, : items.lengths[item]].tolist()
                made[item] = vocabulary.tokenizer.decode(ids, skip_special_tokens=True)
        return made

    return operation


@torch.no_grad()
def _refilled(
    lm: MaskedLM, batch: Batch, special: list[int], mask_id: int, share: float, top_p: float, random: torch.Generator
) -> Tensor:
    maskable = batch.mask & ~torch.isin(batch.first, torch.tensor(special))
    chosen = maskable & (torch.rand(batch.first.shape, generator=random) < share)
    if not bool(chosen.any()):
        return batch.first
    shown = torch.where(chosen, mask_id, batch.first)
    states = lm(batch._replace(first=shown, second=shown)).cpu()[chosen]
    scores = lm.scores(states.to(lm.bias.device)).cpu()
    scores[:, special] = -torch.inf
    shares, order = scores.softmax(-1).sort(dim=-1, descending=True)
    shares[shares.cumsum(-1) - shares > top_p] = 0
    drawn = torch.multinomial(shares, 1, generator=random)
    return batch.first.masked_scatter(chosen, order.gather(1, drawn).squeeze(1))

"""The two stages of training: masked tokens and context on windows, then contrast on pairs; every exit in every update."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from stillhouse.core.ledger import Ledger
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed, seed_everything
from stillhouse.core.training import Fitted, fit
from stillhouse.corpus.code_retrieval import SearchTask
from stillhouse.encoders.batches import Schedule, padded
from stillhouse.encoders.masked_lm import mask_tokens
from stillhouse.encoders.models import to_best_device
from stillhouse.encoders.multi_exit import MultiExitEncoder
from stillhouse.encoders.training import Recipe, descend
from stillhouse.methods.modular_encoder.config import Config
from stillhouse.methods.modular_encoder.losses import (
    contextual_loss,
    contrastive_loss,
    exit_weights,
    false_negatives,
    masked_lm_loss,
    prefix,
    self_distillation_loss,
    similarities,
    weighted_sum,
)
from stillhouse.methods.modular_encoder.material import Material, PairSet, draw_windows, mixed_code
from stillhouse.methods.modular_encoder.search import exit_metrics

CHECKS = 4
"""Looks at the select split along fine-tuning, for the curve; nothing is chosen by them but the recommended exit."""


class PretrainingHeads(nn.Module):
    """Heads that all exits share; an embedding of the exit, added to its states, tells them how deep the states come from."""

    def __init__(self, encoder: MultiExitEncoder) -> None:
        super().__init__()
        self.encoder = [encoder]  # in a list: its weights are not this module's
        width = encoder.trunk.config.hidden_size
        self.words = cast(nn.Embedding, encoder.trunk.get_input_embeddings())
        self.place = {i: n for n, i in enumerate(encoder.exits)}
        self.depth = nn.Embedding(len(encoder.exits), width)
        nn.init.normal_(self.depth.weight, std=0.02)
        self.transform = nn.Sequential(
            nn.Linear(width, self.words.weight.shape[1]), nn.GELU(), nn.LayerNorm(self.words.weight.shape[1])
        )
        self.bias = nn.Parameter(torch.zeros(len(self.words.weight)))
        self.shrink = 1 / float(self.words.weight.detach().norm(dim=1).mean().clamp_min(1.0))
        self.context = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))

    def placed(self, states: Tensor, at: int) -> Tensor:
        """States with the exit's embedding added."""
        return states + self.depth.weight[self.place[at]]

    def token_logits(self, states: Float[Tensor, "chosen width"], at: int) -> Float[Tensor, "chosen pieces"]:
        """Scores of all pieces by the word vectors, of unit size at the start."""
        return self.transform(self.placed(states, at)) @ self.words.weight.T * self.shrink + self.bias

    def context_logits(self, states: Float[Tensor, "batch tokens width"], at: int) -> Float[Tensor, " batch"]:
        """Same repository or not, read from the first token."""
        return self.context(self.placed(states[:, 0], at)).squeeze(-1)


class Scales(nn.Module):
    """t_i of each exit's similarities, learned in the logarithm."""

    def __init__(self, exits: tuple[int, ...], start: float) -> None:
        super().__init__()
        self.logs = nn.ParameterDict({str(i): nn.Parameter(torch.tensor(start).log()) for i in exits})

    def of(self, at: int) -> Tensor:
        """t of an exit."""
        return cast(Tensor, self.logs[str(at)]).exp()


@dataclass(frozen=True)
class Trained:
    """An encoder and what it took."""

    encoder: MultiExitEncoder
    pretraining: Fitted
    finetuning: Fitted

    @property
    def seconds(self) -> float:
        """Both stages."""
        return self.pretraining.seconds + self.finetuning.seconds


def pretrain(encoder: MultiExitEncoder, material: Material, config: Config, run: Run, name: str) -> Fitted:
    """L = sum_i alpha_i (L_MLM(i) + lambda L_ICC(i)) on windows of two snippets."""
    seed_everything("pre-training heads", config.seed)
    heads = PretrainingHeads(encoder).to(encoder.device)
    both = nn.ModuleList([encoder, heads])
    optimizer = two_rate_optimizer(encoder, both, config)
    recipe = Recipe(config.pretraining_updates, config.pretraining_batch, config.pretraining_rate)
    schedule = Schedule(material.windows.snippets.lengths, recipe.batch, derive_seed("windows", config.seed))
    weights = exit_weights(encoder.exits, encoder.exits[-1], config.weights)
    used = [i for i in encoder.exits if weights[i] > 0]
    tokenizer = material.tokenizer
    special = torch.tensor(sorted(tokenizer.all_special_ids)).to(encoder.device)
    contextual = config.contextual if material.windows.several else 0.0

    def step(update: int) -> dict[str, Tensor]:
        both.train()
        ids, mask, same = (
            part.to(encoder.device)
            for part in draw_windows(material.windows, schedule[update], int(tokenizer.pad_token_id))
        )
        shown, chosen = mask_tokens(ids, mask & ~torch.isin(ids, special), int(tokenizer.mask_token_id), len(tokenizer))
        states = encoder.states(shown, mask, used)
        words = weighted_sum(
            {i: masked_lm_loss(heads.token_logits(h[chosen], i), ids[chosen]) for i, h in states.items()}, weights
        )
        losses = {"tokens": words}
        if contextual:
            losses["context"] = weighted_sum(
                {i: contextual_loss(heads.context_logits(h, i), same) for i, h in states.items()}, weights
            )
        loss = words + contextual * losses.get("context", torch.zeros(()))
        descend(loss, both, optimizer, recipe.rate * recipe.factor(update))
        return losses

    state: dict[str, Any] = {"encoder": encoder, "heads": heads, "optimizer": optimizer}
    return fit(step, state, recipe.updates, run, stage=f"{name}pre-training", seed=config.seed)


def two_rate_optimizer(encoder: MultiExitEncoder, module: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW; word vectors, heads and scales learn `outer` times as fast as layers. No decay on vectors.

    At a rate at which word vectors move in a short training, layers with random weights drown them.
    """
    inside = {id(p) for p in encoder.layers.parameters()}
    groups = []
    for layers, matrices in itertools.product((True, False), repeat=2):
        chosen = [p for p in module.parameters() if (id(p) in inside) == layers and (p.ndim > 1) == matrices]
        decay, factor = config.weight_decay * matrices, 1.0 if layers else config.outer
        groups.append({"params": chosen, "weight_decay": decay, "factor": factor})
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.rate)


def kinds_of(updates: int, code_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every update: whether it takes code-code pairs, and how many updates of its kind came before it."""
    code = np.random.default_rng(derive_seed("kinds", seed)).random(updates) < code_share
    before = np.where(code, np.cumsum(code), np.cumsum(~code)) - 1
    return code, before


def pair_losses(
    encoder: MultiExitEncoder,
    scales: Scales,
    pairs: PairSet,
    index: np.ndarray,
    config: Config,
    pad_id: int,
    weights: Mapping[int, float],
) -> dict[str, Tensor]:
    """sum_i alpha_i L_i of a batch of pairs, over exits with weight, and over prefixes of the embeddings where asked for."""
    used = [i for i in encoder.exits if weights[i] > 0]
    sides = [
        padded(part, np.arange(len(index)), pad_id)
        for part in (pairs.first.take(index), mixed_code(pairs, index, config.renamed))
    ]
    query, code = (encoder(ids.to(encoder.device), mask.to(encoder.device), used) for ids, mask in sides)
    ignored = false_negatives(
        *(torch.from_numpy(ids[index]).to(encoder.device) for ids in (pairs.first_ids, pairs.second_ids))
    )
    contrast: dict[int, Tensor] = {i: torch.zeros((), device=encoder.device) for i in used}
    pulled: dict[int, Tensor] = dict(contrast)
    sizes = (encoder.dimensions, *config.matryoshka)
    for size in sizes:
        scores = {i: similarities(prefix(query[i], size), prefix(code[i], size), scales.of(i)) for i in used}
        for i in used:
            contrast[i] = contrast[i] + contrastive_loss(scores[i], ignored) / len(sizes)
            if config.self_distillation and i != used[-1]:
                pulled[i] = pulled[i] + self_distillation_loss(
                    scores[i], scores[used[-1]], ignored, config.temperature
                ) / len(sizes)
    losses = {"contrast": weighted_sum(contrast, weights)}
    if config.self_distillation:
        losses["self-distillation"] = weighted_sum(pulled, weights)
    return losses


def finetune(
    encoder: MultiExitEncoder, material: Material, config: Config, run: Run, name: str, select: SearchTask | None = None
) -> Fitted:
    """L = sum_i alpha_i L_CLIP(i); an update takes pairs of text and code, or of code and code."""
    scales = Scales(encoder.exits, config.scale).to(encoder.device)
    both = nn.ModuleList([encoder, scales])
    optimizer = two_rate_optimizer(encoder, both, config)
    recipe = Recipe(config.updates, config.batch, config.rate, checks=min(CHECKS, config.updates))
    weights = exit_weights(encoder.exits, encoder.exits[-1], config.weights)
    sets = (material.text_pairs, material.code_pairs)
    schedules = [Schedule(pairs.lengths, recipe.batch, derive_seed(pairs.kind, config.seed)) for pairs in sets]
    code, before = kinds_of(recipe.updates, config.code_share, config.seed)
    ledger, pad_id = Ledger(), int(material.tokenizer.pad_token_id)

    def step(update: int) -> dict[str, Tensor]:
        both.train()
        of = int(code[update])
        losses = pair_losses(encoder, scales, sets[of], schedules[of][int(before[update])], config, pad_id, weights)
        total = losses["contrast"] + config.self_distillation * losses.get("self-distillation", torch.zeros(()))
        descend(total, both, optimizer, recipe.rate * recipe.factor(update))
        ledger.add(sets[of].kind)
        return losses

    def look(update: int, _seconds: float) -> None:
        for i, found in exit_metrics(encoder, material, select).items() if select else ():
            run.record(stage=f"{name}fine-tuning", update=update, exit=i, select=found["mrr"])

    state: dict[str, Any] = {"encoder": encoder, "scales": scales, "optimizer": optimizer, "ledger": ledger}
    return fit(
        step,
        state,
        recipe.updates,
        run,
        stage=f"{name}fine-tuning",
        evaluate=look,
        evaluate_at=recipe.due() if select else frozenset(),
        seed=config.seed,
    )


def train(
    encoder: MultiExitEncoder,
    material: Material,
    config: Config,
    run: Run,
    name: str = "",
    select: SearchTask | None = None,
) -> Trained:
    """Both stages; `name` tells the stages of several encoders of one run apart."""
    to_best_device(encoder)  # type: ignore[arg-type]
    before = pretrain(encoder, material, config, run, name) if config.pretraining_updates else Fitted(0, 0.0)
    after = finetune(encoder, material, config, run, name, select)
    encoder.eval()
    return Trained(encoder, before, after)

"""sentence-transformers' AdaptiveLayerLoss on the same stack, tokenizer, pairs and number of updates."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillhouse.core.seeding import derive_seed, seed_everything
from stillhouse.corpus.code_retrieval import SearchTask, metrics
from stillhouse.encoders.batches import Schedule, padded
from stillhouse.encoders.training import Recipe, make_optimizer, set_rate
from stillhouse.methods.modular_encoder.config import Config
from stillhouse.methods.modular_encoder.exporting import export_exit
from stillhouse.methods.modular_encoder.material import Material, mixed_code
from stillhouse.methods.modular_encoder.model import CodeEncoder
from stillhouse.methods.modular_encoder.opening import open_encoder


def adaptive_layer_loss(config: Config, material: Material, tasks: list[SearchTask]) -> dict[str, dict[str, float]]:
    """{layer: {task_metric: value}} of every exit's layer.

    The model is the method's own stack before training, opened by sentence-transformers, with its one projection; the loss is
    theirs with its defaults (one random layer an update beside the last, KL to the last layer) around their multiple-negatives
    loss at the method's starting scale. It has no pre-training of its own, so the method's is not given to it either: the updates
    of both stages are spent on pairs. The trainer is left out: its loss is called in a loop with the method's optimizer and rates.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import AdaptiveLayerLoss, MultipleNegativesRankingLoss

    encoder = open_encoder(config, material.tokenizer, material.counts)
    updates = config.pretraining_updates + config.updates
    recipe = Recipe(updates, config.batch, config.rate)
    with tempfile.TemporaryDirectory() as scratch:
        export_exit(
            CodeEncoder(encoder, material.tokenizer, material.settings), config.exits[-1], Path(scratch) / "model"
        )
        model = SentenceTransformer(str(Path(scratch) / "model"), device="cpu")
    loss = AdaptiveLayerLoss(model, MultipleNegativesRankingLoss(model, scale=config.scale))
    optimizer = make_optimizer(model, config.rate, config.weight_decay)
    pairs, pad = material.text_pairs, int(material.tokenizer.pad_token_id)
    schedule = Schedule(pairs.lengths, config.batch, derive_seed(pairs.kind, config.seed))
    model.train()
    for update in range(updates):
        seed_everything(config.seed, "adaptive", update)
        index = schedule[update]
        sides = [
            padded(part, np.arange(len(index)), pad)
            for part in (pairs.first.take(index), mixed_code(pairs, index, config.renamed))
        ]
        value = loss([{"input_ids": ids, "attention_mask": mask.long()} for ids, mask in sides], None)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        set_rate(optimizer, recipe.rate * recipe.factor(update))
        optimizer.step()
    return {str(layer): _judged(model, layer, material, tasks) for layer in config.exits}


@torch.no_grad()
def _judged(model: Any, layer: int, material: Material, tasks: list[SearchTask]) -> dict[str, float]:
    """The model with its first so many layers, its last norm and projection kept, as its own documentation does."""
    model.eval()
    trunk = model[0].auto_model
    whole, trunk.layers = trunk.layers, trunk.layers[:layer]
    depth, trunk.config.num_hidden_layers = trunk.config.num_hidden_layers, layer
    reader = CodeEncoder(_NoExits(), material.tokenizer, material.settings)  # type: ignore[arg-type]
    found: dict[str, float] = {}
    for task in tasks:
        sides = []
        for texts, kind, languages in (
            (task.queries, task.kind, task.query_languages),
            (task.codes, "code", task.code_languages),
        ):
            encoded = reader.tokenized(texts, kind, languages)  # type: ignore[arg-type]
            made = []
            for start in range(0, len(encoded), 64):
                ids, mask = padded(
                    encoded, np.arange(start, min(start + 64, len(encoded))), int(material.tokenizer.pad_token_id)
                )
                made.append(model({"input_ids": ids, "attention_mask": mask.long()})["sentence_embedding"])
            sides.append(torch.cat(made).numpy())
        found |= {f"{task.name}_{name}": value for name, value in metrics(task, sides[0] @ sides[1].T).items()}
    trunk.layers, trunk.config.num_hidden_layers = whole, depth
    return found


class _NoExits:
    """Stands where only the tokenizer is wanted."""

    def eval(self) -> _NoExits:
        return self

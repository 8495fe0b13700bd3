"""One code encoder with five exits: how much model to pay for is chosen at deployment.

One Model to Train them All: Hierarchical Self-Distillation for Enhanced Early Layer Embeddings (arXiv 2503.03008; v3 is called MoSE):
ModularStarEncoder. Each exit i of a stack of N layers is an embedding of its own,

    e_i = normalise(W_i pool(norm_i(h_i))),   L = sum_i alpha_i L_i,   alpha_i = i / N (divided by their sum)

    pre-training   L_i = masked-token loss + same-repository loss (two snippets in a window; heads shared by exits, told the depth)
    fine-tuning    L_i = 1/2 [CE(t E_q E_c^T, diag) + CE((t E_q E_c^T)^T, diag)]   text-code and code-code pairs

so that layers learn for every exit above them, and no exit has a teacher. Layers are StarCoder-2's without the causal mask. Names in a
share of the codes are replaced at random, and pairs with an equal side are no negatives of one another.

What differs: no code of the authors was released, and details follow their model cards. Retrieval pools by the mean over tokens (they: a
last [CLS] with left padding); code-code pairs are rewrites by rules and translations from files, where they had a language model
translate. Extensions, off by default: a KL from the deepest exit with a stop-gradient, and Matryoshka prefixes of every exit.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from stillhouse.core.estimate import Estimate, Stage
from stillhouse.core.options import read_options
from stillhouse.core.result import Result
from stillhouse.core.run import Run
from stillhouse.corpus.code_sets import load_code
from stillhouse.encoders.multi_exit import MultiExitEncoder, TrunkShape, load_trunk, new_trunk
from stillhouse.methods.modular_encoder.arms import Bench, compared_arms, exit_arms, latencies
from stillhouse.methods.modular_encoder.commands import COMMANDS
from stillhouse.methods.modular_encoder.config import Config
from stillhouse.methods.modular_encoder.material import make_material
from stillhouse.methods.modular_encoder.model import CodeEncoder, ExitRow, load_model, save_model
from stillhouse.methods.modular_encoder.opening import open_encoder, open_tokenizer, source_folder
from stillhouse.methods.modular_encoder.portable import portable
from stillhouse.methods.modular_encoder.report import (
    corpus_table,
    curves_of,
    exit_table,
    exits_picture,
    metrics_of,
    notes,
    prefix_table,
    sentence,
)
from stillhouse.methods.modular_encoder.search import report_tasks, select_task
from stillhouse.methods.modular_encoder.training import train
from stillhouse.methods.modular_encoder.trial import code_trials

__all__ = ["COMMANDS", "PRESETS", "Config", "distill", "estimate", "load", "portable"]

PRESETS = {
    "laptop": Config(),
    "paper": Config(
        data="./code",
        layers=36,
        exits=(4, 9, 18, 27, 36),
        width=1024,
        heads=16,
        key_value_heads=4,
        feed_forward=12_288,
        pieces=49_152,
        dimensions=1024,
        text_instruction="Represent this code description for retrieving supporting snippets of code:",
        code_instruction="Represent this {language} code snippet for retrieval:",
        max_text_tokens=512,
        max_code_tokens=2048,
        window_tokens=2048,
        pretraining_updates=245_000,
        pretraining_batch=2048,
        pretraining_rate=4e-4,
        updates=20_000,
        batch=2048,
        rate=1e-5,
        outer=1.0,
        scale=10.0,
        weight_decay=0.1,
        code_share=0.5,
        judged=0,
    ),
}


def distill(config: Config, run: Run) -> Result:
    """Read code, train every exit together, judge each, and say which to use."""
    code = load_code(config.data, config.functions, config.seed, quiet=run.quiet)
    run.log(
        f"{len(code.train):,} functions of {len(code.repositories)} repositories to train on, {code.duplicates:,} near-duplicates left out"
    )
    tokenizer = open_tokenizer(config, code.train)
    material = make_material(code, tokenizer, config)
    encoder = open_encoder(config, tokenizer, material.counts)
    select = select_task(code, config)
    bench = Bench(config, material, tuple(report_tasks(code, material.names, config)), select, run)
    run.log(f"{len(material.text_pairs):,} pairs of text and code, {len(material.code_pairs):,} of code and code")
    trained = train(encoder, material, config, run, select=select)
    model = CodeEncoder(encoder, tokenizer, material.settings)
    speed = {
        int(i): one
        for i, one in run.kept("speed", lambda: {str(i): one for i, one in latencies(model, select).items()}).items()
    }
    exits = exit_arms(trained, bench, speed)
    rows = tuple(
        ExitRow(i, arm.cost.parameters or 0, arm.metrics["select_mrr"], 1000 * speed[i]["batch 1"])
        for i, arm in zip(encoder.exits, exits, strict=True)
    )
    model = CodeEncoder(encoder, tokenizer, replace(material.settings, table=rows))
    save_model(model, run.model_folder)
    others = compared_arms(bench)
    tables = [exit_table(model, exits, bench), corpus_table(code)]
    if config.matryoshka:
        tables.insert(1, prefix_table(model, bench, config.matryoshka))
    return Result(
        "modular_encoder",
        sentence(model, exits, others, bench),
        metrics_of(bench.tasks, select),
        # the recommended exit first: it is the one that cards and pages name
        (*sorted(exits, key=lambda arm: arm.name != f"exit {model.settings.recommended}"), *others),
        axes={"updates": "Fine-tuning updates"},
        curves=curves_of(run),
        pictures=(exits_picture(exits, others, bench.tasks, run),),
        tables=tuple(tables),
        notes=notes(bench, code, material.windows.several),
    )


def estimate(config: Config) -> Estimate:
    """From a step on random ids here; reading and judging are guessed from the number of functions."""
    token, size = _speed_and_size(config)
    window, pair = config.window_tokens, config.max_text_tokens // 2 + config.max_code_tokens
    before, after = config.pretraining_updates, config.updates
    # a model alone has a share of the layers; last-only training has all of them
    runs = 1 + (config.compare == "all") * (1 + sum(config.exits) / max(1, config.layers))
    pretraining = runs * 1.3 * before * config.pretraining_batch * window * token
    finetuning = runs * after * config.batch * pair * token
    judging = 8.0 + (config.judged or 2000) * 5 * config.max_code_tokens * token / 3
    return Estimate(
        (
            Stage("reading", 0, 0, 20.0),
            Stage("pre-training", before, 3 * before * config.pretraining_batch, pretraining, 12 * size),
            Stage("fine-tuning", after, 6 * after * config.batch, finetuning, 12 * size),
            Stage("judging", 0, 0, judging),
        )
    )


def _speed_and_size(config: Config) -> tuple[float, int]:
    """Seconds a token, forward and backward, and parameters; of one layer times the layers, for a published stack fills a memory."""
    folder = source_folder(config)
    shape = TrunkShape(1, config.width, config.heads, config.key_value_heads, config.feed_forward)
    trunk: Any = new_trunk(shape, config.pieces, 0) if folder is None else load_trunk(folder, 1)
    encoder = MultiExitEncoder(trunk, (1,), config.dimensions)
    ids = torch.randint(trunk.config.vocab_size, (8, 64))
    mask = torch.ones_like(ids, dtype=torch.bool)
    taken = []
    for _ in range(2):
        started = time.monotonic()
        encoder(ids, mask, (1,))[1].sum().backward()
        taken.append((time.monotonic() - started) / ids.numel())
    layer = sum(p.numel() for name, p in trunk.named_parameters() if "layer" in name and "embed" not in name)
    size = sum(p.numel() for p in encoder.parameters()) + (config.layers - 1) * layer
    return min(taken) * config.layers, size


def load(folder: Path) -> CodeEncoder:
    """The encoder of a run's model folder, with all its exits."""
    return load_model(folder)


TRIALS = code_trials(lambda run: read_options(run, "modular_encoder", Config))

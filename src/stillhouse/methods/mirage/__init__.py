"""Distil a graph data set to a few kilobytes that train any message-passing network, without training anything.

Mirage: Model-Agnostic Graph Distillation for Graph Classification (arXiv 2310.09486).

An L-layer network sees a graph as the multiset of its nodes' computation trees of depth L:

    T_0(v) = word(v)          T_l(v) = ( word(v), { (edge word, T_{l-1}(u)) : edge u -> v } )

Trees are skewed, so what is frequent in each class, and in what company, stands for the data. `summary="itemsets"` is the
paper's: per class the frequent sets of trees by FP-growth (paper, section 3), drawn by their support, trained on as a disjoint
union of trees whose roots are pooled. `summary="mixtures"` (the default) is ours: p(n | c) = sum_m w_cm prod_t h(n_t; p_cmt, mu_cmt),
a class-conditional mixture of counts over the frequent trees, and at evaluation a mask that pools only roots whose tree the summary
knows. It keeps the multiplicity and the size of graphs, which presence sets forget (docs/methods/mirage.md has the figures).

What else differs from the paper and its code, and why: trees are interned tuples, not strings (exact, linear, subtrees
shared); labels and vocabulary come from training graphs only; any number of classes; single-node trees stay; thresholds come
from a byte budget; bytes are those of the file; every arm, the untrained network too, has the same checkpoint rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillhouse.core.errors import UserError
from stillhouse.core.estimate import Estimate, Stage
from stillhouse.core.progress import Progress
from stillhouse.core.result import Result
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.core.training import Fitted, fit
from stillhouse.graphs.arms import Arms
from stillhouse.graphs.budget import itemset_summary, itemset_within, mixture_summary, mixture_within
from stillhouse.graphs.census import Census, take_census
from stillhouse.graphs.codec import read_summary, write_summary
from stillhouse.graphs.data import GraphSet, Split, split_graphs
from stillhouse.graphs.itemsets import TooManySets
from stillhouse.graphs.load import load_graphs
from stillhouse.graphs.material import Material
from stillhouse.graphs.motifs import motif_graphs
from stillhouse.graphs.networks import GraphClassifier
from stillhouse.graphs.summary import Summary
from stillhouse.graphs.training import (
    Exam,
    Recipe,
    Score,
    exam_auc,
    make_classifier,
    make_optimizer,
    update_classifier,
)
from stillhouse.graphs.words import Words, learn_words
from stillhouse.methods.mirage.commands import COMMANDS
from stillhouse.methods.mirage.comparison import compared
from stillhouse.methods.mirage.config import Config
from stillhouse.methods.mirage.student import BestSoFar, Student, load_student, save_student

__all__ = ["COMMANDS", "PRESETS", "Config", "distill", "estimate", "load", "summarise"]

MOST_PER_CHUNK = 10_000
"""Graphs whose trees are grown at a time: bounds memory, and progress is shown after each."""

PRESETS = {
    "laptop": Config(),
    "paper": Config(
        data="NCI1",
        summary="itemsets",
        max_bytes=0,
        support=0.3,
        width=128,
        dropout=0.5,
        learning_rates=(1e-3,),
        updates=3000,
    ),
}


def summarise(
    graphs: GraphSet, config: Config | None = None, words: Words | None = None, *, quiet: bool = True
) -> Summary:
    """A summary of training graphs in memory, as `config` asks.

    Args:
        graphs: training graphs, e.g. `from_pyg(dataset)` or `read_tu(path)`.
        config: its fields on data and training are not looked at; defaults where none is given.
        words: learned on the graphs unless given.
        quiet: show no progress.

    Raises:
        UserError: an option does not fit the graphs; says how to mend it.
    """
    config = config or Config()
    learned = words or words_of(config, graphs)
    return summary_of(config, take_census_of(config, graphs, learned, quiet=quiet))


def distill(config: Config, run: Run) -> Result:
    """Summarise, train the network on the summary, and compare it with full data, controls and baselines."""
    split = split_graphs(graphs_of(config), config.seed)
    words = words_of(config, split.train)
    summary, seconds = _summarised(config, split, words, run)
    recipe = recipe_of(config)
    student, score, train_seconds = _trained(summary, split, recipe, run)
    save_student(student, run.model_folder)
    arms = Arms(split, words, recipe, config.hops, config.seed, leaf_degrees=config.gcn_exact)
    return compared(config, run, arms, summary, score, seconds, train_seconds)


def estimate(config: Config) -> Estimate:
    """From a few updates on small motif graphs; large data takes longer to read and to train on in full."""
    graphs = motif_graphs(60, 0)
    words = learn_words(graphs)
    census = take_census([graphs], words, config.hops)
    material = mixture_summary(census, 50, 4).material()
    recipe = recipe_of(config)
    model = make_classifier(recipe, material.graph, 2)
    optimizer = make_optimizer(model, recipe, recipe.learning_rates[0])
    started = time.monotonic()
    for update in range(5):
        update_classifier(model, optimizer, material, update, 0)
    each = (time.monotonic() - started) / 5
    weights = 12 * sum(p.numel() for p in model.parameters())
    updates = config.updates * len(config.learning_rates)
    compare = {"all": 12, "controls": 3, "none": 0}[config.compare]
    return Estimate(
        (
            Stage("summary", 0, 0, 2.0),
            Stage("student", updates, 2 * 256 * updates, each * updates, weights),
            Stage(
                "comparison",
                compare * updates,
                2 * 256 * compare * updates,
                2 * each * compare * updates,
            ),
        )
    )


def load(folder: Path) -> Student:
    """The summary and the network trained on it, from a run's model folder."""
    return load_student(folder)


def graphs_of(config: Config) -> GraphSet:
    """The data that a config names."""
    return load_graphs(
        config.data,
        smiles_column=config.smiles_column,
        label_column=config.label_column,
        graphs=config.graphs,
        seed=config.seed,
    )


def words_of(config: Config, train: GraphSet) -> Words:
    """Words of the training graphs."""
    return learn_words(train, nodes=config.node_words, edges=config.edge_words, codes=config.codes, seed=config.seed)


def take_census_of(config: Config, train: GraphSet, words: Words, *, quiet: bool) -> Census:
    """Trees of the training graphs, counted chunk by chunk."""
    per_chunk = max(1, min(MOST_PER_CHUNK, -(-train.graphs // config.workers)))
    chunks = (train.select(range(i, min(i + per_chunk, train.graphs))) for i in range(0, train.graphs, per_chunk))
    with Progress("trees", train.graphs, 0, quiet=quiet, unit="graphs") as progress:
        return take_census(
            chunks,
            words,
            config.hops,
            leaf_degrees=config.gcn_exact,
            max_trees=config.max_trees,
            max_graphs=config.max_graphs,
            workers=config.workers,
            seed=config.seed,
            seen=lambda graphs: progress.update(graphs, {}),
        )


def summary_of(config: Config, census: Census) -> Summary:
    """The summary that a config asks for, by budget or by hand.

    Raises:
        UserError: too many tree sets are as frequent as asked.
    """
    if config.summary == "mixtures":
        if config.trees:
            return mixture_summary(census, config.trees, config.components, labels=config.labels, seed=config.seed)
        return mixture_within(census, config.max_bytes, labels=config.labels, seed=config.seed)
    options: dict[str, Any] = {
        "keep": config.keep,
        "multiplicities": config.multiplicities,
        "only_exclusive": config.exclusive,
        "class_prior": config.class_prior,
        "root_mask": config.mask_itemsets,
    }
    if config.support:
        kept_graphs = [int((census.classes == c).sum()) for c in range(len(census.class_names))]
        supports = [max(1, round(config.support * graphs)) for graphs in kept_graphs]
        try:
            return itemset_summary(census, np.array(supports), **options)
        except TooManySets as error:
            raise UserError(
                f"more than 100,000 tree sets are in {config.support:.0%} of a class", "raise --support"
            ) from error
    return itemset_within(census, config.max_bytes, **options)


def recipe_of(config: Config) -> Recipe:
    """How every arm's network is made and trained."""
    return Recipe(
        config.network,
        config.hops if config.layers == 0 else config.layers,
        config.width,
        config.dropout,
        config.updates,
        config.learning_rates,
        config.weight_decay,
    )


def _summarised(config: Config, split: Split, words: Words, run: Run) -> tuple[Summary, float]:
    """The summary, its file in the model folder, and the seconds it took; read back where it is there already."""
    file = run.model_folder / "summary.mirage"

    def make() -> dict[str, float]:
        started = time.monotonic()
        summary = summarise(split.train, config, words, quiet=run.quiet)
        seconds = time.monotonic() - started
        write_summary(summary, file)
        return {"seconds": seconds}

    taken = run.kept("summary", make)
    return read_summary(file), float(taken["seconds"])


def _trained(summary: Summary, split: Split, recipe: Recipe, run: Run) -> tuple[Student, Score, float]:
    """The network trained on the summary, at the learning rate and update best on select; seconds of one training."""
    material = summary.material()
    exams = summary.exam(split.select), summary.exam(split.report)
    tried = [_trained_at(rate, material, exams, recipe, summary.classes, run) for rate in recipe.learning_rates]
    model, best, _ = max(tried, key=lambda one: one[1].score.select)
    best.restore(model)
    return Student(summary, model, recipe), best.score, sum(one[2].seconds for one in tried) / len(tried)


def _trained_at(
    learning_rate: float, material: Material, exams: tuple[Exam, Exam], recipe: Recipe, classes: int, run: Run
) -> tuple[GraphClassifier, BestSoFar, Fitted]:
    """One training, a stage of its own."""
    seed_everything("classifier", run.seed)
    model = make_classifier(recipe, material.graph, classes)
    optimizer = make_optimizer(model, recipe, learning_rate)
    best = BestSoFar()
    fitted = fit(
        _step(model, optimizer, material, run.seed),
        {"student": model, "optimizer": optimizer, "best": best},
        recipe.updates,
        run,
        stage=f"student at {learning_rate:g}",
        evaluate=_evaluate(model, best, *exams),
        evaluate_at=recipe.due(),
    )
    return model, best, fitted


def _step(
    model: GraphClassifier, optimizer: torch.optim.Optimizer, material: Material, seed: int
) -> Callable[[int], dict[str, torch.Tensor]]:
    return lambda update: {"student": update_classifier(model, optimizer, material, update, seed)}


def _evaluate(model: GraphClassifier, best: BestSoFar, select: Exam, report: Exam) -> Callable[[int, float], None]:
    return lambda update, _seconds: best.see(update, exam_auc(model, select), exam_auc(model, report), model)

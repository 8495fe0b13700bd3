"""Arms of a comparison on one split: every one gets the same recipe, the same checkpoint rule and the same exams."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from stillhouse.graphs.budget import frequent_trees
from stillhouse.graphs.census import Census, take_census
from stillhouse.graphs.controls import Control, count_regression, size_alone, weisfeiler_lehman
from stillhouse.graphs.coresets import graphs_within, herding_order, k_centre_order, pack_graphs, random_order
from stillhouse.graphs.data import GraphSet, Ints, Split
from stillhouse.graphs.material import Material, all_nodes, graphs_graph, real_material
from stillhouse.graphs.networks import GraphClassifier
from stillhouse.graphs.summary import Summary
from stillhouse.graphs.training import (
    Exam,
    Recipe,
    Score,
    train_and_score,
    train_classifier,
    untrained,
)
from stillhouse.graphs.trees import grow_trees
from stillhouse.graphs.words import Words

EVIDENCE_MARGIN = 0.02
"""A trained row that does not clear the untrained control by this much AUC is no evidence."""


@dataclass(frozen=True)
class Row:
    """One arm's figures."""

    select: float
    report: float
    last: float
    bytes: int
    distil_seconds: float
    train_seconds: float
    """Of one training; every learning rate that is tried costs as much again."""
    best_update: int = 0
    note: str = ""


@dataclass(frozen=True)
class Arms:
    """Everything that the arms of one split share."""

    split: Split
    words: Words
    recipe: Recipe
    hops: int
    seed: int
    leaf_degrees: bool = False
    """Whole graphs' trees keep leaf degrees (for a symmetric GCN)."""

    @property
    def classes(self) -> int:
        """How many classes the graphs have."""
        return len(self.split.train.class_names)

    @cached_property
    def exams(self) -> tuple[Exam, Exam]:
        """Select and report graphs, all nodes pooled."""
        select, report = (
            Exam(graphs_graph(part, self.words), all_nodes(part), part.classes)
            for part in (self.split.select, self.split.report)
        )
        return select, report

    @cached_property
    def census(self) -> Census:
        """Trees of the training graphs."""
        return take_census([self.split.train], self.words, self.hops, seed=self.seed)

    @cached_property
    def full_bytes(self) -> int:
        """Compressed bytes of the training graphs."""
        return len(pack_graphs(self.split.train, self.words))

    @cached_property
    def tree_counts(self) -> np.ndarray:
        """[graphs, 200] log(1 + counts) of the most frequent trees: features of the training-free coresets."""
        return np.log1p(self.census.bags[:, frequent_trees(self.census)[:200]].toarray())

    @cached_property
    def _full(self) -> tuple[Score, GraphClassifier, float]:
        """Score and network of full data, and the seconds of one training."""
        started = time.monotonic()
        material = self._whole(self.split.train)
        score, model = train_classifier(material, self.recipe, *self.exams, self.classes, self.seed)
        return score, model, (time.monotonic() - started) / len(self.recipe.learning_rates)

    def full(self) -> Row:
        """The network trained on all training graphs."""
        score, _, seconds = self._full
        return _row(score, self.full_bytes, 0.0, seconds)

    def on_summary(self, summary: Summary, size: int, seconds: float) -> Row:
        """The network trained on a summary."""
        select, report = summary.exam(self.split.select), summary.exam(self.split.report)
        return self._trained(summary.material(), size, seconds, (select, report))

    def on_graphs(self, order: Ints, max_bytes: int, seconds: float = 0.0) -> Row:
        """The network trained on the first whole graphs of an order that fit."""
        kept = graphs_within(self.split.train, self.words, order, max_bytes)
        row = self._trained(self._whole(kept), len(pack_graphs(kept, self.words)), seconds)
        return replace(row, note=f"{kept.graphs} graphs")

    def on_material(self, material: Material, size: int, seconds: float) -> Row:
        """The network trained on anything else."""
        return self._trained(material, size, seconds)

    def random(self, max_bytes: int) -> Row:
        """Random whole graphs."""
        return self.on_graphs(random_order(self.split.train, self.seed), max_bytes)

    def herding(self, max_bytes: int, *, embeddings: bool = False) -> Row:
        """Whole graphs by herding, on tree counts or on the full-data network's pooled states."""
        features, seconds = self._features(embeddings)
        return self.on_graphs(herding_order(self.split.train, features), max_bytes, seconds)

    def k_centre(self, max_bytes: int, *, embeddings: bool = False) -> Row:
        """Whole graphs by greedy k-centre."""
        features, seconds = self._features(embeddings)
        return self.on_graphs(k_centre_order(self.split.train, features, self.seed), max_bytes, seconds)

    def untrained(self) -> Row:
        """The best of ten untrained networks, chosen on select."""
        return _row(untrained(self.recipe, self.exams[0].graph, *self.exams, self.classes, self.seed), 0, 0.0, 0.0)

    def size_alone(self) -> Row:
        """Logistic regression on graph size."""
        return _control(size_alone(self.split))

    def prior(self) -> Row:
        """The class prior: every graph gets the same shares."""
        return Row(0.5, 0.5, 0.5, 0, 0.0, 0.0)

    def count_regression(self, trees: int = 200) -> Row:
        """Logistic regression on the counts of the most frequent trees."""
        bare = Summary(
            "mixtures",
            self.words,
            self.census.class_names,
            self.census.graph_counts,
            self.census.table.restrict(frequent_trees(self.census)[:trees]),
        )
        counts = (bare.counts(self.split.train), bare.counts(self.split.select), bare.counts(self.split.report))
        return _control(count_regression(self.split, counts))

    def weisfeiler_lehman(self) -> Row:
        """SVM on the Weisfeiler-Lehman subtree kernel."""
        return _control(weisfeiler_lehman(self.split, self.words, self.hops))

    def _whole(self, graphs: GraphSet) -> Material:
        return whole_material(graphs, self.words, self.hops, leaf_degrees=self.leaf_degrees)

    def _trained(self, material: Material, size: int, seconds: float, exams: tuple[Exam, Exam] | None = None) -> Row:
        started = time.monotonic()
        score = train_and_score(material, self.recipe, *(exams or self.exams), self.classes, self.seed)
        return _row(score, size, seconds, (time.monotonic() - started) / len(self.recipe.learning_rates))

    def _features(self, embeddings: bool) -> tuple[np.ndarray, float]:
        if not embeddings:
            return self.tree_counts, 0.0
        _, model, seconds = self._full
        material = self._whole(self.split.train)
        counts, _ = material.draw(0, 0)
        with torch.no_grad():
            return (counts @ model.states(material.graph)[material.graph.roots]).numpy(), seconds


def whole_material(graphs: GraphSet, words: Words, hops: int, *, leaf_degrees: bool = False) -> Material:
    """Whole graphs over their own distinct trees: the same training as on the graphs themselves."""
    table, ids = grow_trees(graphs, words.of_nodes(graphs), words.of_edges(graphs), hops, leaf_degrees=leaf_degrees)
    return real_material(graphs, words, table, ids)


def no_evidence(auc: float, untrained_auc: float) -> bool:
    """Whether a trained row fails to clear the untrained control."""
    return auc < untrained_auc + EVIDENCE_MARGIN


def _row(score: Score, size: int, distil_seconds: float, train_seconds: float) -> Row:
    return Row(score.select, score.report, score.last, size, distil_seconds, train_seconds, score.best_update)


def _control(control: Control) -> Row:
    return Row(control.select, control.report, control.report, 0, 0.0, 0.0)

"""A distilled graph data set: trees, what of them goes together in each class, and everything needed to train on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch

from stillhouse.core.seeding import derive_seed
from stillhouse.graphs.census import grow_chunk
from stillhouse.graphs.data import Floats, GraphSet, Ints
from stillhouse.graphs.itemsets import FrequentSet
from stillhouse.graphs.material import (
    Batch,
    Material,
    all_nodes,
    graphs_graph,
    in_vocabulary,
    masked_nodes,
    table_graph,
)
from stillhouse.graphs.mixtures import Mixture, Rule, draw_counts
from stillhouse.graphs.training import Exam
from stillhouse.graphs.trees import TreeTable, bags, match_trees
from stillhouse.graphs.words import Words

Kind = Literal["mixtures", "itemsets"]


@dataclass(frozen=True)
class Summary:
    """What a `.mirage` file holds."""

    kind: Kind
    words: Words
    class_names: tuple[str, ...]
    graph_counts: Ints
    """[classes], training graphs: the class prior."""
    vocabulary: TreeTable
    """Trees by falling frequency, and the subtrees they share."""
    leaf_degrees: bool = False
    """Leaves are told apart by degree too (what a symmetric GCN needs)."""
    root_mask: bool = True
    """At evaluation only nodes whose tree is in the vocabulary are pooled."""
    class_prior: bool = True
    """Classes are drawn by `graph_counts`; else by the sum of their sets' supports."""
    mixtures: tuple[Mixture, ...] = ()
    """One a class, where kind is "mixtures"."""
    rule: Rule | None = None
    """Labels drawn bags with class shares; None labels them with the class they were drawn from."""
    itemsets: tuple[tuple[FrequentSet, ...], ...] = ()
    """One tuple a class, where kind is "itemsets"."""

    @property
    def hops(self) -> int:
        """Depth of the trees: the most layers that a network may have."""
        return self.vocabulary.hops

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def counts(self, graphs: GraphSet) -> sp.csr_array:
        """[graphs, trees] how often each tree of the vocabulary is in each real graph."""
        _, table, ids = grow_chunk(graphs, self.words, self.hops, self.leaf_degrees)
        return bags(match_trees(self.vocabulary, table)[ids], graphs, self.vocabulary.trees)

    def exam(self, graphs: GraphSet) -> Exam:
        """Untouched real graphs to be classified, pooled as this summary asks."""
        graph = graphs_graph(graphs, self.words)
        if not self.root_mask:
            return Exam(graph, all_nodes(graphs), graphs.classes)
        _, table, ids = grow_chunk(graphs, self.words, self.hops, self.leaf_degrees)
        return Exam(graph, masked_nodes(graphs, in_vocabulary(self.vocabulary, table, ids)), graphs.classes)

    def coverage(self, graphs: GraphSet) -> float:
        """Share of the nodes of real graphs whose tree is in the vocabulary."""
        return float(self.counts(graphs).sum() / graphs.nodes)

    def material(self, batch: int = 256) -> Material:
        """Training material for any network of at most `hops` layers: batches of drawn bags without end."""
        return Material(table_graph(self.vocabulary, self.words), lambda update, seed: self.draw(batch, update, seed))

    def draw(self, batch: int, update: int, seed: int) -> Batch:
        """Counts [batch, trees] and targets, classes or class shares; the same for the same update and seed."""
        random = np.random.default_rng(derive_seed("draw", seed, update))
        per_class = random.multinomial(batch, self.prior())
        drawn = np.concatenate([self._draw_class(c, int(n), random) for c, n in enumerate(per_class)])
        if self.rule is not None:
            return torch.from_numpy(drawn), torch.from_numpy(self.rule.shares(drawn))
        return torch.from_numpy(drawn), torch.from_numpy(np.repeat(np.arange(self.classes), per_class))

    def prior(self) -> np.ndarray:
        """[classes] how often each class is drawn."""
        weights = self.graph_counts
        if not self.class_prior:
            weights = np.array([sum(found.support for found in sets) for sets in self.itemsets])
        return weights / weights.sum()

    def _draw_class(self, c: int, bags_wanted: int, random: np.random.Generator) -> Floats:
        if self.kind == "mixtures":
            return draw_counts(self.mixtures[c], bags_wanted, random)
        drawn = np.zeros((bags_wanted, self.vocabulary.trees), dtype=np.float32)
        if not bags_wanted:
            return drawn
        supports = np.array([found.support for found in self.itemsets[c]], dtype=float)
        for row, which in enumerate(random.choice(len(supports), bags_wanted, p=supports / supports.sum())):
            for tree, copies in self.itemsets[c][which].items:
                drawn[row, tree] = copies
        return drawn

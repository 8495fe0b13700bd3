"""Whether a summary of trees can work on a data set, told before distilling: how skewed its trees are, and what they tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillhouse.graphs.budget import frequent_trees
from stillhouse.graphs.census import Census, grow_chunk, take_census
from stillhouse.graphs.controls import cross_validated
from stillhouse.graphs.data import GraphSet, Split
from stillhouse.graphs.trees import bags, match_trees
from stillhouse.graphs.words import Words

TOP = (10, 50, 200)
ENOUGH_COVERAGE = 0.5
"""Held-out nodes within the top 200 trees; below it a summary of that vocabulary sees too little of a graph."""
ENOUGH_GAIN = 0.02
"""AUC that tree counts must add to size alone."""


@dataclass(frozen=True)
class Skew:
    """Measured on training graphs; coverage on held-out ones."""

    hops: int
    nodes: int
    distinct: int
    unrolled: float
    """Mean nodes of a tree that is written out."""
    coverage: tuple[float, ...]
    """Share of held-out nodes whose tree is among the top 10, 50 and 200."""
    counts_auc: float
    """Cross-validated AUC of logistic regression on the counts of the top 200 trees: the upper line."""
    size_auc: float
    """The same on the number of nodes and edges alone."""

    @property
    def share(self) -> float:
        """Distinct trees per node."""
        return self.distinct / self.nodes

    @property
    def verdict(self) -> str:
        """In words, what to expect."""
        if self.coverage[-1] < ENOUGH_COVERAGE:
            return f"not skewed: the top {TOP[-1]} trees cover {self.coverage[-1]:.0%} of nodes; use fewer hops or coarser words"
        if not self.counts_auc >= self.size_auc + ENOUGH_GAIN:
            return "skewed, but tree counts tell no more than size alone"
        return "skewed, and tree counts tell the classes apart"


def measure_skew(split: Split, words: Words, hops: int) -> Skew:
    """Skew of a data set at one depth; nothing of the report split is used."""
    census = take_census([split.train], words, hops)
    top = frequent_trees(census)[: TOP[-1]]
    unrolled = float(census.node_counts.sum(1) @ census.table.unrolled_nodes() / split.train.nodes)
    return Skew(
        hops,
        split.train.nodes,
        census.table.trees,
        unrolled,
        tuple(coverage(census, split.select, k) for k in TOP),
        cross_validated(census.bags[:, top].toarray(), census.classes),
        cross_validated(np.stack([split.train.sizes, np.diff(split.train.edge_offsets)], 1), split.train.classes),
    )


def coverage(census: Census, held_out: GraphSet, trees: int) -> float:
    """Share of held-out nodes whose tree is among the most frequent ones."""
    vocabulary = census.table.restrict(frequent_trees(census)[:trees])
    _, table, ids = grow_chunk(held_out, census.words, census.table.hops, census.leaf_degrees)
    return float(bags(match_trees(vocabulary, table)[ids], held_out, vocabulary.trees).sum() / held_out.nodes)

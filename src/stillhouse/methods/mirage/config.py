"""Options of Mirage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillhouse.core.errors import require


@dataclass(frozen=True)
class Config:
    """Distil a graph data set."""

    data: str = "motifs"
    """motifs (generated), a TU zip or folder, a CSV of SMILES, a folder of GraphML or edge lists, tox21, hiv, or a TU set's name."""
    smiles_column: str = "smiles"
    """Column of a CSV with SMILES."""
    label_column: str = ""
    """Column of a CSV with classes; the last one with few values by default."""
    graphs: int = 600
    """How many graphs to generate for motifs."""
    hops: int = 2
    """Depth of the computation trees, 1 to 4: the most layers that a network trained on the summary may have."""
    node_words: Literal["auto", "labels", "attributes", "both", "degree", "degree-buckets"] = "auto"
    """What of a node its word is made of; auto takes labels, else attributes, else degrees."""
    edge_words: Literal["auto", "labels", "none"] = "auto"
    """Whether trees tell edges of different labels apart; gin, gat, gcn and sage do not look at them, gine does."""
    codes: int = 32
    """Codewords that continuous attributes are quantised to."""
    gcn_exact: bool = False
    """Tell leaves of different degree apart, which a symmetrically normalised GCN needs; costs bytes."""
    summary: Literal["mixtures", "itemsets"] = "mixtures"
    """mixtures keeps counts of frequent trees; itemsets is the paper's: frequent tree sets."""
    max_bytes: int = 2000
    """Size of the summary's file; the number of trees and components, or the support, follows from it."""
    trees: int = 0
    """Vocabulary of a mixture by hand; 0 leaves it to max_bytes."""
    components: int = 16
    """Components a class of a mixture, where trees is set by hand."""
    labels: Literal["rule", "class"] = "rule"
    """What a mixture's drawn bags are labelled with: shares by a stored logistic rule, or the class they are drawn from."""
    support: float = 0.0
    """Smallest share of a class's graphs that a tree set must be in, by hand; 0 leaves it to max_bytes."""
    keep: Literal["all", "closed", "maximal"] = "all"
    """Which frequent tree sets are stored."""
    multiplicities: bool = False
    """Tree sets keep how often a tree is in a graph (the released code drops it)."""
    class_prior: bool = False
    """Tree sets are drawn by the classes' sizes (as published: by the sum of their supports)."""
    exclusive: bool = False
    """Drop tree sets that are frequent in two classes, as the released NCI1 script does."""
    mask_itemsets: bool = False
    """Pool only known trees at evaluation of tree sets too (mixtures always do)."""
    network: str = "gin"
    """gin, gat, gcn, sage, gine, symmetric-gcn, or your own as package.module:function(features, edge_features, width, layers)."""
    layers: int = 0
    """Layers of the network; 0 takes as many as hops."""
    width: int = 64
    """Width of the network."""
    dropout: float = 0.0
    """Dropout on the pooled vector."""
    updates: int = 400
    """Optimizer updates of every arm's network."""
    learning_rates: tuple[float, ...] = (3e-3, 1e-2)
    """Adam's learning rates: every arm's network is trained at each, and the best on the select split counts."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    compare: Literal["all", "controls", "none"] = "all"
    """Arms beside the summary: all, or only the controls without which no figure is evidence, or none."""
    workers: int = 1
    """Processes that grow trees."""
    max_trees: int = 1_000_000
    """Distinct trees held in memory; beyond it the rarest are dropped and the report says how rare."""
    max_graphs: int = 20_000
    """Graphs of each class whose tree counts are held in memory; beyond it a uniform sample."""
    seed: int = 0
    """Seed of the split, the summary and the networks."""

    def __post_init__(self) -> None:
        require(1 <= self.hops <= 4, f"hops is {self.hops}", "choose 1 to 4")
        require(
            0 <= self.layers <= self.hops,
            f"{self.layers} layers on trees of {self.hops} hops",
            "a network may have at most as many layers as the trees have hops",
        )
        require(0 <= self.support <= 1, f"support is {self.support}", "give a share of the class, 0 to 1")
        require(self.updates >= 1 and self.width >= 1, "updates or width below 1", "give one or more")
        require(
            len(self.learning_rates) > 0 and min(self.learning_rates) > 0,
            f"learning_rates is {self.learning_rates}",
            "give one or more numbers above 0",
        )
        require(self.workers >= 1 and self.codes >= 1, "workers or codes below 1", "give one or more")
        require(
            self.network != "symmetric-gcn" or self.gcn_exact,
            "a symmetric GCN needs the degree of every leaf",
            "add --gcn-exact, or use gcn (normalised by rows)",
        )
        chosen_by_hand = self.trees > 0 if self.summary == "mixtures" else self.support > 0
        require(
            self.max_bytes > 0 or chosen_by_hand,
            "neither max_bytes nor a size by hand is given",
            "set --max-bytes, or --trees (mixtures), or --support (itemsets)",
        )

"""What a graph classifier is trained on: nodes and edges, which nodes are roots, and bags of roots with a class each.

A tree table becomes one graph: a node for every distinct subtree of every depth, an edge from each child to its tree
for every copy. After k <= L layers a node of depth >= k holds the state that its root has in any real graph, so a whole
training set costs as much as its distinct subtrees, once a layer, whatever the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from stillhouse.graphs.data import GraphSet, Ints
from stillhouse.graphs.trees import Level, TreeTable, bags, match_trees
from stillhouse.graphs.words import Words

Batch = tuple[Tensor, Tensor]
"""counts [graphs, roots] (dense or sparse) and targets [graphs] (classes) or [graphs, classes] (shares)."""


@dataclass(frozen=True)
class NodeGraph:
    """One graph that an encoder runs over."""

    x: Tensor
    """[nodes, features]."""
    edge_index: Tensor
    """[2, edges]."""
    edge_attr: Tensor
    """[edges, edge features]."""
    roots: Tensor
    """[trees], the node that stands for each tree."""
    degrees: Tensor
    """[nodes], true degree of the node; of a tree's leaf only where the table keeps leaf degrees, else 0."""


@dataclass(frozen=True)
class Material:
    """Training material: a graph, and `draw(update, seed)` -> a batch of bags over its roots."""

    graph: NodeGraph
    draw: Callable[[int, int], Batch]


def table_graph(table: TreeTable, words: Words) -> NodeGraph:
    """The DAG of a tree table as one graph."""
    starts = np.cumsum([0] + [len(level) for level in table.levels])
    sources, targets, edge_words = [], [], []
    for depth, level in enumerate(table.levels[1:], start=1):
        sources.append(np.repeat(level.children, level.copies) + starts[depth - 1])
        targets.append(np.repeat(level.owners, level.copies) + starts[depth])
        edge_words.append(np.repeat(level.edge_words, level.copies))
    return node_graph(
        words,
        np.concatenate([level.words for level in table.levels]),
        np.concatenate(sources),
        np.concatenate(targets),
        np.concatenate(edge_words),
        np.arange(starts[-2], starts[-1]),
        np.concatenate([level.degrees if depth == 0 else _degrees(level) for depth, level in enumerate(table.levels)]),
    )


def node_graph(
    words: Words, nodes: Ints, sources: Ints, targets: Ints, edges: Ints, roots: Ints, degrees: Ints
) -> NodeGraph:
    """A graph from node words, edges and edge words."""
    return NodeGraph(
        torch.from_numpy(words.features()[nodes]),
        torch.from_numpy(np.stack([sources, targets])),
        torch.from_numpy(words.edge_features()[edges]),
        torch.from_numpy(roots),
        torch.from_numpy(degrees),
    )


def graphs_graph(graphs: GraphSet, words: Words) -> NodeGraph:
    """Real graphs side by side, every node a root."""
    return node_graph(
        words,
        words.of_nodes(graphs),
        graphs.sources,
        graphs.targets,
        words.of_edges(graphs),
        np.arange(graphs.nodes),
        graphs.degrees,
    )


def all_nodes(graphs: GraphSet) -> Tensor:
    """[graphs, nodes] sparse: sum pooling over all nodes of each graph."""
    return sparse_tensor(bags(np.arange(graphs.nodes), graphs, graphs.nodes))


def masked_nodes(graphs: GraphSet, known: np.ndarray) -> Tensor:
    """[graphs, nodes] sparse: sum pooling over the nodes where `known` holds (the root mask)."""
    return sparse_tensor(bags(np.where(known, np.arange(graphs.nodes), -1), graphs, graphs.nodes))


def in_vocabulary(vocabulary: TreeTable, table: TreeTable, ids: Ints) -> np.ndarray:
    """[nodes], whether each node's tree is in the vocabulary.

    Args:
        vocabulary: the summary's trees.
        table, ids: the trees of some graphs, and each node's tree.
    """
    return match_trees(vocabulary, table)[ids] >= 0


def fixed(graph: NodeGraph, counts: Tensor, targets: Tensor) -> Material:
    """Material that is the same batch at every update."""
    return Material(graph, lambda update, seed: (counts, targets))


def real_material(graphs: GraphSet, words: Words, table: TreeTable, ids: Ints) -> Material:
    """Whole real graphs as bags over their own trees: the same training as on the graphs, in less time."""
    counts = sparse_tensor(bags(ids, graphs, table.trees))
    return fixed(table_graph(table, words), counts, torch.from_numpy(graphs.classes))


def sparse_tensor(matrix: sp.csr_array) -> Tensor:
    """A scipy matrix as a torch COO tensor of floats."""
    coo = matrix.tocoo()
    place = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
    values = torch.from_numpy(coo.data.astype(np.float32))
    return torch.sparse_coo_tensor(place, values, coo.shape, check_invariants=False).coalesce()


def _degrees(level: Level) -> Ints:
    return np.bincount(level.owners, level.copies, minlength=len(level)).astype(np.int64)

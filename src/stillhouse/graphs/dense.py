"""Padded dense graphs with real-valued features: what gradient-based condensers learn, and what they cost in bytes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stillhouse.core.seeding import derive_seed
from stillhouse.graphs.codec import numbers
from stillhouse.graphs.data import GraphSet
from stillhouse.graphs.material import Material, NodeGraph, fixed
from stillhouse.graphs.words import Words


@dataclass(frozen=True)
class DenseGraphs:
    """Graphs of one padded size."""

    x: Tensor
    """[graphs, nodes, features]."""
    adjacency: Tensor
    """[graphs, nodes, nodes]."""
    mask: Tensor
    """[graphs, nodes], 1 where there is a node."""
    classes: Tensor
    """[graphs]."""

    def material(self) -> Material:
        """Training material for any network."""
        there = self.mask.bool()
        place = torch.full(there.shape, -1, dtype=torch.long)
        place[there] = torch.arange(int(there.sum()))
        graph, target, source = (self.adjacency > 0.5).nonzero(as_tuple=True)
        edges = torch.stack([place[graph, source], place[graph, target]])
        edges = edges[:, (edges >= 0).all(0)]
        owner = torch.arange(len(self.x)).unsqueeze(1).expand_as(place)[there]
        nodes = len(owner)
        counts = torch.zeros(len(self.x), nodes)
        counts[owner, torch.arange(nodes)] = 1
        degrees = torch.bincount(edges[1], minlength=nodes)
        node_graph = NodeGraph(self.x[there], edges, torch.ones(edges.shape[1], 1), torch.arange(nodes), degrees)
        return fixed(node_graph, counts, self.classes)

    def packed(self) -> bytes:
        """The smallest plain file: features as 16-bit floats, adjacency as bits, deflated."""
        size = self.x.shape[1]
        upper = np.triu_indices(size, 1)
        bits = np.packbits(self.adjacency.numpy()[:, upper[0], upper[1]] > 0.5)
        sizes = numbers([*self.mask.sum(1).int().tolist(), *self.classes.tolist()])
        return zlib.compress(sizes + self.x[self.mask.bool()].numpy().astype("<f2").tobytes() + bits.tobytes(), 9)


def dense_real(graphs: GraphSet, words: Words, most_nodes: int) -> DenseGraphs:
    """Real graphs, padded to the largest, those beyond `most_nodes` cut off."""
    return _padded(graphs, words, min(most_nodes, int(graphs.sizes.max())))


def dense_start(graphs: GraphSet, words: Words, per_class: int, seed: int) -> DenseGraphs:
    """Random real graphs of at most the mean size, `per_class` of each class, padded to the mean size."""
    size = max(2, round(float(graphs.sizes.mean())))
    random = np.random.default_rng(derive_seed("dense start", seed))
    chosen: list[int] = []
    for c in range(len(graphs.class_names)):
        members = np.flatnonzero(graphs.classes == c)
        fitting = members[graphs.sizes[members] <= size]
        pool = fitting if len(fitting) >= per_class else members[np.argsort(graphs.sizes[members])][:per_class]
        chosen.extend(random.choice(pool, per_class, replace=len(pool) < per_class).tolist())
    picked = graphs.select(chosen)
    return _padded(picked, words, max(size, int(picked.sizes.max())))


def _padded(graphs: GraphSet, words: Words, size: int) -> DenseGraphs:
    graph = graphs.graph_of_node
    place = np.arange(graphs.nodes) - graphs.node_offsets[:-1][graph]
    features = words.features()[words.of_nodes(graphs)]
    x = np.zeros((graphs.graphs, size, features.shape[1]), dtype=np.float32)
    inside = place < size
    x[graph[inside], place[inside]] = features[inside]
    mask = np.zeros((graphs.graphs, size), dtype=np.float32)
    mask[graph[inside], place[inside]] = 1
    adjacency = np.zeros((graphs.graphs, size, size), dtype=np.float32)
    edge = inside[graphs.sources] & inside[graphs.targets]
    sources, targets = graphs.sources[edge], graphs.targets[edge]
    adjacency[graph[targets], place[targets], place[sources]] = 1
    return DenseGraphs(*map(torch.from_numpy, (x, adjacency, mask, graphs.classes)))

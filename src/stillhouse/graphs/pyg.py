"""Graphs to and from torch-geometric, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data

from stillhouse.core.errors import require
from stillhouse.graphs.data import GraphSet, make_graph_set, number_classes


def from_pyg(dataset: Sequence[Any], name: str = "dataset") -> GraphSet:
    """A torch-geometric data set (or list of `Data`) as a `GraphSet`.

    Node features that are one-hot, or whole numbers, are labels; others are continuous attributes. Likewise edges, whose
    features must be one-hot or whole numbers. The class is `y`.

    Raises:
        UserError: a graph has no class or no node, or edge features are continuous.
    """
    graphs = list(dataset)
    require(bool(graphs), f"{name} has no graphs", "give a data set with graphs in it")
    for i, graph in enumerate(graphs):
        require(graph.y is not None and graph.y.numel() == 1, f"{name}: graph {i} has no single class y", "set data.y")
    sizes = np.array([graph.num_nodes for graph in graphs])
    first = np.cumsum(sizes) - sizes
    edges = [graph.edge_index.numpy().astype(np.int64) + start for graph, start in zip(graphs, first, strict=True)]
    sources, targets = np.concatenate(edges, 1)
    labels, attributes = _labels(_stacked(graphs, "x"))
    edge_labels, edge_attributes = _labels(_stacked(graphs, "edge_attr"))
    require(edge_attributes is None, f"{name}: edge features are continuous", "drop edge_attr or round it to kinds")
    classes, class_names = number_classes([graph.y.item() for graph in graphs])
    return make_graph_set(
        name,
        np.repeat(np.arange(len(graphs)), sizes),
        sources,
        targets,
        classes,
        class_names,
        node_labels=labels,
        edge_labels=edge_labels,
        attributes=attributes,
    )


def to_pyg(graphs: GraphSet, x: torch.Tensor) -> list[Data]:
    """Each graph as a `Data` with these node features.

    Args:
        x: [nodes, features].
    """
    made = []
    for g in range(graphs.graphs):
        start, end = graphs.node_offsets[g : g + 2]
        edges = slice(*graphs.edge_offsets[g : g + 2])
        pairs = np.stack([graphs.sources[edges], graphs.targets[edges]]) - start
        made.append(Data(x=x[start:end], edge_index=torch.from_numpy(pairs), y=torch.tensor([int(graphs.classes[g])])))
    return made


def _stacked(graphs: list[Any], key: str) -> np.ndarray | None:
    if not all(key in graph for graph in graphs):
        return None
    parts = [graph[key] for graph in graphs]
    return torch.cat([part.reshape(len(part), -1) for part in parts]).numpy()


def _labels(values: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(labels, None) where rows are one-hot or whole numbers, else (None, attributes)."""
    if values is None or not values.shape[1]:
        return None, None
    whole = bool((values == np.round(values)).all())
    if whole and values.shape[1] > 1 and bool((values.sum(1) == 1).all()) and values.min() >= 0:
        return values.argmax(1), None
    if whole and values.shape[1] == 1:
        return values[:, 0].astype(np.int64), None
    if whole:
        return np.unique(values, axis=0, return_inverse=True)[1].ravel(), None
    return None, values.astype(np.float32)

"""Graph classifiers: an encoder that is any torch-geometric style module, a sum over roots, a linear head.

An encoder takes `(x, edge_index)`, and `edge_attr` or `degrees` too where its `forward` names them, and returns node states. Children
are the sources of edges, so a network of at most L layers sees in node v exactly its computation tree of depth L.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GINConv, GINEConv, SAGEConv

from stillhouse.core.errors import UserError, require
from stillhouse.graphs.material import NodeGraph

EncoderFactory = Callable[[int, int, int, int], nn.Module]
"""(features, edge features, width, layers) -> encoder with node states of `width`."""


class MeanGCNConv(nn.Module):
    """GCN with row normalisation: h_v' = W ( (h_v + sum_u h_u) / (1 + degree(v)) ); needs no degree but v's own."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, width)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        degree = torch.bincount(edge_index[1], minlength=len(x)).unsqueeze(1)
        return self.linear((x + _summed(x, edge_index)) / (1 + degree))


class SymmetricGCNConv(nn.Module):
    """GCN as published: h_v' = W sum_{u in N(v) and v} h_u / sqrt((1 + degree(u)) (1 + degree(v))).

    In a tree the degree of a leaf is part of hop L + 1, so trees must keep it (`leaf_degrees`) for this to be exact.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, width)

    def forward(self, x: Tensor, edge_index: Tensor, degrees: Tensor) -> Tensor:
        scaled = x * (1.0 + degrees).rsqrt().unsqueeze(1)
        return self.linear((scaled + _summed(scaled, edge_index)) * (1.0 + degrees).rsqrt().unsqueeze(1))


class DegreeStack(nn.Module):
    """Convolutions that need degrees, with ReLU after each."""

    def __init__(self, convolutions: list[nn.Module]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)

    def forward(self, x: Tensor, edge_index: Tensor, degrees: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = convolution(x, edge_index, degrees).relu()
        return x


class Stack(nn.Module):
    """Convolutions with ReLU after each."""

    def __init__(self, convolutions: list[nn.Module], *, edges: bool = False) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.edges = edges

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        for convolution in self.convolutions:
            x = (convolution(x, edge_index, edge_attr) if self.edges else convolution(x, edge_index)).relu()
        return x


def _gin(features: int, _: int, width: int, layers: int) -> nn.Module:
    return Stack([GINConv(_perceptron(n, width), train_eps=True) for n in _inputs(features, width, layers)])


def _gine(features: int, edge_features: int, width: int, layers: int) -> nn.Module:
    convolutions = [
        GINEConv(_perceptron(n, width), train_eps=True, edge_dim=edge_features)
        for n in _inputs(features, width, layers)
    ]
    return Stack(list(convolutions), edges=True)


def _gat(features: int, _: int, width: int, layers: int) -> nn.Module:
    # self-loops would be added to, or taken from, graphs and trees differently; the residual keeps the root instead
    heads = 4 if width % 4 == 0 else 1
    convolutions = [
        GATConv(n, width // heads, heads=heads, add_self_loops=False, residual=True)
        for n in _inputs(features, width, layers)
    ]
    return Stack(list(convolutions))


def _gcn(features: int, _: int, width: int, layers: int) -> nn.Module:
    return Stack([MeanGCNConv(n, width) for n in _inputs(features, width, layers)])


def _symmetric_gcn(features: int, _: int, width: int, layers: int) -> nn.Module:
    return DegreeStack([SymmetricGCNConv(n, width) for n in _inputs(features, width, layers)])


def _sage(features: int, _: int, width: int, layers: int) -> nn.Module:
    return Stack([SAGEConv(n, width, aggr="mean") for n in _inputs(features, width, layers)])


NETWORKS: dict[str, EncoderFactory] = {
    "gin": _gin,
    "gat": _gat,
    "gcn": _gcn,
    "sage": _sage,
    "gine": _gine,
    "symmetric-gcn": _symmetric_gcn,
}


def find_network(name: str) -> EncoderFactory:
    """A network by its name, or the user's own as "package.module:function", from the working folder too.

    Raises:
        UserError: there is no such network, module or function.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    module, colon, function = name.partition(":")
    require(bool(colon), f"no network {name!r}", f"choose {', '.join(NETWORKS)}, or give package.module:function")
    if "" not in sys.path:
        sys.path.append("")  # an installed command does not look into the working folder by itself
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"cannot find the network {name!r} ({error})", "give an importable package.module:function"
        ) from error


class GraphClassifier(nn.Module):
    """logits = head( dropout( sum over roots of copies x state ) ).

    Args:
        encoder: node states of `width` from `(x, edge_index)`, and `edge_attr` and `degrees` where it names them.
        width: of the node states.
        classes: number of classes.
        dropout: on the pooled vector.
    """

    def __init__(self, encoder: nn.Module, width: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))
        named = inspect.signature(encoder.forward).parameters
        self.extras = tuple(name for name in ("edge_attr", "degrees") if name in named)

    def states(self, graph: NodeGraph) -> Tensor:
        """[nodes, width]."""
        return self.encoder(graph.x, graph.edge_index, **{name: getattr(graph, name) for name in self.extras})

    def forward(self, graph: NodeGraph, counts: Tensor) -> Tensor:
        """[graphs, classes].

        Args:
            counts: [graphs, trees], dense or sparse, how often each of `graph.roots` is in each graph.
        """
        return self.head(counts @ self.states(graph)[graph.roots])


def _summed(x: Tensor, edge_index: Tensor) -> Tensor:
    """[nodes, width] sum over the sources of the edges that end in each node."""
    return torch.zeros_like(x).index_add(0, edge_index[1], x[edge_index[0]])


def _perceptron(features: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width))


def _inputs(features: int, width: int, layers: int) -> list[int]:
    return [features] + [width] * (layers - 1)

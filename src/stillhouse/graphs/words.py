"""From what a node and an edge carry to one number each, its word; learned on training graphs only.

A word is the node's label, the nearest of a few centres of its continuous attributes (a codebook, its error reported),
both together, or, where nodes carry nothing, its degree. What training never saw becomes one more word, `unknown`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.cluster import KMeans

from stillhouse.core.errors import UserError, require
from stillhouse.core.seeding import derive_seed
from stillhouse.graphs.data import Floats, GraphSet, Ints

NodeSource = Literal["labels", "attributes", "both", "degree", "degree-buckets"]
EdgeSource = Literal["labels", "none"]


@dataclass(frozen=True)
class Words:
    """How nodes and edges are read as words."""

    node_source: NodeSource
    labels: tuple[str, ...]
    """Names of node labels (or degrees), by word; ("",) where words are codes alone."""
    codebook: Floats
    """[codes, columns], centres in the attributes' own units; [0, 0] where attributes are not used."""
    scale: Floats
    """[columns], distances are measured after dividing by this."""
    edge_labels: tuple[str, ...]
    """Names of edge labels by edge word; empty where edges are not told apart."""
    error: float = 0.0
    """Share of the attributes' variance (in units of `scale`) that the codebook loses on the training graphs."""

    @property
    def codes(self) -> int:
        """Codewords of the codebook, 1 where there is none."""
        return max(1, len(self.codebook))

    @property
    def unknown(self) -> int:
        """The word of a node whose label training never saw."""
        return len(self.labels) * self.codes

    def of_nodes(self, graphs: GraphSet) -> Ints:
        """[nodes], 0 .. unknown.

        Raises:
            UserError: the graphs lack what the words are made of.
        """
        words = _positions(_names(graphs, self.node_source), self.labels)
        if not len(self.codebook):
            return words
        codes = self._nearest(_attributes(graphs, self.codebook.shape[1]))
        return np.where(words == len(self.labels), self.unknown, words * self.codes + codes)

    def of_edges(self, graphs: GraphSet) -> Ints:
        """[edges], 0 .. len(edge_labels); all 0 where edges are not told apart.

        Raises:
            UserError: the graphs have no edge labels, and the words use them.
        """
        if not self.edge_labels:
            return np.zeros(len(graphs.sources), dtype=np.int64)
        if graphs.edge_labels is None:
            raise UserError(f"{graphs.name} has no edge labels", "use data like that of the summary")
        return _positions(_value_names(graphs.edge_labels, graphs.edge_names), self.edge_labels)

    def features(self) -> Floats:
        """[unknown + 1, features] what a network sees of each word: one-hot labels beside codebook centres."""
        onehot = np.repeat(np.eye(len(self.labels), dtype=np.float32), self.codes, 0)
        if len(self.codebook):
            centred = (self.codebook - self.codebook.mean(0)) / self.scale
            centres = np.tile(centred, (len(self.labels), 1)).astype(np.float32)
            onehot = np.concatenate([onehot, centres], 1) if len(self.labels) > 1 else centres
        return np.concatenate([onehot, np.zeros((1, onehot.shape[1]), dtype=np.float32)])

    def edge_features(self) -> Floats:
        """[edge words + 1, edge words] one-hot; the last row, an unknown edge, is zero."""
        kinds = max(1, len(self.edge_labels))
        return np.eye(kinds + 1, kinds, dtype=np.float32)

    def name(self, word: int) -> str:
        """A word in print."""
        if word >= self.unknown:
            return "?"
        label, code = divmod(word, self.codes)
        return self.labels[label] + (f"~{code}" if len(self.codebook) else "")

    def _nearest(self, attributes: Floats) -> Ints:
        points, centres = attributes / self.scale, self.codebook / self.scale
        codes = np.empty(len(points), dtype=np.int64)
        for start in range(0, len(points), 65536):
            part = points[start : start + 65536]
            distances = (centres**2).sum(1) - 2 * part @ centres.T
            codes[start : start + 65536] = distances.argmin(1)
        return codes


def learn_words(
    graphs: GraphSet,
    *,
    nodes: NodeSource | Literal["auto"] = "auto",
    edges: EdgeSource | Literal["auto"] = "auto",
    codes: int = 32,
    seed: int = 0,
) -> Words:
    """Words of a training set. "auto" takes labels where there are any, else attributes, else degrees.

    Raises:
        UserError: the graphs lack what is asked for.
    """
    source = _node_source(graphs) if nodes == "auto" else nodes
    edge_source = ("none" if graphs.edge_labels is None else "labels") if edges == "auto" else edges
    edge_labels: tuple[str, ...] = ()
    if edge_source == "labels":
        if graphs.edge_labels is None:
            raise UserError(f"{graphs.name} has no edge labels", "use --edge-words none")
        edge_labels = _distinct(_value_names(graphs.edge_labels, graphs.edge_names))
        edge_labels = edge_labels if len(edge_labels) > 1 else ()
    labels = _distinct(_names(graphs, source))
    none = np.zeros((0, 0), dtype=np.float32)
    if source not in ("attributes", "both"):
        return Words(source, labels, none, np.ones(0, dtype=np.float32), edge_labels)
    codebook, scale, error = _quantise(_attributes(graphs), codes, seed)
    return Words(source, labels, codebook, scale, edge_labels, error)


def _node_source(graphs: GraphSet) -> NodeSource:
    if graphs.node_labels is not None:
        return "labels"
    return "attributes" if graphs.attributes is not None else "degree"


def _quantise(attributes: Floats, codes: int, seed: int) -> tuple[Floats, Floats, float]:
    """Codebook by k-means on attributes divided by their spread, and the share of variance it loses."""
    require(codes >= 1, f"codes is {codes}", "give one or more")
    spread = attributes.std(0)
    scale = np.where(spread > 0, spread, 1).astype(np.float32)
    points = attributes / scale
    sample = points
    if len(points) > 20_000:
        sample = points[np.random.default_rng(derive_seed("codebook", seed)).choice(len(points), 20_000, replace=False)]
    count = min(codes, len(np.unique(sample, axis=0)))
    fitted = KMeans(count, n_init=1, random_state=seed % 2**32).fit(sample)
    total = float(((sample - sample.mean(0)) ** 2).sum())
    error = float(fitted.inertia_) / total if total > 0 else 0.0
    return (fitted.cluster_centers_ * scale).astype(np.float32), scale, error


def _names(graphs: GraphSet, source: NodeSource) -> tuple[Ints, tuple[str, ...]]:
    """Each node's label as a number, and the distinct numbers' names in order of the numbers."""
    if source in ("labels", "both"):
        if graphs.node_labels is None:
            raise UserError(f"{graphs.name} has no node labels", "use --node-words attributes or degree")
        return _value_names(graphs.node_labels, graphs.node_names)
    if source == "degree":
        return _value_names(graphs.degrees, ())
    if source == "degree-buckets":
        return _value_names(np.floor(np.log2(graphs.degrees + 1)).astype(np.int64), ())
    return np.zeros(graphs.nodes, dtype=np.int64), ("",)


def _value_names(values: Ints, names: tuple[str, ...]) -> tuple[Ints, tuple[str, ...]]:
    distinct, position = np.unique(values, return_inverse=True)
    return position, tuple(names[v] if names else str(v) for v in distinct.tolist())


def _distinct(named: tuple[Ints, tuple[str, ...]]) -> tuple[str, ...]:
    return named[1]


def _positions(named: tuple[Ints, tuple[str, ...]], known: tuple[str, ...]) -> Ints:
    """Each value's place among `known`; len(known) where it is not there."""
    place = {name: i for i, name in enumerate(known)}
    return np.array([place.get(name, len(known)) for name in named[1]], dtype=np.int64)[named[0]]


def _attributes(graphs: GraphSet, columns: int | None = None) -> Floats:
    if graphs.attributes is None:
        raise UserError(f"{graphs.name} has no node attributes", "use --node-words labels or degree")
    require(
        columns in (None, graphs.attributes.shape[1]),
        f"{graphs.name} has {graphs.attributes.shape[1]} node attributes, the summary was made with {columns}",
        "use data like that of the summary",
    )
    return graphs.attributes

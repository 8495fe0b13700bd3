"""A set of graphs in flat arrays: the one form that every reader makes and everything else takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stillhouse.core.errors import UserError, require
from stillhouse.core.seeding import derive_seed

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GraphSet:
    """Many graphs in flat arrays, nodes and edges in the order of their graphs.

    An edge carries messages from its source to its target, as in torch-geometric: the children of a node in its
    computation tree are the sources of the edges that end in it. An undirected edge is two of them. Parallel edges and
    self-loops are kept.
    """

    name: str
    node_offsets: Ints
    """[graphs + 1]; graph g has the nodes node_offsets[g] .. node_offsets[g + 1] - 1."""
    edge_offsets: Ints
    """[graphs + 1], likewise for edges."""
    sources: Ints
    """[edges], node numbers within the whole set."""
    targets: Ints
    classes: Ints
    """[graphs], 0 .. len(class_names) - 1."""
    class_names: tuple[str, ...]
    node_labels: Ints | None = None
    edge_labels: Ints | None = None
    attributes: Floats | None = None
    """[nodes, columns], continuous."""
    node_names: tuple[str, ...] = ()
    """Names of node labels by value; empty where the values are their own names."""
    edge_names: tuple[str, ...] = ()

    @property
    def graphs(self) -> int:
        """Number of graphs."""
        return len(self.classes)

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return int(self.node_offsets[-1])

    @property
    def sizes(self) -> Ints:
        """Nodes by graph."""
        return np.diff(self.node_offsets)

    @property
    def graph_of_node(self) -> Ints:
        """[nodes], the graph that each node is in."""
        return np.repeat(np.arange(self.graphs), self.sizes)

    @property
    def degrees(self) -> Ints:
        """[nodes], edges that end in each node, self-loops and parallel edges counted."""
        return np.bincount(self.targets, minlength=self.nodes)

    @property
    def directed(self) -> bool:
        """Whether some edge lacks its reverse."""
        forth = np.sort(self.sources * self.nodes + self.targets)
        back = np.sort(self.targets * self.nodes + self.sources)
        return not np.array_equal(forth, back)

    def select(self, graphs: Sequence[int] | Ints) -> GraphSet:
        """The graphs with these numbers, in this order; class names stay."""
        chosen = np.asarray(graphs, dtype=np.int64)
        nodes = _spans(self.node_offsets, chosen)
        edges = _spans(self.edge_offsets, chosen)
        node_offsets = _offsets(np.diff(self.node_offsets)[chosen])
        edge_counts = np.diff(self.edge_offsets)[chosen]
        shift = np.repeat(node_offsets[:-1] - self.node_offsets[:-1][chosen], edge_counts)
        return replace(
            self,
            node_offsets=node_offsets,
            edge_offsets=_offsets(edge_counts),
            sources=self.sources[edges] + shift,
            targets=self.targets[edges] + shift,
            classes=self.classes[chosen],
            node_labels=None if self.node_labels is None else self.node_labels[nodes],
            edge_labels=None if self.edge_labels is None else self.edge_labels[edges],
            attributes=None if self.attributes is None else self.attributes[nodes],
        )

    def both_ways(self) -> GraphSet:
        """Each edge in both directions (for files that list an undirected edge once)."""
        edges = len(self.sources)
        graph = np.repeat(np.arange(self.graphs), np.diff(self.edge_offsets))
        return make_graph_set(
            self.name,
            self.graph_of_node,
            np.concatenate([self.sources, self.targets]),
            np.concatenate([self.targets, self.sources]),
            self.classes,
            self.class_names,
            node_labels=self.node_labels,
            edge_labels=None if self.edge_labels is None else np.tile(self.edge_labels, 2),
            attributes=self.attributes,
            node_names=self.node_names,
            edge_names=self.edge_names,
            graph_of_edge=np.tile(graph, 2)[: 2 * edges],
        )


def make_graph_set(
    name: str,
    graph_of_node: Ints,
    sources: Ints,
    targets: Ints,
    classes: Ints,
    class_names: Sequence[str],
    *,
    node_labels: Ints | None = None,
    edge_labels: Ints | None = None,
    attributes: Floats | None = None,
    node_names: Sequence[str] = (),
    edge_names: Sequence[str] = (),
    graph_of_edge: Ints | None = None,
) -> GraphSet:
    """Put nodes and edges in the order of their graphs; nodes may come in any order.

    Raises:
        UserError: an index is out of range, an edge joins two graphs, a length does not fit, a graph has no node.
    """
    nodes, graphs = len(graph_of_node), len(classes)
    _require_range(f"{name}: graph of a node", graph_of_node, graphs)
    _require_range(f"{name}: node of an edge", sources, nodes)
    _require_range(f"{name}: node of an edge", targets, nodes)
    for what, array, length in (
        ("node labels", node_labels, nodes),
        ("node attributes", attributes, nodes),
        ("edge labels", edge_labels, len(sources)),
    ):
        require(
            array is None or len(array) == length,
            f"{name}: {0 if array is None else len(array)} {what} for {length}",
            "the file must have a line for each",
        )
    require(
        attributes is None or bool(np.isfinite(attributes).all()),
        f"{name}: a node attribute is not a finite number",
        "remove or fill the missing values",
    )
    sizes = np.bincount(graph_of_node, minlength=graphs)
    require(bool((sizes > 0).all()), f"{name}: graph {int(np.argmin(sizes))} has no node", "remove it")
    require(
        bool((graph_of_node[sources] == graph_of_node[targets]).all()),
        f"{name}: an edge joins two graphs",
        "each edge must stay within one graph",
    )
    order = np.argsort(graph_of_node, kind="stable")
    place = np.empty(nodes, dtype=np.int64)
    place[order] = np.arange(nodes)
    of_edge = graph_of_node[sources] if graph_of_edge is None else graph_of_edge
    edge_order = np.argsort(of_edge, kind="stable")
    return GraphSet(
        name,
        _offsets(sizes),
        _offsets(np.bincount(of_edge, minlength=graphs)),
        place[sources[edge_order]],
        place[targets[edge_order]],
        np.asarray(classes, dtype=np.int64),
        tuple(class_names),
        None if node_labels is None else node_labels[order],
        None if edge_labels is None else edge_labels[edge_order],
        None if attributes is None else np.asarray(attributes, dtype=np.float32)[order],
        tuple(node_names),
        tuple(edge_names),
    )


def number_classes(labels: Sequence[object]) -> tuple[Ints, tuple[str, ...]]:
    """Classes 0 .. C - 1 and their names; numbers are put in numerical order, anything else by name."""
    names = [_plain(label) for label in labels]
    distinct = sorted(set(names), key=_number_or_name)
    position = {name: i for i, name in enumerate(distinct)}
    return np.array([position[name] for name in names], dtype=np.int64), tuple(distinct)


def rename_classes(graphs: GraphSet, class_names: tuple[str, ...]) -> GraphSet:
    """`graphs` with its classes numbered as in `class_names`.

    Raises:
        UserError: a class of `graphs` is not among them.
    """
    if graphs.class_names == class_names:
        return graphs
    missing = sorted(set(graphs.class_names) - set(class_names))
    require(
        not missing, f"{graphs.name} has the class {missing[:1]}, which the summary lacks", "distil with that class"
    )
    numbers = np.array([class_names.index(name) for name in graphs.class_names], dtype=np.int64)
    return replace(graphs, classes=numbers[graphs.classes], class_names=class_names)


@dataclass(frozen=True)
class Split:
    """Train, select (choosing) and report (reporting) parts; made before anything is fitted."""

    train: GraphSet
    select: GraphSet
    report: GraphSet


def split_graphs(graphs: GraphSet, seed: int, *, select: float = 0.1, report: float = 0.1) -> Split:
    """Split by class and seed; every class is in all three parts.

    Raises:
        UserError: fewer than two classes, or a class with fewer than three graphs.
    """
    require(len(graphs.class_names) >= 2, f"{graphs.name} has one class", "give graphs of two classes or more")
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for c, class_name in enumerate(graphs.class_names):
        members = np.flatnonzero(graphs.classes == c)
        require(
            len(members) >= 3,
            f"class {class_name!r} of {graphs.name} has {len(members)} graph(s)",
            "a class needs three, one each to train, choose and report on; leave the class out or add graphs",
        )
        members = np.random.default_rng(derive_seed("split", seed, c)).permutation(members)
        held = [max(1, round(len(members) * share)) for share in (select, report)]
        bounds = np.cumsum([len(members) - sum(held), *held])
        for part, chosen in zip(parts, np.split(members, bounds[:-1]), strict=True):
            part.extend(chosen.tolist())
    train, chosen_on, reported_on = (graphs.select(sorted(part)) for part in parts)
    return Split(train, chosen_on, reported_on)


def _spans(offsets: Ints, chosen: Ints) -> Ints:
    """Members offsets[c] .. offsets[c + 1] - 1 of each chosen c, one after the other."""
    lengths = np.diff(offsets)[chosen]
    starts = np.repeat(offsets[:-1][chosen] - (np.cumsum(lengths) - lengths), lengths)
    return starts + np.arange(lengths.sum())


def _offsets(lengths: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _require_range(what: str, values: Ints, bound: int) -> None:
    if len(values) and not (values.min() >= 0 and values.max() < bound):
        worst = int(values.max()) if values.max() >= bound else int(values.min())
        raise UserError(f"{what} is {worst} (counting from 0) where 0 to {bound - 1} exist", "mend or remove that line")


def _plain(label: object) -> str:
    text = str(label).strip()
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text


def _number_or_name(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name

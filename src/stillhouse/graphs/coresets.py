"""Baselines that keep whole real graphs: random, herding and k-centre, as many as fit a number of bytes.

Graphs are stored as compactly as the summaries are: class, size, node words and each edge once, unsigned LEB128, deflated.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable

import numpy as np

from stillhouse.core.seeding import derive_seed
from stillhouse.graphs.codec import numbers
from stillhouse.graphs.data import GraphSet, Ints
from stillhouse.graphs.words import Words


def pack_graphs(graphs: GraphSet, words: Words) -> bytes:
    """Whole graphs as the smallest plain file: header as in a summary, then sizes, words and edges in columns.

    A graph whose edges all have their reverse has each written once, as (target - source, source) within the graph; the
    few that are directed have every edge, the difference zigzag-coded.
    """
    header = json.dumps(
        {"classes": graphs.class_names, "labels": words.labels, "edges": words.edge_labels}, separators=(",", ":")
    ).encode()
    graph = np.repeat(np.arange(graphs.graphs), np.diff(graphs.edge_offsets))
    directed = _directed(graphs, graph)
    kept = directed[graph] | (graphs.sources <= graphs.targets)
    sources, targets, graph = graphs.sources[kept], graphs.targets[kept], graph[kept]
    gaps = targets - sources
    columns = [
        2 * graphs.classes + directed,
        graphs.sizes,
        np.bincount(graph, minlength=graphs.graphs),
        words.of_nodes(graphs),
        np.where(directed[graph], np.where(gaps >= 0, 2 * gaps, -2 * gaps - 1), gaps),
        sources - graphs.node_offsets[:-1][graph],
    ]
    if words.edge_labels:
        columns.append(words.of_edges(graphs)[kept])
    body = numbers([len(header)]) + header + b"".join(numbers(column.tolist()) for column in columns)
    return zlib.compress(body, 9)


FULL_ENOUGH = 0.95
"""Of the bytes allowed; beyond it no more graphs are tried."""
MOST_SKIPPED = 40


def graphs_within(graphs: GraphSet, words: Words, order: Ints, max_bytes: int) -> GraphSet:
    """The first graphs of `order` that fit, at least one of each class even where that is more.

    A graph that is too large for what is left is passed over, so that every coreset fills its bytes.

    Args:
        order: graph numbers, classes taking turns.
    """

    def size(count: int) -> int:
        return len(pack_graphs(graphs.select(order[:count]), words))

    kept = len(graphs.class_names)
    for _ in range(MOST_SKIPPED):
        kept = _most_that_fit(size, kept, len(order), max_bytes)
        if kept == len(order) or size(kept) >= FULL_ENOUGH * max_bytes:
            break
        order = np.delete(order, kept)
    return graphs.select(order[:kept])


def _most_that_fit(size: Callable[[int], int], low: int, high: int, max_bytes: int) -> int:
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(middle) <= max_bytes else (low, middle - 1)
    return low


def random_order(graphs: GraphSet, seed: int) -> Ints:
    """Each class shuffled, classes taking turns."""
    random = np.random.default_rng(derive_seed("random graphs", seed))
    return _turns(graphs, [random.permutation(_members(graphs, c)) for c in range(len(graphs.class_names))])


def herding_order(graphs: GraphSet, features: np.ndarray) -> Ints:
    """Each class by herding (Welling 2009): the next graph brings the mean of those chosen nearest the class mean.

    Args:
        features: [graphs, columns], e.g. tree counts or a trained network's pooled states.
    """
    return _turns(graphs, [_herd(features, _members(graphs, c)) for c in range(len(graphs.class_names))])


def k_centre_order(graphs: GraphSet, features: np.ndarray, seed: int) -> Ints:
    """Each class by greedy k-centre (Gonzalez 1985): the next graph is the one farthest from those chosen.

    Args:
        features: [graphs, columns].
    """
    random = np.random.default_rng(derive_seed("k-centre", seed))
    by_class = [_spread(features, _members(graphs, c), random) for c in range(len(graphs.class_names))]
    return _turns(graphs, by_class)


def _directed(graphs: GraphSet, graph: Ints) -> np.ndarray:
    """[graphs], whether some edge of the graph lacks its reverse."""
    forth = np.sort(graphs.sources * graphs.nodes + graphs.targets)
    back = np.sort(graphs.targets * graphs.nodes + graphs.sources)
    mismatch = np.bincount(graph[forth != back], minlength=graphs.graphs)
    return mismatch > 0


def _herd(features: np.ndarray, members: Ints, most: int = 500) -> Ints:
    points = features[members]
    mean, total = points.mean(0), np.zeros(points.shape[1])
    free = np.ones(len(members), dtype=bool)
    chosen = []
    for step in range(min(most, len(members))):
        distances = np.where(free, ((mean * (step + 1) - total - points) ** 2).sum(1), np.inf)
        best = int(distances.argmin())
        chosen.append(best)
        free[best] = False
        total += points[best]
    return members[chosen]


def _spread(features: np.ndarray, members: Ints, random: np.random.Generator, most: int = 500) -> Ints:
    points = features[members]
    chosen = [int(random.integers(len(members)))]
    nearest = ((points - points[chosen[0]]) ** 2).sum(1)
    for _ in range(min(most, len(members)) - 1):
        nearest[chosen[-1]] = -1
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(1))
    return members[chosen]


def _members(graphs: GraphSet, c: int) -> Ints:
    return np.flatnonzero(graphs.classes == c)


def _turns(graphs: GraphSet, by_class: list[Ints]) -> Ints:
    """Classes taking turns, in proportion to their size, the first graph of each class first."""
    firsts = [order[0] for order in by_class]
    rest = [(place / len(order), int(graph)) for order in by_class for place, graph in enumerate(order[1:], start=1)]
    return np.array([*firsts, *(graph for _, graph in sorted(rest))], dtype=np.int64)

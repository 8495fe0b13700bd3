"""A seeded generator of labelled motif graphs: the embedded default data, and a stream of any length.

Each graph is a random tree with skewed node labels, and some motifs hung on it. All classes have the same trees, sizes and
number of motifs; only which motifs (ring of five, ring of four with a tail, star, triangle with a tail) differs, so size
tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stillhouse.core.errors import require
from stillhouse.core.seeding import derive_seed
from stillhouse.graphs.data import GraphSet, make_graph_set

MOTIF_EDGES = np.array(
    [
        [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)],
        [(0, 1), (1, 2), (2, 3), (3, 0), (3, 4)],
        [(0, 1), (0, 2), (0, 3), (0, 4), (0, 4)],
        [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4)],
    ]
)
"""[motifs, edges, 2]; the star has four edges, its last is written twice and dropped."""
MOTIF_NODES = 5
LABEL_SHARES = (0.88, 0.08, 0.04)
STRAIGHT = 0.8
"""Chance that a node of the tree hangs on the one just before it: long chains and few branches, as in molecules."""


def motif_graphs(graphs: int, seed: int, *, classes: int = 2, nodes: int = 14, purity: float = 0.7) -> GraphSet:
    """Motif graphs, classes balanced.

    Args:
        graphs: how many.
        seed: the same seed gives the same graphs.
        classes: 2 to 4; class c prefers motif c.
        nodes: mean nodes of the random tree.
        purity: chance that a motif is the one its class prefers; the rest are drawn from all four alike.

    Raises:
        UserError: fewer graphs than classes, or more classes than motifs.
    """
    require(2 <= classes <= len(MOTIF_EDGES), f"{classes} classes", f"choose 2 to {len(MOTIF_EDGES)}")
    require(graphs >= classes, f"{graphs} graphs for {classes} classes", "ask for more graphs")
    random = np.random.default_rng(derive_seed("motifs", seed))
    label = np.arange(graphs) % classes
    backbone = random.integers(nodes // 2, nodes + nodes // 2 + 1, graphs)
    motifs = random.integers(1, 4, graphs)
    sizes = backbone + motifs * MOTIF_NODES
    first = np.cumsum(sizes) - sizes
    tree_edges = _random_trees(first, backbone, random)
    motif_edges = _hung_motifs(first, backbone, motifs, label, purity, random)
    edges = np.concatenate([tree_edges, motif_edges])
    node_labels = random.choice(len(LABEL_SHARES), int(sizes.sum()), p=LABEL_SHARES)
    return make_graph_set(
        "motifs",
        np.repeat(np.arange(graphs), sizes),
        edges.T.ravel(),
        edges[:, ::-1].T.ravel(),
        label,
        tuple(map(str, range(classes))),
        node_labels=node_labels,
    )


def motif_stream(
    graphs: int, seed: int, *, chunk: int = 10_000, classes: int = 2, nodes: int = 14
) -> Iterator[GraphSet]:
    """The same kind of graphs in chunks, each drawn when it is asked for."""
    for start in range(0, graphs, chunk):
        size = max(classes, min(chunk, graphs - start))
        yield motif_graphs(size, derive_seed("stream", seed, start), classes=classes, nodes=nodes)


def _random_trees(first: np.ndarray, sizes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """[edges, 2]: node i of each graph hangs on the one before it, or else on one of the three before it."""
    place = _within(sizes)
    node = np.repeat(first, sizes) + place
    inner = place > 0
    back = 1 + (random.random(int(inner.sum())) * np.minimum(place[inner], 3)).astype(np.int64)
    back = np.where(random.random(len(back)) < STRAIGHT, 1, back)
    return np.stack([node[inner] - back, node[inner]], 1)


def _hung_motifs(
    first: np.ndarray,
    backbone: np.ndarray,
    motifs: np.ndarray,
    label: np.ndarray,
    purity: float,
    random: np.random.Generator,
) -> np.ndarray:
    """[edges, 2]: each motif's own edges, and one that hangs its first node on the tree."""
    graph = np.repeat(np.arange(len(first)), motifs)
    start = first[graph] + backbone[graph] + _within(motifs) * MOTIF_NODES
    preferred = random.random(len(graph)) < purity
    kind = np.where(preferred, label[graph], random.integers(0, len(MOTIF_EDGES), len(graph)))
    own = MOTIF_EDGES[kind] + start[:, None, None]
    keep = np.ones(own.shape[:2], dtype=bool)
    keep[kind == 2, -1] = False
    anchor = first[graph] + (random.random(len(graph)) * backbone[graph]).astype(np.int64)
    return np.concatenate([own[keep], np.stack([anchor, start], 1)])


def _within(sizes: np.ndarray) -> np.ndarray:
    """0 .. size - 1 for each size, one after the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)

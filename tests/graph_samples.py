"""Small random graph sets for the tests of graphs/."""

from dataclasses import replace

import numpy as np

from stillhouse.graphs.data import GraphSet, make_graph_set


def random_graphs(
    graphs: int = 12,
    seed: int = 0,
    *,
    labels: int = 3,
    edge_labels: int = 0,
    directed: bool = False,
    loops: bool = False,
) -> GraphSet:
    """Random graphs of 1 to 9 nodes, some disconnected; parallel edges may come up."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 10, graphs)
    first = np.cumsum(sizes) - sizes
    pairs, kinds = [], []
    for g in range(graphs):
        for _ in range(int(random.integers(0, 2 * sizes[g]))):
            a, b = (random.integers(0, sizes[g], 2) + first[g]).tolist()
            if a == b and not loops:
                continue
            kind = int(random.integers(0, max(1, edge_labels)))
            pairs.append((a, b))
            kinds.append(kind)
            if not directed and a != b:
                pairs.append((b, a))
                kinds.append(kind)
    edges = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return make_graph_set(
        "random",
        np.repeat(np.arange(graphs), sizes),
        edges[:, 0],
        edges[:, 1],
        np.arange(graphs) % 2,
        ("a", "b"),
        node_labels=random.integers(0, labels, int(sizes.sum())),
        edge_labels=np.array(kinds, dtype=np.int64) if edge_labels else None,
    )


def shuffled(graphs: GraphSet, seed: int = 1) -> tuple[GraphSet, np.ndarray]:
    """The same graphs with node numbers permuted within each graph and edges in another order; new place of each node."""
    random = np.random.default_rng(seed)
    place = np.concatenate(
        [
            random.permutation(np.arange(a, b))
            for a, b in zip(graphs.node_offsets, graphs.node_offsets[1:], strict=False)
        ]
    )
    labels = np.empty_like(graphs.node_labels)
    labels[place] = graphs.node_labels
    order = np.concatenate(
        [
            random.permutation(np.arange(a, b))
            for a, b in zip(graphs.edge_offsets, graphs.edge_offsets[1:], strict=False)
        ]
    )
    moved = replace(
        graphs,
        node_labels=labels,
        sources=place[graphs.sources][order],
        targets=place[graphs.targets][order],
        edge_labels=None if graphs.edge_labels is None else graphs.edge_labels[order],
    )
    return moved, place


def written_out(graphs: GraphSet, node: int, depth: int) -> str:
    """The computation tree of a node as text, children sorted (Aho, Hopcroft and Ullman's code)."""
    if depth == 0:
        return f"{graphs.node_labels[node]}()"
    kinds = np.zeros(len(graphs.sources), int) if graphs.edge_labels is None else graphs.edge_labels
    into = np.flatnonzero(graphs.targets == node)
    children = sorted(f"{kinds[e]}-{written_out(graphs, int(graphs.sources[e]), depth - 1)}" for e in into)
    return f"{graphs.node_labels[node]}({','.join(children)})"

"""Keep one pair of every group of pairs that say the same, by connected components (arXiv 2305.16635, section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from numpy import ndarray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def components(edges: Sequence[tuple[int, int]], nodes: int) -> np.ndarray:
    """[nodes] number of each node's connected component, in O(|nodes| + |edges|)."""
    if not nodes:
        return np.zeros(0, np.int64)
    rows, columns = np.array(edges, np.int64).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def duplicate_edges(pairs: Sequence[tuple[int, int]], entails: Bool[ndarray, "n n"]) -> list[tuple[int, int]]:
    """Edges between pairs (x_i, y_i), (x_j, y_j) of one context whose x or whose y entail one another in either direction.

    Args:
        pairs: sentence numbers of each pair.
        entails: whether sentence a entails sentence b; a sentence entails itself.
    """
    x, y = np.array(pairs, np.int64).reshape(-1, 2).T
    alike = entails[np.ix_(x, x)] | entails[np.ix_(y, y)]
    first, second = np.nonzero(np.triu(alike | alike.T, 1))
    return list(zip(first.tolist(), second.tolist(), strict=True))


def best_of_components(component: np.ndarray, score: np.ndarray) -> list[int]:
    """Per component the place of the highest score (the paper's; its code keeps the lowest), the first of equals; sorted."""
    order = np.lexsort((np.arange(len(score)), -score, component))
    first = np.ones(len(order), bool)
    first[1:] = component[order][1:] != component[order][:-1]
    return sorted(order[first].tolist())

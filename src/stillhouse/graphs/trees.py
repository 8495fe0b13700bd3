"""Computation trees, canonical and interned: every distinct subtree is stored once, so a set of trees is a DAG.

    T_0(v) = word(v)          T_l(v) = ( word(v), { (edge word, T_{l-1}(u)) : edge u -> v } )

The braces are a multiset. Two nodes with equal T_L get equal states from any L-layer message-passing network. Trees are
told apart by the whole tuple, never by a hash of it, and never written out: the cost is linear in edges x hops.
Source: Mirage (arXiv 2310.09486), section 3; interning instead of its strings is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from stillhouse.graphs.data import GraphSet, Ints


@dataclass(frozen=True)
class Level:
    """The distinct trees of one depth. Tree t has the entries offsets[t] .. offsets[t + 1] - 1."""

    words: Ints
    """[trees], word of the root."""
    degrees: Ints
    """[trees], degree of a leaf (only at depth 0, and only where the table keeps leaf degrees; else zeros)."""
    offsets: Ints
    """[trees + 1]."""
    edge_words: Ints
    """[entries]."""
    children: Ints
    """[entries], trees of the level below."""
    copies: Ints
    """[entries], how often this child hangs on this kind of edge."""

    def __len__(self) -> int:
        return len(self.words)

    @property
    def owners(self) -> Ints:
        """[entries], the tree that each entry belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def keys(self) -> list[bytes]:
        """Each tree as the bytes of its whole tuple; equal trees have equal keys, others never."""
        heads = np.stack([self.words, self.degrees], 1).astype("<i8")
        entries = np.stack([self.edge_words, self.children, self.copies], 1).astype("<i8")
        bounds = self.offsets.tolist()
        return [heads[t].tobytes() + entries[bounds[t] : bounds[t + 1]].tobytes() for t in range(len(self))]

    def take(self, trees: Ints) -> Level:
        """These trees, in this order; children keep their numbers."""
        lengths = np.diff(self.offsets)[trees]
        starts = np.repeat(self.offsets[:-1][trees] - (np.cumsum(lengths) - lengths), lengths)
        entries = starts + np.arange(lengths.sum())
        return Level(
            self.words[trees],
            self.degrees[trees],
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            self.edge_words[entries],
            self.children[entries],
            self.copies[entries],
        )


@dataclass(frozen=True)
class TreeTable:
    """Distinct trees of depth 0 .. L; each level's children are in the level below, so there can be no cycle."""

    levels: tuple[Level, ...]

    @property
    def hops(self) -> int:
        """Depth L of the trees."""
        return len(self.levels) - 1

    @property
    def trees(self) -> int:
        """Number of distinct trees of full depth."""
        return len(self.levels[-1])

    def restrict(self, trees: Sequence[int] | Ints) -> TreeTable:
        """Only these trees of full depth, in this order, and the subtrees they need."""
        wanted = np.asarray(trees, dtype=np.int64)
        kept: list[Level] = []
        for level in reversed(self.levels):
            part = level.take(wanted)
            wanted, children = np.unique(part.children, return_inverse=True)
            kept.append(resorted(part, children))
        return TreeTable(tuple(reversed(kept)))

    def unrolled_nodes(self) -> np.ndarray:
        """[trees], nodes of each tree of full depth if it were written out."""
        sizes: np.ndarray = np.ones(len(self.levels[0]))
        for level in self.levels[1:]:
            sizes = 1 + np.bincount(level.owners, level.copies * sizes[level.children], minlength=len(level))
        return sizes


def grow_trees(
    graphs: GraphSet, words: Ints, edge_words: Ints, hops: int, *, leaf_degrees: bool = False
) -> tuple[TreeTable, Ints]:
    """The trees of all nodes.

    Args:
        words: [nodes].
        edge_words: [edges], zeros where edges have no labels.
        hops: depth L.
        leaf_degrees: tell leaves of different degree apart (what a symmetric GCN needs to be exact).

    Returns:
        The table of distinct trees, and [nodes] the tree of each node.
    """
    degrees = graphs.degrees if leaf_degrees else np.zeros(graphs.nodes, dtype=np.int64)
    level, ids = _leaves(words, degrees)
    levels = [level]
    for _ in range(hops):
        level, ids = _grow(words, graphs.targets, edge_words, ids[graphs.sources])
        levels.append(level)
    return TreeTable(tuple(levels)), ids


def bags(trees: Ints, graphs: GraphSet, distinct: int) -> sp.csr_array:
    """[graphs, distinct] how often each tree is in each graph; nodes whose tree is -1 are left out."""
    known = trees >= 0
    ones = np.ones(int(known.sum()), dtype=np.float32)
    counts = sp.coo_array((ones, (graphs.graph_of_node[known], trees[known])), shape=(graphs.graphs, distinct))
    return counts.tocsr()


def _leaves(words: Ints, degrees: Ints) -> tuple[Level, Ints]:
    rows, ids = _unique_rows(np.stack([words, degrees], 1))
    none = np.zeros(0, dtype=np.int64)
    return Level(rows[:, 0], rows[:, 1], np.zeros(len(rows) + 1, dtype=np.int64), none, none, none), ids


def _grow(words: Ints, targets: Ints, edge_words: Ints, children: Ints) -> tuple[Level, Ints]:
    """One level up: nodes with the same word and the same multiset of (edge word, child) share a tree."""
    nodes = len(words)
    owner, edge, child, copies = _collapse(targets, edge_words, children)
    entries = np.bincount(owner, minlength=nodes)
    starts = np.cumsum(entries) - entries
    ids = np.empty(nodes, dtype=np.int64)
    rows_by_length: list[np.ndarray] = []
    found = 0
    for length in np.unique(entries):
        members = np.flatnonzero(entries == length)
        place = starts[members][:, None] + np.arange(length)
        row = np.concatenate([words[members][:, None], edge[place], child[place], copies[place]], 1)
        rows, inverse = _unique_rows(row)
        ids[members] = found + inverse
        found += len(rows)
        rows_by_length.append(rows)
    return _level_from_rows(rows_by_length), ids


def _level_from_rows(rows_by_length: list[np.ndarray]) -> Level:
    lengths = [(rows.shape[1] - 1) // 3 for rows in rows_by_length]
    per_tree = np.concatenate([np.full(len(r), n) for r, n in zip(rows_by_length, lengths, strict=True)])
    columns = [
        np.concatenate(
            [r[:, 1 + k * n : 1 + (k + 1) * n].ravel() for r, n in zip(rows_by_length, lengths, strict=True)]
        )
        for k in range(3)
    ]
    words = np.concatenate([r[:, 0] for r in rows_by_length])
    offsets = np.concatenate([[0], np.cumsum(per_tree)]).astype(np.int64)
    return Level(words, np.zeros(len(words), dtype=np.int64), offsets, *columns)


def _collapse(owner: Ints, edge: Ints, child: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Sort entries by owner, edge word and child, and count equal ones."""
    order = np.lexsort((child, edge, owner))
    owner, edge, child = owner[order], edge[order], child[order]
    if not len(owner):
        return owner, edge, child, owner
    change = (np.diff(owner) != 0) | (np.diff(edge) != 0) | (np.diff(child) != 0)
    first = np.concatenate([[0], np.flatnonzero(change) + 1])
    return owner[first], edge[first], child[first], np.diff(np.concatenate([first, [len(owner)]]))


def _unique_rows(rows: np.ndarray) -> tuple[Ints, Ints]:
    """Distinct rows and, for each row, which one it is; compared byte for byte."""
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    if not len(rows):
        return rows, np.zeros(0, dtype=np.int64)
    _, first, inverse = np.unique(
        rows.view(np.dtype((np.void, rows.shape[1] * 8))).ravel(), return_index=True, return_inverse=True
    )
    return rows[first], inverse


def resorted(level: Level, children: Ints) -> Level:
    """`level` with other child numbers, its entries put back in canonical order."""
    order = np.lexsort((children, level.edge_words, level.owners))
    return Level(
        level.words,
        level.degrees,
        level.offsets,
        level.edge_words[order],
        children[order],
        level.copies[order],
    )


def canonical(table: TreeTable) -> tuple[TreeTable, Ints]:
    """The table numbered by content alone, not by the order in which trees came; [trees] the old number of each."""
    levels: list[Level] = []
    new_number = order = np.zeros(0, dtype=np.int64)
    for depth, level in enumerate(table.levels):
        mine = resorted(level, new_number[level.children]) if depth else level
        keys = mine.keys()
        order = np.array(sorted(range(len(keys)), key=lambda tree: (len(keys[tree]), keys[tree])), dtype=np.int64)
        new_number = np.empty(len(order), dtype=np.int64)
        new_number[order] = np.arange(len(order))
        levels.append(mine.take(order))
    return TreeTable(tuple(levels)), order


def match_trees(known: TreeTable, found: TreeTable) -> Ints:
    """[trees of `found`] the equal tree in `known`, or -1."""
    numbers = np.zeros(0, dtype=np.int64)
    for depth, (mine, theirs) in enumerate(zip(known.levels, found.levels, strict=True)):
        if depth:
            theirs = resorted(theirs, numbers[theirs.children])
        position = {key: i for i, key in enumerate(mine.keys())}
        numbers = np.array([position.get(key, -1) for key in theirs.keys()], dtype=np.int64)  # noqa: SIM118
    return numbers

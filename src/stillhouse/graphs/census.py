"""One pass over training graphs, in chunks and in bounded memory: which trees there are, how often, and in what company.

Distinct trees are kept in one growing table. Where it passes `max_trees`, the rarest are dropped, as in lossy counting
(Manku and Motwani 2002); `lost_at_most` then bounds how many nodes any kept tree's count may lack. Of each class's
graphs a uniform sample of at most `max_graphs` bags is kept: those with the smallest random keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import joblib
import numpy as np
import scipy.sparse as sp

from stillhouse.core.errors import require
from stillhouse.core.seeding import derive_seed
from stillhouse.graphs.data import GraphSet, Ints
from stillhouse.graphs.trees import Level, TreeTable, bags, canonical, grow_trees, resorted
from stillhouse.graphs.words import Words


@dataclass(frozen=True)
class Census:
    """What a summary is made from."""

    words: Words
    table: TreeTable
    node_counts: np.ndarray
    """[trees, classes], nodes with each tree."""
    graph_counts: Ints
    """[classes], graphs seen."""
    bags: sp.csr_array
    """[graphs kept, trees], how often each tree is in each kept graph."""
    classes: Ints
    """[graphs kept]."""
    sizes: Ints
    """[graphs kept], nodes, those of dropped trees included."""
    class_names: tuple[str, ...]
    leaf_degrees: bool = False
    lost_at_most: int = 0
    """No kept tree's node count is short by more than this."""
    max_degree: int = 0

    def members(self, c: int) -> sp.csr_array:
        """Bags of one class."""
        return self.bags[np.flatnonzero(self.classes == c)]


class Forest:
    """A tree table that grows by chunks."""

    def __init__(self, hops: int) -> None:
        self._positions: list[dict[bytes, int]] = [{} for _ in range(hops + 1)]
        self._parts: list[list[Level]] = [[] for _ in range(hops + 1)]

    @property
    def trees(self) -> int:
        """Distinct trees of full depth so far."""
        return len(self._positions[-1])

    def add(self, table: TreeTable) -> Ints:
        """Take in a chunk's trees; [trees of the chunk] their numbers here."""
        numbers = np.zeros(0, dtype=np.int64)
        for depth, level in enumerate(table.levels):
            mine = resorted(level, numbers[level.children]) if depth else level
            positions, before = self._positions[depth], len(self._positions[depth])
            numbers = np.array([positions.setdefault(key, len(positions)) for key in mine.keys()], dtype=np.int64)  # noqa: SIM118
            self._parts[depth].append(mine.take(np.flatnonzero(numbers >= before)))
        return numbers

    def table(self) -> TreeTable:
        """All trees so far."""
        self._parts = [[_joined(parts)] for parts in self._parts]
        return TreeTable(tuple(parts[0] for parts in self._parts))

    def keep(self, trees: Ints) -> None:
        """Forget all other trees; those kept are numbered in this order."""
        table = self.table().restrict(trees)
        self._parts = [[level] for level in table.levels]
        self._positions = [{key: i for i, key in enumerate(level.keys())} for level in table.levels]


def take_census(
    chunks: Iterable[GraphSet],
    words: Words,
    hops: int,
    *,
    leaf_degrees: bool = False,
    max_trees: int = 1_000_000,
    max_graphs: int = 20_000,
    workers: int = 1,
    seed: int = 0,
    seen: Callable[[int], None] = lambda graphs: None,
) -> Census:
    """Count the trees of a stream of chunks.

    Args:
        chunks: parts of the training set, all with the same class names; read once, in order.
        words: learned on training graphs.
        hops: depth of the trees, 1 to 4.
        leaf_degrees: see `grow_trees`.
        max_trees: distinct trees held at a time.
        max_graphs: bags kept of each class.
        workers: processes that grow trees; the outcome depends neither on it nor on the chunks.
        seed: of the sample of bags.
        seen: told how many graphs are counted, after each chunk.

    Raises:
        UserError: hops is not 1 to 4, or a class has no graph.
    """
    require(1 <= hops <= 4, f"hops is {hops}", "choose 1 to 4")
    tally: _Tally | None = None
    for chunk, table, ids in _grown(chunks, words, hops, leaf_degrees, workers):
        if tally is None:
            tally = _Tally(hops, chunk.class_names, max_graphs, seed)
        tally.add(chunk, table, ids)
        seen(int(tally.graph_counts.sum()))
        if tally.forest.trees > max_trees:
            tally.prune(max_trees // 2)
    require(tally is not None, "there are no graphs", "give a data set with graphs in it")
    assert tally is not None
    return tally.census(words, leaf_degrees)


def _grown(
    chunks: Iterable[GraphSet], words: Words, hops: int, leaf_degrees: bool, workers: int
) -> Iterator[tuple[GraphSet, TreeTable, Ints]]:
    if workers == 1:
        yield from (grow_chunk(chunk, words, hops, leaf_degrees) for chunk in chunks)
        return
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator", pre_dispatch="2*n_jobs")
    yield from parallel(joblib.delayed(grow_chunk)(chunk, words, hops, leaf_degrees) for chunk in chunks)


def grow_chunk(
    chunk: GraphSet, words: Words, hops: int, leaf_degrees: bool = False
) -> tuple[GraphSet, TreeTable, Ints]:
    """A chunk, its tree table, and [nodes] each node's tree."""
    table, ids = grow_trees(chunk, words.of_nodes(chunk), words.of_edges(chunk), hops, leaf_degrees=leaf_degrees)
    return chunk, table, ids


class _Tally:
    """The running counts of a census."""

    def __init__(self, hops: int, class_names: tuple[str, ...], max_graphs: int, seed: int) -> None:
        self.forest = Forest(hops)
        self.class_names = class_names
        self.max_graphs = max_graphs
        self.random = np.random.default_rng(derive_seed("census", seed))
        self.node_counts = np.zeros((0, len(class_names)), dtype=np.int64)
        self.graph_counts = np.zeros(len(class_names), dtype=np.int64)
        self.bags = sp.csr_array((0, 0), dtype=np.float32)
        self.classes = self.sizes = np.zeros(0, dtype=np.int64)
        self.order = np.zeros(0)
        self.lost = 0
        self.max_degree = 0

    def add(self, chunk: GraphSet, table: TreeTable, ids: Ints) -> None:
        numbers = self.forest.add(table)
        trees = self.forest.trees
        here = numbers[ids]
        self._widen(trees)
        np.add.at(self.node_counts, (here, chunk.classes[chunk.graph_of_node]), 1)
        self.graph_counts += np.bincount(chunk.classes, minlength=len(self.class_names))
        self.max_degree = max(self.max_degree, int(chunk.degrees.max(initial=0)))
        self._sample(bags(here, chunk, trees), chunk.classes, chunk.sizes)

    def _widen(self, trees: int) -> None:
        more = np.zeros((trees - len(self.node_counts), self.node_counts.shape[1]), dtype=np.int64)
        self.node_counts = np.concatenate([self.node_counts, more])
        self.bags.resize((self.bags.shape[0], trees))

    def _sample(self, fresh: sp.csr_array, classes: Ints, sizes: Ints) -> None:
        """Keep the `max_graphs` of each class with the smallest random keys, in the order they came."""
        self.bags = sp.vstack([self.bags, fresh], format="csr")
        self.classes = np.concatenate([self.classes, classes])
        self.sizes = np.concatenate([self.sizes, sizes])
        self.order = np.concatenate([self.order, self.random.random(len(classes))])
        keep = np.ones(len(self.classes), dtype=bool)
        for c in range(len(self.class_names)):
            members = np.flatnonzero(self.classes == c)
            if len(members) > self.max_graphs:
                keep[members[np.argsort(self.order[members])[self.max_graphs :]]] = False
        if not keep.all():
            self.bags, self.classes = self.bags[np.flatnonzero(keep)], self.classes[keep]
            self.sizes, self.order = self.sizes[keep], self.order[keep]

    def prune(self, trees: int) -> None:
        totals = self.node_counts.sum(1)
        order = np.argsort(-totals, kind="stable")
        self.lost += int(totals[order[trees]])
        kept = np.sort(order[:trees])
        self.forest.keep(kept)
        self.node_counts = self.node_counts[kept]
        self.bags = self.bags[:, kept].tocsr()

    def census(self, words: Words, leaf_degrees: bool) -> Census:
        for c, name in enumerate(self.class_names):
            require(self.graph_counts[c] > 0, f"class {name!r} has no graph", "leave the class out or add graphs")
        table, order = canonical(self.forest.table())
        return Census(
            words,
            table,
            self.node_counts[order],
            self.graph_counts,
            self.bags[:, order].tocsr(),
            self.classes,
            self.sizes,
            self.class_names,
            leaf_degrees,
            self.lost,
            self.max_degree,
        )


def _joined(parts: list[Level]) -> Level:
    if len(parts) == 1:
        return parts[0]
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Level(
        np.concatenate([part.words for part in parts]),
        np.concatenate([part.degrees for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([part.edge_words for part in parts]),
        np.concatenate([part.children for part in parts]),
        np.concatenate([part.copies for part in parts]),
    )

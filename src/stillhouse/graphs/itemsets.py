"""Frequent sets of co-occurring trees by FP-growth, over sets or over multisets.

A transaction is a graph's bag of trees. Its items are (tree, i) for every i up to the tree's count, "at least i copies";
a found set names each tree once, with the most copies that all supporting graphs share. With `multiplicities` off every
count is 1, as in the released code of Mirage. Source: Han, Pei, Yin 2000; Mirage (arXiv 2310.09486), section 3.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import scipy.sparse as sp

Item = tuple[int, int]
"""(tree, copies)."""
Keep = Literal["all", "closed", "maximal"]


class TooManySets(Exception):
    """Mining was stopped because it found more sets than it was allowed."""


@dataclass(frozen=True)
class FrequentSet:
    """A multiset of trees, and in how many graphs of the class it is."""

    items: tuple[Item, ...]
    """(tree, copies), by tree."""
    support: int

    def within(self, other: FrequentSet) -> bool:
        """Whether every graph that has `other` must have this."""
        copies = dict(other.items)
        return all(copies.get(tree, 0) >= count for tree, count in self.items)


@dataclass
class _Node:
    item: Item
    parent: _Node | None
    count: int = 0
    children: dict[Item, _Node] = field(default_factory=dict)


def transactions(bags: sp.csr_array, *, multiplicities: bool) -> list[list[Item]]:
    """The items of each graph.

    Args:
        bags: [graphs, trees] counts.
        multiplicities: items for every copy, not only the first.
    """
    rows = bags.tocsr()
    found = []
    for start, end in zip(rows.indptr[:-1].tolist(), rows.indptr[1:].tolist(), strict=True):
        pairs = zip(rows.indices[start:end].tolist(), rows.data[start:end].tolist(), strict=True)
        found.append([(t, i) for t, n in pairs for i in range(1, (int(n) if multiplicities else 1) + 1)])
    return found


def fp_growth(baskets: Sequence[Sequence[Item]], support: int, *, most: int = 1_000_000) -> list[FrequentSet]:
    """Every multiset of trees that at least `support` baskets contain, each once.

    Args:
        baskets: items of each transaction; (t, i) comes with (t, 1) .. (t, i - 1).
        support: smallest number of baskets, 1 or more.
        most: give up beyond this many sets.

    Raises:
        TooManySets: there are more than `most`.
    """
    found = []
    for items, count in _mine([(basket, 1) for basket in baskets], max(1, support)):
        found.append(FrequentSet(tuple(sorted(items)), count))
        if len(found) > most:
            raise TooManySets
    return sorted(found, key=lambda s: (-s.support, s.items))


def largest_support(baskets: Sequence[Sequence[Item]]) -> int:
    """The highest threshold that some set still meets: the support of the commonest item."""
    counts = _item_counts([(basket, 1) for basket in baskets])
    return max(counts.values(), default=0)


def condense(sets: Sequence[FrequentSet], keep: Keep) -> list[FrequentSet]:
    """All sets, only closed ones (no larger set has the same support), or only maximal ones (no larger set at all)."""
    if keep == "all":
        return list(sets)
    by_item: defaultdict[int, list[FrequentSet]] = defaultdict(list)
    for found in sets:
        for tree, _ in found.items:
            by_item[tree].append(found)
    return [found for found in sets if not _covered(found, by_item, same_support=keep == "closed")]


def exclusive(by_class: Sequence[Sequence[FrequentSet]]) -> list[list[FrequentSet]]:
    """Each class's sets without those that are frequent in another class too (as the released NCI1 script does)."""
    classes_with: defaultdict[tuple[Item, ...], int] = defaultdict(int)
    for sets in by_class:
        for found in sets:
            classes_with[found.items] += 1
    return [[found for found in sets if classes_with[found.items] == 1] for sets in by_class]


def _covered(found: FrequentSet, by_item: dict[int, list[FrequentSet]], *, same_support: bool) -> bool:
    candidates = min((by_item[tree] for tree, _ in found.items), key=len)
    return any(
        other.items != found.items and (other.support == found.support or not same_support) and found.within(other)
        for other in candidates
    )


def _mine(baskets: Sequence[tuple[Sequence[Item], int]], support: int) -> Iterator[tuple[tuple[Item, ...], int]]:
    """Grow sets from the rarest item on: each item's conditional baskets hold only items before it in the order."""
    heads = _fp_tree(baskets, support)
    for item, nodes in heads.items():
        count = sum(node.count for node in nodes)
        yield (item,), count
        conditional = [(_path(node, item[0]), node.count) for node in nodes]
        for items, deeper in _mine([pair for pair in conditional if pair[0]], support):
            yield (item, *items), deeper


def _fp_tree(baskets: Sequence[tuple[Sequence[Item], int]], support: int) -> dict[Item, list[_Node]]:
    """Prefix tree of the baskets' frequent items, commonest first; the nodes of every item, rarest item first."""
    counts = {item: n for item, n in _item_counts(baskets).items() if n >= support}
    order = {item: place for place, item in enumerate(sorted(counts, key=lambda item: (-counts[item], item)))}
    root = _Node((-1, 0), None)
    heads: dict[Item, list[_Node]] = {item: [] for item in reversed(order)}
    for basket, times in baskets:
        node = root
        for item in sorted((item for item in basket if item in order), key=order.__getitem__):
            if item not in node.children:
                node.children[item] = _Node(item, node)
                heads[item].append(node.children[item])
            node = node.children[item]
            node.count += times
    return heads


def _item_counts(baskets: Sequence[tuple[Sequence[Item], int]]) -> dict[Item, int]:
    counts: defaultdict[Item, int] = defaultdict(int)
    for basket, times in baskets:
        for item in basket:
            counts[item] += times
    return counts


def _path(node: _Node, tree: int) -> list[Item]:
    """Items above a node, without further copies of its own tree: "at least i" already says "at least i - 1"."""
    above = []
    parent = node.parent
    while parent is not None and parent.parent is not None:
        if parent.item[0] != tree:
            above.append(parent.item)
        parent = parent.parent
    return above

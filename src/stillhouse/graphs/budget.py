"""From a census to a summary that fits a number of bytes: the largest one that does, found by bisection on real file sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from stillhouse.core.errors import UserError, require
from stillhouse.graphs.census import Census
from stillhouse.graphs.codec import pack, unpack
from stillhouse.graphs.data import Ints
from stillhouse.graphs.itemsets import (
    FrequentSet,
    Keep,
    TooManySets,
    condense,
    exclusive,
    fp_growth,
    largest_support,
    transactions,
)
from stillhouse.graphs.mixtures import fit_mixture, fit_rule
from stillhouse.graphs.summary import Summary

Labels = Literal["class", "rule"]
MOST_COMPONENTS = 32
TREES_PER_COMPONENT = 6


def frequent_trees(census: Census) -> Ints:
    """Trees by falling class-balanced frequency: nodes per graph of the class, summed over classes."""
    return np.argsort(-(census.node_counts / census.graph_counts).sum(1), kind="stable")


def mixture_summary(census: Census, trees: int, components: int, *, labels: Labels = "class", seed: int = 0) -> Summary:
    """Mixtures of bags over the most frequent trees.

    Args:
        census: of the training graphs.
        trees: vocabulary size K.
        components: mixture components a class.
        labels: "rule" stores a logistic rule that labels drawn bags; "class" labels them with their class.
        seed: of the clustering.

    Raises:
        UserError: no trees or no components.
    """
    require(trees >= 1 and components >= 1, f"{trees} trees, {components} components", "give one or more of each")
    top = frequent_trees(census)[:trees]
    bags = census.bags[:, top].tocsr()
    mixtures = tuple(
        fit_mixture(bags[np.flatnonzero(census.classes == c)], components, seed) for c in range(len(census.class_names))
    )
    several = len(census.class_names) > 1
    rule = fit_rule(bags, census.classes, len(census.class_names)) if labels == "rule" and several else None
    return stored(replace(_bare(census, top), mixtures=mixtures, rule=rule))


def itemset_summary(
    census: Census,
    supports: Ints,
    *,
    keep: Keep = "all",
    multiplicities: bool = False,
    only_exclusive: bool = False,
    class_prior: bool = False,
    root_mask: bool = False,
    most: int = 100_000,
) -> Summary:
    """Frequent tree sets of each class, as published (the defaults) or with the counts kept.

    Args:
        supports: [classes], smallest number of graphs.
        keep, multiplicities, only_exclusive, class_prior, root_mask: see `itemsets` and `Summary`.
        most: give up beyond this many sets a class.

    Raises:
        UserError: no set of some class meets its threshold; says the largest that would.
        TooManySets: there are more than `most`.
    """
    mined = []
    for c, support in enumerate(supports):
        baskets = transactions(census.members(c), multiplicities=multiplicities)
        sets = fp_growth(baskets, int(support), most=most)
        if not sets:
            raise UserError(
                f"no tree of class {census.class_names[c]!r} is in {int(support)} of its {len(baskets)} graphs",
                f"lower the support: {largest_support(baskets)} graphs "
                f"({largest_support(baskets) / len(baskets):.3f} of the class) is the largest that a tree meets",
            )
        mined.append(condense(sets, keep))
    chosen = exclusive(mined) if only_exclusive else mined
    for c, sets in enumerate(chosen):
        require(
            bool(sets),
            f"every set of class {census.class_names[c]!r} is frequent in another class too",
            "allow shared sets",
        )
    used = sorted({tree for sets in chosen for found in sets for tree, _ in found.items})
    place = {tree: i for i, tree in enumerate(used)}
    itemsets = tuple(
        tuple(FrequentSet(tuple((place[t], n) for t, n in found.items), found.support) for found in sets)
        for sets in chosen
    )
    bare = _bare(census, np.array(used, dtype=np.int64))
    return stored(replace(bare, kind="itemsets", itemsets=itemsets, class_prior=class_prior, root_mask=root_mask))


def mixture_within(census: Census, max_bytes: int, *, labels: Labels = "class", seed: int = 0) -> Summary:
    """The mixture summary with the most trees that fits; components grow with the trees, up to 32 a class.

    Raises:
        UserError: not even one tree fits.
    """

    def make(trees: int) -> Summary | None:
        components = min(MOST_COMPONENTS, max(2, trees // TREES_PER_COMPONENT))
        return _fitting(mixture_summary(census, trees, components, labels=labels, seed=seed), max_bytes)

    return _largest(make, census.table.trees, max_bytes)


def itemset_within(census: Census, max_bytes: int, *, only_exclusive: bool = False, **options: object) -> Summary:
    """The frequent tree sets of the lowest common support share that fits.

    Raises:
        UserError: the most frequent sets alone do not fit.
    """
    steps = 400

    def make(step: int) -> Summary | None:
        share = 1 - (step - 1) / steps
        supports = np.maximum(1, np.ceil(share * np.minimum(census.graph_counts, np.bincount(census.classes))))
        try:
            made = itemset_summary(
                census,
                supports.astype(np.int64),
                only_exclusive=only_exclusive,
                most=2 * max_bytes,
                **options,  # type: ignore[arg-type]
            )
        except TooManySets:
            return None
        return _fitting(made, max_bytes)

    first = next((s for s in range(1, steps + 1) if _mines(make, s)), None)
    if first is None:
        raise UserError("no support gives every class a set of its own", "allow shared sets")
    return _largest(lambda n: make(first + n - 1), steps - first + 1, max_bytes)


def stored(summary: Summary) -> Summary:
    """The summary as it comes back from its file, its numbers rounded."""
    return unpack(pack(summary))


def _bare(census: Census, trees: Ints) -> Summary:
    return Summary(
        "mixtures",
        census.words,
        census.class_names,
        census.graph_counts,
        census.table.restrict(trees),
        census.leaf_degrees,
    )


def _fitting(summary: Summary, max_bytes: int) -> Summary | None:
    return summary if len(pack(summary)) <= max_bytes else None


def _mines(make: Callable[[int], Summary | None], step: int) -> bool:
    try:
        make(step)
    except UserError:
        return False
    return True


def _largest(make: Callable[[int], Summary | None], most: int, max_bytes: int) -> Summary:
    """make(n) for the largest n that gives a summary, by doubling and bisection."""
    best = make(1)
    require(best is not None, f"no summary fits {max_bytes} bytes", "give more with --max-bytes")
    assert best is not None
    low, high = 1, 2
    while high <= most and (made := make(high)) is not None:
        best, low, high = made, high, high * 2
    high = min(high, most + 1)
    while high - low > max(1, low // 32):
        middle = (low + high) // 2
        made = make(middle)
        best, low, high = (made, middle, high) if made is not None else (best, low, middle)
    return best

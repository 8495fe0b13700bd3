"""Frequent tree sets, mixtures, the stored form, and budgets."""

import dataclasses
import zlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from mlxtend.frequent_patterns import fpgrowth

from graph_samples import random_graphs
from stillhouse.core.errors import UserError
from stillhouse.graphs.budget import itemset_summary, itemset_within, mixture_summary, mixture_within, stored
from stillhouse.graphs.census import take_census
from stillhouse.graphs.codec import MAGIC, numbers, pack, read_summary, unpack, write_summary
from stillhouse.graphs.coresets import graphs_within, herding_order, k_centre_order, pack_graphs, random_order
from stillhouse.graphs.itemsets import (
    FrequentSet,
    TooManySets,
    condense,
    exclusive,
    fp_growth,
    largest_support,
    transactions,
)
from stillhouse.graphs.mixtures import Mixture, draw_counts, fit_mixture, fit_rule
from stillhouse.graphs.motifs import motif_graphs
from stillhouse.graphs.words import learn_words


def bags_of(rows):
    return sp.csr_array(np.array(rows, dtype=np.float32))


def census_of(graphs=None, hops=2, **options):
    graphs = graphs or motif_graphs(80, 0)
    return take_census([graphs], learn_words(graphs), hops, **options)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), min_size=5, max_size=5), min_size=1, max_size=12), st.integers(1, 4))
def test_sets_equal_those_of_mlxtend(rows, support):
    support = min(support, len(rows))
    found = {
        tuple(t for t, _ in s.items): s.support
        for s in fp_growth(transactions(bags_of(rows), multiplicities=False), support)
    }
    theirs = fpgrowth(pd.DataFrame(rows).astype(bool), min_support=(support - 0.5) / len(rows))
    expected = {tuple(sorted(s)): round(share * len(rows)) for share, s in theirs[["support", "itemsets"]].to_numpy()}
    assert found == expected


def brute_force(rows, support):
    """Every multiset of at most the largest counts, counted directly."""
    array, found = np.array(rows), {}
    grids = np.stack(np.meshgrid(*[np.arange(m + 1) for m in array.max(0)], indexing="ij"), -1).reshape(
        -1, array.shape[1]
    )
    for counts in grids[grids.sum(1) > 0]:
        n = int((array >= counts).all(1).sum())
        if n >= support:
            found[tuple((int(t), int(counts[t])) for t in np.flatnonzero(counts))] = n
    return found


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=10), st.integers(1, 4))
def test_multisets_equal_brute_force(rows, support):
    found = fp_growth(transactions(bags_of(rows), multiplicities=True), support)
    assert {s.items: s.support for s in found} == brute_force(rows, support)
    assert len({s.items for s in found}) == len(found)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=8))
def test_closed_and_maximal_sets(rows):
    sets = fp_growth(transactions(bags_of(rows), multiplicities=True), 2)
    closed, maximal = condense(sets, "closed"), condense(sets, "maximal")
    larger = {s: [o for o in sets if o.items != s.items and s.within(o)] for s in sets}
    assert closed == [s for s in sets if all(o.support < s.support for o in larger[s])]
    assert maximal == [s for s in sets if not larger[s]]


def test_single_item_sets_are_not_lost_and_explosions_are_stopped():
    rows = [[1, 1, 1, 1]] * 3
    assert len(fp_growth(transactions(bags_of(rows), multiplicities=False), 3)) == 15
    with pytest.raises(TooManySets):
        fp_growth(transactions(bags_of(rows), multiplicities=False), 3, most=10)
    assert largest_support(transactions(bags_of([[1, 0], [1, 1]]), multiplicities=False)) == 2


def test_exclusive_sets_are_disjoint_between_classes():
    shared, own = FrequentSet(((0, 1),), 3), FrequentSet(((1, 2),), 3)
    assert exclusive([[shared, own], [shared]]) == [[own], []]


def test_threshold_nothing_meets_says_the_largest_that_would():
    census = census_of()
    commonest = max(int((census.members(0) > 0).sum(0).max()), 1)
    with pytest.raises(UserError, match=rf"lower the support: {commonest} graphs"):
        itemset_summary(census, np.array([commonest + 1, 1]))


def test_drawn_sets_follow_their_supports_and_classes_their_weights():
    census = census_of()
    summary = itemset_summary(census, np.array([25, 20]))
    counts, classes = summary.draw(20_000, 0, 0)
    expected = np.array([sum(s.support for s in sets) for sets in summary.itemsets], float)
    share = (classes == 0).float().mean().item()
    assert share == pytest.approx(expected[0] / expected.sum(), abs=0.02)
    drawn = Counter(tuple(np.flatnonzero(row)) for row in counts[classes == 0].numpy())
    total = sum(drawn.values())
    supports = {tuple(t for t, _ in s.items): s.support for s in summary.itemsets[0]}
    wanted = {items: total * n / sum(supports.values()) for items, n in supports.items()}
    chi_square = sum((drawn[items] - n) ** 2 / n for items, n in wanted.items())
    assert set(drawn) <= set(wanted) and chi_square < len(wanted) + 5 * np.sqrt(2 * len(wanted))
    by_prior = dataclasses.replace(summary, class_prior=True)
    assert by_prior.prior().tolist() == [0.5, 0.5]


def test_mixture_keeps_means_and_draws_them_back():
    random = np.random.default_rng(0)
    counts = np.where(random.random((400, 6)) < [0.9, 0.5, 0.1, 0.3, 0.8, 0.0], 1 + random.poisson(2, (400, 6)), 0)
    mixture = fit_mixture(bags_of(counts), 4, 0)
    assert mixture.weights.sum() == pytest.approx(1) and len(mixture.weights) == 4
    expected = (mixture.weights[:, None] * mixture.presence * mixture.means).sum(0)
    assert expected == pytest.approx(counts.mean(0), abs=1e-4)
    drawn = draw_counts(mixture, 20_000, random)
    assert drawn.mean(0) == pytest.approx(counts.mean(0), abs=0.06)
    assert (drawn > 0).mean(0) == pytest.approx((counts > 0).mean(0), abs=0.03)
    assert (drawn.sum(1) > 0).all()


def test_fewer_distinct_bags_than_components_is_no_error():
    mixture = fit_mixture(bags_of([[1, 2]] * 5), 4, 0)
    assert len(mixture.weights) == 1 and mixture.means.tolist() == [[1, 2]]
    assert np.unique(
        draw_counts(Mixture(np.ones(1), np.zeros((1, 2)), np.ones((1, 2))), 3, np.random.default_rng(0))
    ).tolist() == [0, 1]


def test_rule_gives_class_shares_also_for_three_classes():
    random = np.random.default_rng(0)
    classes = np.arange(300) % 3
    counts = random.poisson(1, (300, 5)) + 4 * np.eye(5)[classes]
    rule = fit_rule(bags_of(counts), classes, 3)
    shares = rule.shares(counts.astype(np.float32))
    assert shares.sum(1) == pytest.approx(np.ones(300), abs=1e-5) and (shares.argmax(1) == classes).mean() > 0.9


def half_of_most(census):
    """Supports that half the graphs of each class's commonest tree meet."""
    return np.array([int((census.members(c) > 0).sum(0).max()) // 2 for c in (0, 1)])


SUMMARIES = {
    "mixtures": lambda c: mixture_summary(c, 40, 4, labels="rule"),
    "plain": lambda c: mixture_summary(c, 40, 4, labels="class"),
    "itemsets": lambda c: itemset_summary(c, half_of_most(c)),
    "multisets": lambda c: itemset_summary(c, half_of_most(c), multiplicities=True, keep="closed", class_prior=True),
}


@pytest.mark.parametrize("kind", SUMMARIES)
@pytest.mark.parametrize("hops", [1, 3])
def test_what_is_written_is_read_back_the_same(kind, hops, tmp_path):
    graphs = random_graphs(60, edge_labels=3, labels=4)
    summary = SUMMARIES[kind](census_of(graphs, hops, leaf_degrees=hops == 3))
    size = write_summary(summary, tmp_path / "s.mirage")
    back = read_summary(tmp_path / "s.mirage")
    assert (tmp_path / "s.mirage").stat().st_size == size == len(pack(back))
    assert pack(back) == pack(summary)
    assert back.vocabulary.levels[-1].keys() == summary.vocabulary.levels[-1].keys()
    assert back.itemsets == summary.itemsets and back.words.edge_labels == summary.words.edge_labels
    for one, two in zip(back.draw(50, 3, 1), summary.draw(50, 3, 1), strict=True):
        assert one.equal(two)
    assert np.array_equal(back.counts(graphs).toarray(), summary.counts(graphs).toarray())


def test_rounding_to_bytes_stays_within_its_steps():
    census = census_of()
    summary = mixture_summary(census, 40, 4, labels="rule")
    from stillhouse.graphs.budget import frequent_trees

    top = frequent_trees(census)[:40]
    exact = fit_mixture(census.bags[:, top].tocsr()[np.flatnonzero(census.classes == 0)], 4, 0)
    assert np.abs(summary.mixtures[0].presence - exact.presence).max() <= 0.5 / 255 + 1e-6
    there = summary.mixtures[0].presence > 0
    assert np.abs(np.log(summary.mixtures[0].means / exact.means))[there].max() <= 0.5 / 32 + 1e-6


def test_own_reader_of_the_documented_format():
    """The file by its description alone, without the codec's reader."""
    import json
    import struct

    summary = SUMMARIES["plain"](census_of())
    file = pack(summary)
    assert file[:7] == b"MIRAGE\x01" and struct.unpack("<I", file[7:11])[0] == zlib.crc32(file[11:])
    body, place = zlib.decompress(file[11:]), 0

    def number():
        nonlocal place
        value = shift = 0
        while True:
            byte = body[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    length = number()
    header = json.loads(body[place : place + length])
    place += length
    assert header["kind"] == "mixtures" and header["hops"] == 2 and header["graphs"] == [40, 40]
    leaves = number()
    assert [number() for _ in range(leaves)] == summary.vocabulary.levels[0].words.tolist()
    for level in summary.vocabulary.levels[1:]:
        trees = number()
        assert [number() for _ in range(trees)] == level.words.tolist()
        entries = sum(number() for _ in range(trees))
        assert [number() for _ in range(entries)] == level.children.tolist()
        assert [number() for _ in range(entries)] == level.copies.tolist()
    for mixture in summary.mixtures:
        components = number()
        assert [number() / 65535 for _ in range(components)] == pytest.approx(mixture.weights, abs=1e-4)
        presence = np.frombuffer(body, np.uint8, 40 * components, place).reshape(40, components)
        assert pytest.approx(mixture.presence, abs=1e-6) == presence.T / 255
        place += 80 * components
    assert place == len(body)


def test_damaged_files_are_refused(tmp_path):
    whole = pack(SUMMARIES["mixtures"](census_of()))
    for cut in (0, 5, 9, len(whole) // 2, len(whole) - 1):
        with pytest.raises(UserError):
            unpack(whole[:cut])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    with pytest.raises(UserError, match="checksum"):
        unpack(bytes(flipped))
    with pytest.raises(UserError, match="cannot read"):
        read_summary(tmp_path / "absent.mirage")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_hostile_bodies_end_in_one_line_or_a_usable_summary(place, byte):
    body = bytearray(zlib.decompress(HOSTILE[len(MAGIC) + 4 :]))
    body[place % len(body)] = byte
    packed = zlib.compress(bytes(body))
    file = MAGIC + zlib.crc32(packed).to_bytes(4, "little") + packed
    try:
        summary = unpack(file)
    except UserError:
        return
    counts, _ = summary.draw(5, 0, 0)
    assert counts.shape == (5, summary.vocabulary.trees)


HOSTILE = pack(mixture_summary(census_of(motif_graphs(20, 1)), 8, 2, labels="rule"))


def test_a_file_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr("stillhouse.graphs.codec.MAX_BODY_BYTES", 50)
    with pytest.raises(UserError, match="unpacks to more"):
        unpack(HOSTILE)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, 2**40])
def test_numbers_take_seven_bits_a_byte(value):
    assert len(numbers([value])) == max(1, -(-value.bit_length() // 7))


@pytest.mark.parametrize("labels", ["class", "rule"])
def test_budget_is_met_and_used(labels):
    census = census_of()
    for budget in (400, 1500):
        size = len(pack(mixture_within(census, budget, labels=labels)))
        assert 0.8 * budget < size <= budget
    with pytest.raises(UserError, match="no summary fits 50 bytes"):
        mixture_within(census, 50)


def test_itemsets_within_a_budget_take_the_lowest_support_that_fits():
    census = census_of()
    small, large = itemset_within(census, 400), itemset_within(census, 1500)
    assert len(pack(small)) <= 400 < len(pack(large)) <= 1500
    assert min(s.support for s in large.itemsets[0]) < min(s.support for s in small.itemsets[0])


def test_stored_numbers_do_not_move_when_stored_again():
    summary = SUMMARIES["mixtures"](census_of())
    again = stored(summary)
    assert np.array_equal(again.mixtures[1].means, summary.mixtures[1].means)


def test_coresets_fill_equal_bytes_and_are_what_they_say():
    graphs = motif_graphs(120, 0)
    words = learn_words(graphs)
    features = np.random.default_rng(0).normal(size=(120, 3))
    for order in (random_order(graphs, 0), herding_order(graphs, features), k_centre_order(graphs, features, 0)):
        assert sorted(order.tolist()) == list(range(120))
        kept = graphs_within(graphs, words, order, 1000)
        assert 900 < len(pack_graphs(kept, words)) <= 1000
        assert abs(int((kept.classes == 0).sum()) - int((kept.classes == 1).sum())) <= 1
    first = herding_order(graphs, features)[0]
    members = np.flatnonzero(graphs.classes == 0)
    nearest = members[((features[members] - features[members].mean(0)) ** 2).sum(1).argmin()]
    assert first == nearest


def test_a_graph_too_large_for_the_bytes_left_is_passed_over():
    graphs = motif_graphs(60, 0)
    words = learn_words(graphs)
    sizes = np.array([len(pack_graphs(graphs.select([g]), words)) for g in range(60)])
    big = int(sizes.argmax())
    order = np.array([0, 1, big, *(g for g in range(2, 60) if g != big)])
    budget = len(pack_graphs(graphs.select([0, 1, big]), words)) - 1
    kept = graphs_within(graphs, words, order, budget)
    assert kept.graphs > 2 and len(pack_graphs(kept, words)) <= budget


def test_k_centre_takes_the_farthest_graph_next():
    graphs = motif_graphs(8, 0)
    features = np.array([[0.0], [0], [1], [1], [5], [5], [9], [9]])
    order = [g for g in k_centre_order(graphs, features, 0).tolist() if graphs.classes[g] == 0]
    start = order[0]
    others = [g for g in (0, 2, 4, 6) if g != start]
    assert order[1] == max(others, key=lambda g: abs(features[g, 0] - features[start, 0]))


def test_packed_graphs_hold_directed_edges_too():
    both = pack_graphs(random_graphs(30), learn_words(random_graphs(30)))
    one_way = random_graphs(30, directed=True)
    assert len(pack_graphs(one_way, learn_words(one_way))) != len(both)
    assert all(len(pack_graphs(g, learn_words(g))) > 50 for g in (one_way, random_graphs(30)))

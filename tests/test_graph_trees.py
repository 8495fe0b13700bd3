"""Computation trees: canonical, exact, shared; and networks on them equal networks on the graphs."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.nn import TransformerConv

from graph_samples import random_graphs, shuffled, written_out
from stillhouse.core.errors import UserError
from stillhouse.graphs.arms import whole_material
from stillhouse.graphs.census import take_census
from stillhouse.graphs.material import all_nodes, graphs_graph
from stillhouse.graphs.motifs import motif_graphs, motif_stream
from stillhouse.graphs.networks import GraphClassifier, find_network
from stillhouse.graphs.trees import bags, grow_trees, match_trees
from stillhouse.graphs.words import learn_words


def grown(graphs, hops, **options):
    words = learn_words(graphs)
    return grow_trees(graphs, words.of_nodes(graphs), words.of_edges(graphs), hops, **options)


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [{}, {"edge_labels": 3}, {"directed": True}, {"loops": True}])
def test_equal_ids_exactly_where_the_written_trees_are_equal(hops, kind):
    graphs = random_graphs(14, seed=hops, **kind)
    _, ids = grown(graphs, hops)
    texts = [written_out(graphs, node, hops) for node in range(graphs.nodes)]
    by_id, by_text = defaultdict(set), defaultdict(set)
    for number, text in zip(ids.tolist(), texts, strict=True):
        by_id[number].add(text)
        by_text[text].add(number)
    assert all(len(group) == 1 for group in [*by_id.values(), *by_text.values()])


def test_node_order_changes_nothing():
    graphs = random_graphs(20, edge_labels=2)
    moved, place = shuffled(graphs)
    table, ids = grown(graphs, 3)
    other, moved_ids = grown(moved, 3)
    assert np.array_equal(ids, moved_ids[place])
    assert [level.keys() for level in table.levels] == [level.keys() for level in other.levels]


def test_labels_that_glue_to_one_number_stay_apart():
    # the released Python code joins labels + 2 and marks into one integer: 0(10) and 19(0) both give 12112020
    from stillhouse.graphs.data import make_graph_set

    edges = np.array([[0, 1], [1, 0], [2, 3], [3, 2]])
    graphs = make_graph_set(
        "glue",
        np.array([0, 0, 1, 1]),
        edges[:, 0],
        edges[:, 1],
        np.array([0, 1]),
        ("a", "b"),
        node_labels=np.array([0, 10, 19, 0]),
    )
    _, ids = grown(graphs, 1)
    assert ids[0] != ids[2]


def test_unrolled_size_counts_written_nodes():
    graphs = random_graphs(10)
    table, ids = grown(graphs, 3)
    written = [written_out(graphs, node, 3).count("(") for node in range(graphs.nodes)]
    assert np.array_equal(table.unrolled_nodes()[ids], written)


def test_restricted_table_keeps_just_what_its_trees_need():
    graphs = random_graphs(20, edge_labels=2)
    table, ids = grown(graphs, 2)
    top = np.array([5, 0, 3])
    small = table.restrict(top)
    assert np.array_equal(match_trees(table, small), top)
    where = match_trees(small, table)[ids]
    assert np.array_equal(where >= 0, np.isin(ids, top))
    used = set(small.levels[2].children.tolist())
    assert used == set(range(len(small.levels[1])))


def _networks(graphs, hops):
    edges = {"transformer": lambda f, e, w, n: OneConv(f, e, w)}
    for name in ("gin", "gat", "gcn", "sage", "gine", "symmetric-gcn"):
        yield name, find_network(name), hops
    yield "a user's own", edges["transformer"], 1


class OneConv(nn.Module):
    """What a user might bring: a layer from torch-geometric that looks at edges."""

    def __init__(self, features, edge_features, width):
        super().__init__()
        self.convolution = TransformerConv(features, width, edge_dim=edge_features)

    def forward(self, x, edge_index, edge_attr):
        return self.convolution(x, edge_index, edge_attr)


def pooled_both_ways(factory, layers, graphs, hops, *, leaf_degrees=True):
    torch.manual_seed(0)
    words = learn_words(graphs)
    whole = graphs_graph(graphs, words)
    material = whole_material(graphs, words, hops, leaf_degrees=leaf_degrees)
    encoder = factory(whole.x.shape[1], whole.edge_attr.shape[1], 16, layers)
    model = GraphClassifier(encoder, 16, 2).double()
    on_trees, on_graphs = (_as_double(graph) for graph in (material.graph, whole))
    counts, _ = material.draw(0, 0)
    pooled = counts.double() @ model.states(on_trees)[on_trees.roots]
    return pooled, all_nodes(graphs).double() @ model.states(on_graphs), whole, material


def _as_double(graph):
    from dataclasses import replace

    return replace(graph, x=graph.x.double(), edge_attr=graph.edge_attr.double())


@pytest.mark.parametrize("kind", [{"edge_labels": 3}, {"directed": True}, {"loops": True}])
def test_roots_pooled_with_multiplicity_equal_the_network_on_the_graph(kind):
    graphs = random_graphs(16, seed=3, **kind)
    for name, factory, layers in _networks(graphs, 3):
        pooled, expected, *_ = pooled_both_ways(factory, layers, graphs, 3)
        assert (pooled - expected).abs().max() < 1e-5, name


def test_fewer_layers_than_hops_are_exact_too_and_more_are_not():
    graphs = motif_graphs(20, 0)
    pooled, expected, *_ = pooled_both_ways(find_network("gin"), 2, graphs, 3)
    assert (pooled - expected).abs().max() < 1e-5
    pooled, expected, *_ = pooled_both_ways(find_network("gin"), 3, graphs, 2)
    assert (pooled - expected).abs().max() > 1e-2


def test_symmetric_gcn_is_not_exact_without_leaf_degrees():
    graphs = motif_graphs(20, 0)
    pooled, expected, *_ = pooled_both_ways(find_network("symmetric-gcn"), 2, graphs, 2, leaf_degrees=False)
    assert (pooled - expected).abs().max() > 1e-3


def test_each_distinct_subtree_is_computed_once_a_layer():
    graphs = motif_graphs(200, 0)
    words = learn_words(graphs)
    material = whole_material(graphs, words, 2)
    table, _ = grown(graphs, 2)
    assert len(material.graph.x) == sum(map(len, table.levels)) < graphs.nodes / 2


def test_census_by_chunks_and_workers_equals_the_whole():
    graphs = motif_graphs(60, 0)
    words = learn_words(graphs)
    whole = take_census([graphs], words, 2)
    chunks = [graphs.select(range(i, i + 20)) for i in (0, 20, 40)]
    for workers in (1, 2):
        parts = take_census(chunks, words, 2, workers=workers)
        order = match_trees(parts.table, whole.table)
        assert sorted(order.tolist()) == list(range(parts.table.trees))
        assert np.array_equal(parts.node_counts[order], whole.node_counts)
        assert np.array_equal(parts.bags[:, order].toarray(), whole.bags.toarray())
        assert np.array_equal(parts.classes, whole.classes)


def test_a_census_says_how_far_it_is():
    said = []
    chunks = motif_stream(250, 0, chunk=100)
    take_census(chunks, learn_words(motif_graphs(50, 0)), 1, seen=said.append)
    assert said == [100, 200, 250]


def test_a_stream_stays_within_its_bounds_and_says_what_it_may_have_lost():
    words = learn_words(motif_graphs(2000, 5))
    exact = take_census(motif_stream(2000, 0, chunk=200), words, 2)
    bound = take_census(motif_stream(2000, 0, chunk=200), words, 2, max_trees=1500, max_graphs=50)
    assert exact.table.trees > 2000 and bound.table.trees < 2500
    assert bound.bags.shape == (100, bound.table.trees) and np.bincount(bound.classes).tolist() == [50, 50]
    assert bound.graph_counts.tolist() == [1000, 1000]
    place = match_trees(bound.table, exact.table)
    found = place >= 0
    short = exact.node_counts[found].sum(1) - bound.node_counts[place[found]].sum(1)
    assert short.min() >= 0 and short.max() <= bound.lost_at_most
    assert exact.node_counts[~found].sum(1).max() <= bound.lost_at_most


def test_sampled_bags_are_a_fair_share_of_the_stream():
    words = learn_words(motif_graphs(100, 5))
    kept = take_census(motif_stream(1000, 0, chunk=100), words, 1, max_graphs=200)
    everything = take_census(motif_stream(1000, 0, chunk=100), words, 1)
    # sizes of a uniform sample: mean within four standard errors
    error = everything.sizes.std() / np.sqrt(400)
    assert abs(kept.sizes.mean() - everything.sizes.mean()) < 4 * error
    first_half = np.isin(kept.sizes, everything.sizes).mean()
    assert first_half == 1.0


def test_dense_graphs_share_subtrees_instead_of_writing_them_out():
    from stillhouse.graphs.data import make_graph_set

    clique = [(a, b) for a in range(40) for b in range(40) if a != b]
    edges = np.array(clique)
    graphs = make_graph_set("clique", np.zeros(40, int), edges[:, 0], edges[:, 1], np.array([0]), ("a",))
    table, _ = grown(graphs, 4)
    assert [len(level) for level in table.levels] == [1, 1, 1, 1, 1]
    assert table.unrolled_nodes()[0] == 1 + 39 + 39**2 + 39**3 + 39**4


@pytest.mark.parametrize("hops", [0, 5])
def test_hops_out_of_range_are_refused(hops):
    graphs = motif_graphs(10, 0)
    with pytest.raises(UserError, match="choose 1 to 4"):
        take_census([graphs], learn_words(graphs), hops)


def test_more_labels_at_test_than_at_training_become_the_unknown_word():
    words = learn_words(random_graphs(10, labels=2))
    later = random_graphs(10, seed=1, labels=5)
    read = words.of_nodes(later)
    assert (read[later.node_labels >= 2] == words.unknown).all() and (read[later.node_labels < 2] < 2).all()
    assert words.features()[words.unknown].sum() == 0


def test_isolated_nodes_and_one_node_graphs_keep_their_trees():
    graphs = random_graphs(30)
    table, ids = grown(graphs, 2)
    alone = np.flatnonzero(graphs.degrees == 0)
    assert len(alone) and all(table.levels[2].offsets[t] == table.levels[2].offsets[t + 1] for t in ids[alone])
    assert bags(ids, graphs, table.trees).sum() == graphs.nodes

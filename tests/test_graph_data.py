"""Readers of graph data, and everything a file can get wrong."""

import gzip
import zipfile

import networkx as nx
import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from graph_samples import random_graphs
from stillhouse.core.errors import UserError
from stillhouse.graphs.data import number_classes, rename_classes, split_graphs
from stillhouse.graphs.folder import read_graph_folder
from stillhouse.graphs.load import load_graphs
from stillhouse.graphs.molecules import read_molecules
from stillhouse.graphs.motifs import motif_graphs
from stillhouse.graphs.pyg import from_pyg, to_pyg
from stillhouse.graphs.tu import read_tu
from stillhouse.graphs.words import learn_words

# two graphs: a triangle (class 7) and an edge (class -1); node numbers of the two are interleaved
FILES = {
    "A": "1, 3\n3, 1\n3, 5\n5, 3\n1, 5\n5, 1\n2, 4\n4, 2\n",
    "graph_indicator": "1\n2\n1\n2\n1\n",
    "graph_labels": "7\n-1\n",
    "node_labels": "0\n1\n0\n1\n2\n",
    "edge_labels": "0\n0\n1\n1\n0\n0\n5\n5\n",
    "node_attributes": "0.5, 1\n1.5, 2\n2.5, 3\n3.5, 4\n4.5, 5\n",
}


def tu_zip(path, *, extra=(), **changes):
    content = {**FILES, **changes}
    with zipfile.ZipFile(path, "w") as archive:
        for suffix, text in content.items():
            if text is not None:
                archive.writestr(f"TOY/TOY_{suffix}.txt", text)
        for name, text in extra:
            archive.writestr(name, text)
    return path


def test_tu_zip_is_read_with_nodes_in_the_order_of_their_graphs(tmp_path):
    graphs = read_tu(tu_zip(tmp_path / "TOY.zip"))
    assert graphs.name == "TOY" and graphs.class_names == ("-1", "7")
    assert graphs.classes.tolist() == [1, 0] and graphs.sizes.tolist() == [3, 2]
    assert graphs.node_labels.tolist() == [0, 0, 2, 1, 1]
    assert graphs.attributes[:, 0].tolist() == [0.5, 2.5, 4.5, 1.5, 3.5]
    triangle = graphs.select([0])
    assert sorted(zip(triangle.sources.tolist(), triangle.targets.tolist(), strict=True)) == [
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 2),
        (2, 0),
        (2, 1),
    ]
    assert graphs.edge_labels[graphs.edge_offsets[1] :].tolist() == [5, 5]
    assert not graphs.directed and graphs.select([1]).class_names == ("-1", "7")


def test_tu_folder_equals_its_zip(tmp_path):
    with zipfile.ZipFile(tu_zip(tmp_path / "TOY.zip")) as archive:
        archive.extractall(tmp_path)
    one, two = read_tu(tmp_path / "TOY.zip"), load_graphs(str(tmp_path / "TOY"))
    assert np.array_equal(one.sources, two.sources) and np.array_equal(one.node_labels, two.node_labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"A": None}, "0 files NAME_A.txt"),
        ({"graph_labels": None}, "graph_labels.txt is missing"),
        ({"graph_indicator": None}, "graph_indicator.txt is missing"),
        ({"A": "1, 9\n"}, "node of an edge is 8"),
        ({"A": "0, 1\n"}, "node of an edge is -1"),
        ({"A": "1, 2\n", "edge_labels": None}, "joins two graphs"),
        ({"A": "1, 2, 3\n"}, "has 3 columns"),
        ({"A": "1, x\n"}, "not a table of numbers"),
        ({"A": "1, 3\n3\n"}, "not a table of numbers|not whole|node of an edge"),
        ({"graph_indicator": "1\n3\n1\n1\n1\n"}, "graph of a node is 2"),
        ({"graph_indicator": "1\n1\n1\n1\n1\n", "A": "1, 2\n", "edge_labels": None}, "graph 1 has no node"),
        ({"node_labels": "0\n1\n"}, "2 node labels for 5"),
        ({"edge_labels": "0\n"}, "1 edge labels for 8"),
        ({"node_attributes": "1\nnan\n1\n1\n1\n"}, "not a finite number"),
        ({"node_labels": "0\n1\n0.5\n1\n2\n"}, "not whole"),
    ],
)
def test_malformed_tu_files_are_named(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read_tu(tu_zip(tmp_path / "TOY.zip", **changes))


@pytest.mark.parametrize("name", ["../../evil.txt", "/etc/evil", "TOY/../../x", "C:\\evil", "..\\evil"])
def test_hostile_paths_in_a_zip_are_refused_and_nothing_is_written(tmp_path, name):
    inside = tmp_path / "in"
    inside.mkdir()
    tu_zip(inside / "TOY.zip", extra=[(name, "x")])
    with pytest.raises(UserError, match="reaches outside"):
        read_tu(inside / "TOY.zip")
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "TOY.zip"]


def test_bombs_twins_and_broken_zips_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("stillhouse.graphs.tu.MAX_MEMBER_BYTES", 1000)
    with pytest.raises(UserError, match="unpacks to more"):
        read_tu(tu_zip(tmp_path / "bomb.zip", A="1, 3\n" * 1000))
    with pytest.raises(UserError, match="twice"):
        read_tu(tu_zip(tmp_path / "twin.zip", extra=[("OTHER/TOY_A.txt", "1, 3\n")]))
    (tmp_path / "broken.zip").write_bytes((tmp_path / "twin.zip").read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be read as a zip"):
        read_tu(tmp_path / "broken.zip")
    with pytest.raises(UserError, match="no file or folder"):
        load_graphs(str(tmp_path / "absent.zip"))


def test_set_without_labels_falls_back_to_attributes_then_degrees(tmp_path):
    plain = {"node_labels": None, "edge_labels": None}
    attributes = read_tu(tu_zip(tmp_path / "one.zip", **plain))
    assert learn_words(attributes).node_source == "attributes"
    bare = read_tu(tu_zip(tmp_path / "two.zip", **plain, node_attributes=None))
    words = learn_words(bare)
    assert words.node_source == "degree" and words.labels == ("1", "2")
    assert words.of_nodes(bare).tolist() == [1, 1, 1, 0, 0]
    assert learn_words(bare, nodes="degree-buckets").of_nodes(bare).tolist() == [0, 0, 0, 0, 0]
    with pytest.raises(UserError, match="no node labels"):
        learn_words(bare, nodes="labels")
    with pytest.raises(UserError, match="no edge labels"):
        learn_words(bare, edges="labels")


def test_codebook_error_is_the_share_of_variance_lost():
    from dataclasses import replace

    graphs = random_graphs(40)
    values = np.random.default_rng(0).normal(size=(graphs.nodes, 2)).astype(np.float32) * [1, 100]
    graphs = replace(graphs, node_labels=None, attributes=values.astype(np.float32))
    few, many = learn_words(graphs, codes=2), learn_words(graphs, codes=40)
    assert 0 < many.error < few.error < 1
    centres = few.codebook[few.of_nodes(graphs)]
    lost = (((values - centres) / few.scale) ** 2).sum() / (((values - values.mean(0)) / few.scale) ** 2).sum()
    assert few.error == pytest.approx(lost, rel=1e-3)
    assert few.features().shape == (3, 2)


def test_labels_and_attributes_together():
    from dataclasses import replace

    graphs = random_graphs(40)
    values = graphs.node_labels[:, None] + np.random.default_rng(0).normal(size=(graphs.nodes, 1)) * 0.01
    both = learn_words(replace(graphs, attributes=values.astype(np.float32)), nodes="both", codes=3)
    read = both.of_nodes(replace(graphs, attributes=values.astype(np.float32)))
    assert np.array_equal(read // 3, graphs.node_labels)
    assert both.features().shape == (10, 4)


def test_split_is_by_class_disjoint_and_by_seed():
    graphs = motif_graphs(100, 0)
    one, again, other = split_graphs(graphs, 0), split_graphs(graphs, 0), split_graphs(graphs, 1)
    assert [part.graphs for part in (one.train, one.select, one.report)] == [80, 10, 10]
    assert all(np.bincount(part.classes).tolist() == [part.graphs // 2] * 2 for part in (one.train, one.report))
    assert np.array_equal(one.report.node_labels, again.report.node_labels)
    assert not np.array_equal(one.report.node_labels, other.report.node_labels)


def test_class_with_one_graph_is_named():
    graphs = random_graphs(9).select([0, 2, 4, 1])
    with pytest.raises(UserError, match="class 'b' of random has 1 graph"):
        split_graphs(graphs, 0)


def test_classes_are_numbered_by_number_then_name():
    assert number_classes([10, -1, 9.0])[1] == ("-1", "9", "10")
    assert number_classes(["b", "a"])[0].tolist() == [1, 0]
    graphs = random_graphs(6)
    assert rename_classes(graphs, ("b", "a")).classes.tolist() == [1, 0, 1, 0, 1, 0]
    with pytest.raises(UserError, match="lacks"):
        rename_classes(graphs, ("a", "c"))


def test_molecules_with_bonds_salts_and_missing_labels(tmp_path):
    rows = ["smiles,y,note", "CCO,1,x", "c1ccccc1,0,y", "[Na+].[Cl-],1,z", "C#N,,w"]
    with gzip.open(tmp_path / "m.csv.gz", "wt") as file:
        file.write("\n".join(rows))
    graphs = read_molecules(tmp_path / "m.csv.gz", label_column="y")
    assert graphs.name == "m" and graphs.sizes.tolist() == [3, 6, 2] and graphs.class_names == ("0", "1")
    assert graphs.node_labels[:3].tolist() == [6, 6, 8] and len(graphs.sources) == 4 + 12
    assert {graphs.edge_names[k] for k in graphs.edge_labels.tolist()} == {"single", "aromatic"}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n", {}, "no column 'smiles'"),
        ("smiles,y\nCC,1\n", {"label_column": "z"}, "no column 'z'"),
        ("smiles,y\nC(C,1\nCC,0\n", {"label_column": "y"}, "cannot be read"),
        ("smiles,y\nCC,\n", {"label_column": "y"}, "no row"),
        ("", {}, "cannot be read as CSV"),
    ],
)
def test_bad_molecule_files_are_named(tmp_path, text, options, message):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_molecules(tmp_path / "m.csv", **options)


def test_folder_of_graphml_and_edge_lists(tmp_path):
    for name in ("ring", "path"):
        (tmp_path / name).mkdir()
    ring = nx.cycle_graph(4)
    nx.set_node_attributes(ring, "C", "label")
    nx.set_edge_attributes(ring, "single", "label")
    nx.write_graphml(ring, tmp_path / "ring" / "a.graphml")
    (tmp_path / "path" / "b.edges").write_text("# a comment\nx y\ny z double\nlonely\nx x\n")
    graphs = read_graph_folder(tmp_path)
    assert graphs.class_names == ("path", "ring") and graphs.sizes.tolist() == [4, 4]
    assert len(graphs.sources) == 5 + 8 and graphs.node_names == ("", "C")
    assert graphs.degrees.tolist() == [2, 2, 1, 0, 2, 2, 2, 2]
    assert learn_words(graphs).labels == ("", "C")
    (tmp_path / "labels.csv").write_text("file,label\nring/a.graphml,1\npath/b.edges,0\n")
    assert read_graph_folder(tmp_path).class_names == ("0", "1")
    (tmp_path / "labels.csv").write_text("file,label\n../outside.edges,1\n")
    with pytest.raises(UserError, match="outside the folder"):
        read_graph_folder(tmp_path)


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="no graph files"):
        read_graph_folder(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.graphml").write_text("<graphml>")
    with pytest.raises(UserError, match="not GraphML"):
        read_graph_folder(tmp_path)
    (tmp_path / "c" / "a.graphml").unlink()
    (tmp_path / "c" / "a.edges").write_text("1 2 3 4\n")
    with pytest.raises(UserError, match="line 1 has 4 fields"):
        read_graph_folder(tmp_path)


def test_torch_geometric_there_and_back():
    graphs = random_graphs(8)
    words = learn_words(graphs)
    x = torch.from_numpy(words.features()[words.of_nodes(graphs)])[:, : len(words.labels)]
    back = from_pyg(to_pyg(graphs, x))
    assert np.array_equal(back.node_labels, graphs.node_labels) and np.array_equal(back.sources, graphs.sources)
    assert np.array_equal(back.classes, graphs.classes)
    real = from_pyg(
        [Data(x=torch.tensor([[0.5], [1.5]]), edge_index=torch.tensor([[0], [1]]), y=torch.tensor([1]))] * 2
    )
    assert real.attributes.tolist() == [[0.5], [1.5]] * 2 and real.node_labels is None
    with pytest.raises(UserError, match="no single class"):
        from_pyg([Data(x=torch.zeros(2, 1), edge_index=torch.zeros(2, 0, dtype=torch.long))])


def test_motif_graphs_repeat_by_seed_and_size_tells_nothing():
    one, again, other = motif_graphs(400, 0), motif_graphs(400, 0), motif_graphs(400, 1)
    assert np.array_equal(one.sources, again.sources) and not np.array_equal(
        one.node_labels[:50], other.node_labels[:50]
    )
    a, b = (one.sizes[one.classes == c] for c in (0, 1))
    assert abs(a.mean() - b.mean()) < 3 * np.sqrt(a.var() / 200 + b.var() / 200)
    with pytest.raises(UserError, match="5 classes"):
        motif_graphs(20, 0, classes=5)


def test_public_sets_are_read_as_measured_by_others(public_data):
    graphs = read_tu(public_data / "tu_graphs" / "MUTAG.zip")
    assert (graphs.graphs, graphs.nodes) == (135, 2545)
    with pytest.raises(UserError, match="fetch it from"):
        load_graphs("NO-SUCH-SET")

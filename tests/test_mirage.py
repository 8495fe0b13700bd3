"""Mirage end to end: summaries that train networks, controls that tell evidence from luck, and the commands."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import stillhouse
from graph_samples import random_graphs
from stillhouse.core.errors import UserError
from stillhouse.graphs.arms import Arms, Row
from stillhouse.graphs.census import take_census
from stillhouse.graphs.controls import cross_validated, size_alone, weisfeiler_lehman
from stillhouse.graphs.data import split_graphs
from stillhouse.graphs.doscond import DosCondOptions, doscond
from stillhouse.graphs.kidd import KiddOptions, kidd
from stillhouse.graphs.motifs import motif_graphs
from stillhouse.graphs.networks import find_network
from stillhouse.graphs.pyg import from_pyg, to_pyg
from stillhouse.graphs.skew import measure_skew
from stillhouse.graphs.training import Recipe, auc, train_and_score
from stillhouse.graphs.words import learn_words
from stillhouse.methods import mirage
from stillhouse.methods.mirage import Config, commands
from stillhouse.methods.mirage.comparison import _marked


def arms_of(graphs=400, seed=0, network="gin", **recipe):
    split = split_graphs(motif_graphs(graphs, seed), seed)
    # reported on many fresh graphs, so that a threshold on AUC is not a coin
    split = dataclasses.replace(split, report=motif_graphs(400, seed + 100))
    return Arms(split, learn_words(split.train), Recipe(network, 2, 32, updates=200, checks=4, **recipe), 2, seed)


@pytest.mark.parametrize(
    ("network", "learns"), [("gin", True), ("gat", False), ("gcn", False), ("sage", False), ("gine", True)]
)
def test_one_summary_trains_every_network_about_as_well_as_all_graphs(network, learns):
    """Networks that average over neighbours hardly see these motifs, on all graphs as on the summary."""
    arms = arms_of(network=network, learning_rates=(1e-2,))
    summary = mirage.summarise(arms.split.train, Config(max_bytes=2000), arms.words)
    row = arms.on_summary(summary, 2000, 0.0)
    assert row.report > arms.full().report - 0.08
    if learns:
        assert row.report > 0.65


def test_class_labels_train_and_shuffled_classes_do_not():
    arms = arms_of(graphs=1200, learning_rates=(1e-2,))
    recipe = Config(labels="class", max_bytes=2000)
    assert arms.on_summary(mirage.summarise(arms.split.train, recipe, arms.words), 2000, 0.0).last > 0.7
    train = arms.split.train
    mixed = dataclasses.replace(train, classes=np.random.default_rng(0).permutation(train.classes))
    assert arms.on_summary(mirage.summarise(mixed, recipe, arms.words), 2000, 0.0).last < 0.6


def test_root_mask_pools_only_known_trees():
    arms = arms_of()
    summary = mirage.summarise(arms.split.train, Config(trees=5, components=2), arms.words)
    masked, whole = (
        summary.exam(arms.split.report),
        dataclasses.replace(summary, root_mask=False).exam(arms.split.report),
    )
    known = masked.counts.sum().item() / whole.counts.sum().item()
    assert known == pytest.approx(summary.coverage(arms.split.report)) and 0 < known < 1
    assert whole.counts.sum().item() == arms.split.report.nodes


def test_summaries_of_the_same_graphs_are_the_same_bytes_whatever_the_workers():
    from stillhouse.graphs.codec import pack

    graphs = motif_graphs(60, 0)
    one, two = (mirage.summarise(graphs, Config(max_bytes=800, workers=n)) for n in (1, 2))
    assert pack(one) == pack(two)


def test_torch_geometric_data_set_in_memory():
    graphs = motif_graphs(60, 0)
    x = torch.eye(3)[torch.from_numpy(graphs.node_labels)]
    summary = mirage.summarise(from_pyg(to_pyg(graphs, x)), Config(max_bytes=800))
    counts, targets = summary.material(32).draw(0, 0)
    assert counts.shape == (32, summary.vocabulary.trees) and targets.shape == (32, 2)


def test_a_users_network_by_name(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from torch_geometric.nn import GraphConv\n"
        "def make(features, edge_features, width, layers):\n    return GraphConv(features, width)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arms = arms_of(60, network="mine:make")
    assert 0 <= arms.random(500).report <= 1
    with pytest.raises(UserError, match="cannot find the network"):
        arms_of(60, network="mine:absent").random(500)
    with pytest.raises(UserError, match="no network 'gim'"):
        arms_of(60, network="gim").random(500)


def test_two_seeds_start_from_different_weights_and_one_seed_repeats():
    arms = arms_of(60)
    material = arms._whole(arms.split.train)
    scores = [
        train_and_score(material, dataclasses.replace(arms.recipe, updates=1, checks=1), *arms.exams, 2, s)
        for s in (0, 0, 1)
    ]
    assert scores[0] == scores[1] and scores[0] != scores[2]


def test_a_users_network_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "near.py").write_text("def make(features, edge_features, width, layers):\n    return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert find_network("near:make")(1, 1, 1, 1) == 7


def test_every_learning_rate_is_tried_and_select_decides():
    arms = arms_of(120)
    material = arms._whole(arms.split.train)

    def score(*rates):
        recipe = dataclasses.replace(arms.recipe, updates=40, learning_rates=rates)
        return train_and_score(material, recipe, *arms.exams, 2, 0)

    still, learning = score(1e-9), score(1e-2)
    assert still.select != learning.select
    assert score(1e-9, 1e-2) == score(1e-2, 1e-9) == max(still, learning, key=lambda one: one.select)


def test_controls():
    split = split_graphs(motif_graphs(300, 0), 0)
    words = learn_words(split.train)
    assert size_alone(split).report < 0.75
    assert weisfeiler_lehman(split, words, 2).report > 0.75
    classes = np.arange(60) % 2
    assert cross_validated(classes[:, None] * 3.0, classes) == 1.0
    assert np.isnan(cross_validated(np.zeros((5, 1)), np.array([0, 0, 0, 0, 1])))


def test_auc_of_two_and_of_three_classes():
    assert auc(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])) == 1.0
    classes = np.array([0, 1, 2, 0])
    assert auc(classes, np.eye(3)[classes]) == 1.0
    assert auc(np.array([0, 0, 1]), np.eye(3)[[0, 0, 1]]) == 1.0


def test_three_classes_end_to_end():
    split = split_graphs(motif_graphs(240, 0, classes=3), 0)
    arms = Arms(
        split, learn_words(split.train), Recipe("gin", 2, 32, updates=200, checks=4, learning_rates=(1e-2,)), 2, 0
    )
    summary = mirage.summarise(split.train, Config(), arms.words)
    assert summary.classes == 3 and arms.on_summary(summary, 0, 0.0).last > 0.65


@pytest.mark.parametrize(("report", "marked"), [(0.61, True), (0.63, False)])
def test_row_that_does_not_clear_the_untrained_network_is_no_evidence(report, marked):
    row, floor = Row(0.6, report, report, 0, 0.0, 0.0, note="n"), Row(0.6, 0.6, 0.6, 0, 0.0, 0.0)
    assert ("no evidence" in _marked(row, "student", floor).note) == marked
    assert _marked(row, "floor", floor) is row


def test_doscond_starts_from_real_graphs_and_its_loss_moves_it():
    split = split_graphs(motif_graphs(60, 0), 0)
    words = learn_words(split.train)
    start, end = (doscond(split.train, words, DosCondOptions(2, n, 16), 0) for n in (0, 8))
    assert start.x.shape == end.x.shape and start.classes.tolist() == [0, 0, 1, 1]
    assert not start.x.equal(end.x) and torch.isfinite(end.x).all()
    assert set(start.adjacency.unique().tolist()) <= {0.0, 1.0}
    assert end.adjacency.equal(end.adjacency.transpose(1, 2))
    assert len(end.packed()) > 2 * end.x.shape[2]
    assert end.material().draw(0, 0)[0].shape == (4, int(end.mask.sum()))


def test_kidd_predicts_training_classes_better_as_it_learns():
    split = split_graphs(motif_graphs(80, 0), 0)
    words = learn_words(split.train)
    start, end = (kidd(split.train, words, KiddOptions(1, n, 64, 0.05), 0) for n in (0, 10))
    assert not start.x.equal(end.x) and start.adjacency.equal(end.adjacency)
    assert torch.isfinite(end.x).all()


def test_kernel_of_a_graph_with_itself_is_one_and_symmetric():
    from stillhouse.graphs.dense import dense_real
    from stillhouse.graphs.kidd import _kernel, _kernelled

    graphs = motif_graphs(6, 0)
    dense = dense_real(graphs, learn_words(graphs), 100)
    ready = _kernelled(dense.x, dense.adjacency, dense.mask, 3)
    kernel = _kernel(ready, ready)
    assert kernel.diagonal() == pytest.approx(np.ones(6), abs=1e-3)
    assert kernel.equal(kernel) and (kernel - kernel.T).abs().max() < 1e-4 and kernel.max() < 1 + 1e-3


def test_skew_tells_molecule_like_graphs_from_random_ones():
    split = split_graphs(motif_graphs(300, 0), 0)
    good = measure_skew(split, learn_words(split.train), 2)
    assert "classes apart" in good.verdict and good.coverage[0] < good.coverage[1] < good.coverage[2] <= 1
    rough = split_graphs(random_graphs(200, labels=30), 0)
    assert "not skewed" in measure_skew(rough, learn_words(rough.train), 2).verdict


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hops": 5}, "hops is 5"),
        ({"layers": 3}, "3 layers on trees of 2 hops"),
        ({"support": 1.5}, "support is 1.5"),
        ({"network": "symmetric-gcn"}, "--gcn-exact"),
        ({"max_bytes": 0}, "neither max_bytes"),
        ({"updates": 0}, "below 1"),
        ({"learning_rates": ()}, "learning_rates"),
        ({"learning_rates": (0.0, 1e-3)}, "learning_rates"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Config(**options)


def test_killed_comparison_goes_on_without_finished_arms(tmp_path, monkeypatch):
    options = {"graphs": 60, "max_bytes": 500, "updates": 5, "width": 8, "compare": "controls"}

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    monkeypatch.setattr(Arms, "random", stop)
    with pytest.raises(Stop):
        stillhouse.run("mirage", out=tmp_path / "run", quiet=True, **options)
    monkeypatch.undo()
    done = sorted(p.name for p in (tmp_path / "run" / "arms").iterdir())
    assert "full-data.json" in done and "summary.json" in done
    monkeypatch.setattr(Arms, "full", stop)
    run = stillhouse.resume(tmp_path / "run", quiet=True)
    assert {arm.role for arm in run.result.arms} >= {"student", "teacher", "baseline", "floor", "peer"}
    student = stillhouse.load(run.folder)
    shares = student.predict(motif_graphs(10, 9))
    assert shares.shape == (10, 2) and shares.sum(1) == pytest.approx(np.ones(10), abs=1e-5)


def test_commands_make_show_and_train_on_a_summary(tmp_path, capsys):
    file = tmp_path / "s.mirage"
    commands.summarise(Config(graphs=200, max_bytes=1000), out=file)
    said = capsys.readouterr()
    assert file.stat().st_size <= 1000 and "bytes in" in said.out and "trees: 160/160" in said.err
    commands.show(file, trees=2)
    shown = capsys.readouterr().out
    assert "tree 0: 0(2x 0(2x 0))" in shown and "class 1: 80 graphs" in shown
    commands.show(file, json=True)
    assert json.loads(capsys.readouterr().out)["hops"] == 2
    commands.train(file, "motifs", updates=10, width=8, out=tmp_path / "net")
    assert "untrained network" in capsys.readouterr().out
    assert (tmp_path / "net" / "network.safetensors").exists()
    with pytest.raises(UserError, match="at most 2"):
        commands.train(file, "motifs", layers=3)


def test_skew_command_in_words_and_as_json(capsys):
    commands.skew("motifs", hops=(1,))
    assert "top 200" in capsys.readouterr().out
    commands.skew("motifs", hops=(1, 2), json=True)
    assert [row["hops"] for row in json.loads(capsys.readouterr().out)] == [1, 2]


def test_wrong_data_is_one_line_and_exit_code_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "stillhouse", "mirage", "skew", str(tmp_path / "absent.zip")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no file or folder" in done.stderr


def test_paper_arm_with_published_settings_runs(tmp_path):
    census = take_census([motif_graphs(60, 0)], learn_words(motif_graphs(60, 0)), 2)
    summary = mirage.summary_of(Config(summary="itemsets", support=0.5), census)
    assert summary.kind == "itemsets" and not summary.root_mask and not summary.class_prior
    assert all(s.support >= 15 for sets in summary.itemsets for s in sets)
    exclusive = mirage.summary_of(Config(summary="itemsets", support=0.4, exclusive=True), census)
    assert not {s.items for s in exclusive.itemsets[0]} & {s.items for s in exclusive.itemsets[1]}

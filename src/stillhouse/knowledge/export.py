"""The graph for other tools: Turtle, GraphML, CSV for neo4j-admin, Cypher, and SPARQL UPDATE to an endpoint."""

from __future__ import annotations

import csv
import io
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyoxigraph as ox

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import make_folder_atomically, write_atomically
from stillhouse.knowledge.biolink import BIOLINK
from stillhouse.knowledge.queries import EDGE_FIELDS, Edge, name_of
from stillhouse.knowledge.store import PREFIXES, A, Graph, own

BATCH = 2000
"""Triples of one update that is sent to an endpoint."""


def concepts(graph: Graph) -> Iterator[tuple[str, str, str]]:
    """(id, name, Biolink category) of every concept."""
    seen: set[str] = set()
    for quad in graph.quads(None, own("curie"), None):
        node = quad.subject
        if node.value in seen:
            continue
        seen.add(node.value)
        kinds = sorted(q.object.value for q in graph.quads(node, A, None))
        yield quad.object.value, name_of(graph, node), kinds[0].removeprefix(BIOLINK) if kinds else "NamedThing"


def edges(graph: Graph, least: float = 0.0) -> Iterator[Edge]:
    """Every edge that some sentence asserts."""
    for row in graph.select(f"SELECT * WHERE {{ {EDGE_FIELDS} FILTER(?n > 0 && ?c >= {least:f}) }}"):
        yield Edge(
            row["e"].value.rpartition(":")[2],
            row["sc"].value,
            row["p"].value.rpartition("/")[2],
            row["oc"].value,
            row["l"].value,
            float(row["c"].value),
            int(row["n"].value),
            int(row["d"].value),
        )


def write_turtle(graph: Graph, out: Path) -> int:
    """Everything in the store, evidence included; triples written."""
    made = graph.store.dump(
        format=ox.RdfFormat.TURTLE, from_graph=ox.DefaultGraph(), prefixes={k: v for k, v in PREFIXES.items() if k}
    )
    write_atomically(out, made or b"")
    return len(graph.store)


def write_graphml(graph: Graph, out: Path) -> int:
    """Concepts and edges for Gephi, Cytoscape and networkx, which hold it in memory; edges written."""
    import networkx as nx

    made = nx.MultiDiGraph()
    for name, label, kind in concepts(graph):
        made.add_node(name, label=label, category=kind)
    for e in edges(graph):
        made.add_edge(
            e.subject,
            e.object,
            key=e.id,
            predicate=e.predicate,
            relation=e.label,
            confidence=e.confidence,
            support=e.support,
        )
    buffer = io.BytesIO()
    nx.write_graphml(made, buffer)
    write_atomically(out, buffer.getvalue())
    return int(made.number_of_edges())


NEO4J_IMPORT = "neo4j-admin database import full --nodes=nodes.csv --relationships=edges.csv --overwrite-destination kg"


def write_neo4j_csv(graph: Graph, out: Path) -> int:
    """A folder with nodes.csv and edges.csv for neo4j-admin, and the command that imports them; edges written."""
    written = 0

    def fill(folder: Path) -> None:
        nonlocal written
        head = ["id:ID", "name", ":LABEL"]
        _rows(folder / "nodes.csv", head, concepts(graph))
        head = [":START_ID", ":END_ID", ":TYPE", "id", "relation", "confidence:double", "support:int", "denied:int"]
        found = (
            (e.subject, e.object, e.predicate, e.id, e.label, e.confidence, e.support, e.denied) for e in edges(graph)
        )
        written = _rows(folder / "edges.csv", head, found)
        (folder / "import.txt").write_text(NEO4J_IMPORT + "\n", encoding="utf-8")

    make_folder_atomically(out, fill)
    return written


def _rows(file: Path, head: list[str], rows: Iterable[tuple[Any, ...]]) -> int:
    count = 0
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(head)
        for row in rows:
            writer.writerow(row)
            count += 1
    return count


def write_cypher(graph: Graph, out: Path) -> int:
    """MERGE statements for cypher-shell, which may be run twice; edges written."""
    lines = ["CREATE CONSTRAINT concept_id IF NOT EXISTS FOR (c:Concept) REQUIRE c.id IS UNIQUE;"]
    lines += [
        f"MERGE (c:Concept {{id: {_quoted(name)}}}) SET c.name = {_quoted(label)}, c:{_word(kind)};"
        for name, label, kind in concepts(graph)
    ]
    made = 0
    for e in edges(graph):
        made += 1
        values = f"r.relation = {_quoted(e.label)}, r.confidence = {e.confidence}, r.support = {e.support}, r.denied = {e.denied}"
        lines.append(
            f"MATCH (a:Concept {{id: {_quoted(e.subject)}}}), (b:Concept {{id: {_quoted(e.object)}}}) "
            f"MERGE (a)-[r:{_word(e.predicate)} {{id: {_quoted(e.id)}}}]->(b) SET {values};"
        )
    write_atomically(out, "\n".join(lines) + "\n")
    return made


def _quoted(text: str) -> str:
    """A Cypher string; JSON's escapes are Cypher's."""
    return json.dumps(text)


def _word(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


WRITERS: dict[str, Callable[[Graph, Path], int]] = {
    "turtle": write_turtle,
    "graphml": write_graphml,
    "neo4j-csv": write_neo4j_csv,
    "cypher": write_cypher,
}


def send(graph: Graph, endpoint: str, seen: Callable[[int], None] = lambda _: None, batch: int = BATCH) -> int:
    """Send every triple to a SPARQL 1.1 endpoint as INSERT DATA; sending twice changes nothing. Triples sent.

    Args:
        graph: the store.
        endpoint: URL that takes SPARQL UPDATE by POST.
        seen: told the triples sent so far.
        batch: triples a request.

    Raises:
        UserError: not a URL of http or https, not reachable, or it refuses an update.
    """
    require(urlsplit(endpoint).scheme in ("http", "https"), f"{endpoint!r} is not a URL", "give http://host/update")
    triples = (str(quad.triple) for quad in graph.store)
    sent = 0
    while part := list(islice(triples, batch)):
        _post(endpoint, "INSERT DATA {\n" + "".join(f"{triple} .\n" for triple in part) + "}", sent)
        sent += len(part)
        seen(sent)
    return sent


def _post(endpoint: str, update: str, sent: int) -> None:
    request = urllib.request.Request(
        endpoint, update.encode(), {"Content-Type": "application/sparql-update; charset=utf-8"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        said = error.read(300).decode(errors="replace").strip()
        raise UserError(
            f"{endpoint} refused an update after {sent:,} triples (HTTP {error.code}: {said[:120]})",
            "give the URL of its update service; sending again is safe",
        ) from error
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"{endpoint} cannot be reached after {sent:,} triples ({first_line(Exception(str(reason)))})",
            "start the server; sending again is safe",
        ) from error

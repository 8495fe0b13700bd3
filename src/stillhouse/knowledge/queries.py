"""Questions to the graph: what is a name, who are its neighbours, what leads from one to another, and who says so."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import pyoxigraph as ox

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.knowledge.biolink import BIOLINK, PREDICATES, predicate_of
from stillhouse.knowledge.documents import Span
from stillhouse.knowledge.store import NAME, Graph, concept_node, own

MOST_EXPANDED = 50_000
"""Neighbours of a hub that a path search looks at."""
MOST_WEIGHED = 3
"""Ways of equal length that are compared."""
WALKED = tuple(
    ox.NamedNode(BIOLINK + name) for name in sorted({p.name for p in (*PREDICATES.values(), predicate_of(""))})
)
"""Predicates of the plain triples between concepts."""


@dataclass(frozen=True)
class Edge:
    """An edge as a reader sees it."""

    id: str
    subject: str
    predicate: str
    object: str
    """Concepts as namespace:id."""
    label: str
    confidence: float
    support: int
    denied: int
    subject_name: str = ""
    object_name: str = ""


@dataclass(frozen=True)
class Finding:
    """A sentence behind an edge."""

    document: str
    sentence: str
    offset: int
    subject: Span
    object: Span
    extractor: str
    probability: float
    negated: bool
    hedged: bool


EDGE_FIELDS = """?e rdf:subject ?s ; rdf:predicate ?p ; rdf:object ?o ; :label ?l ; :confidence ?c ; :support ?n ; :denied ?d .
    ?s :curie ?sc . ?o :curie ?oc ."""


MOST_ROWS = 1_000_000
"""Of an answer, which is held in memory."""


def sparql(graph: Graph, query: str, seconds: float = 60.0) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a query; one row for ASK, triples for CONSTRUCT.

    Raises:
        UserError: the query is not SPARQL (says where), takes longer than `seconds`, or has too many rows.
    """
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_answer(graph, query))
        except BaseException as error:  # raised again below, where somebody waits for it
            traceback.clear_frames(error.__traceback__)  # an unfinished answer may only be dropped by its own thread
            answers.put(error)

    # the engine cannot be stopped, and lets other threads run: one that is given up ends with the process
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise UserError(
            f"the query takes longer than {seconds:g} seconds", "join fewer patterns, or allow more with --seconds"
        ) from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _answer(graph: Graph, query: str) -> tuple[list[str], list[list[str]]]:
    try:
        found = graph.select(query)
        if isinstance(found, ox.QueryBoolean):
            return ["answer"], [["true" if bool(found) else "false"]]
        if isinstance(found, ox.QueryTriples):
            return ["subject", "predicate", "object"], [
                [_plain(t.subject), _plain(t.predicate), _plain(t.object)] for t in _bounded(found)
            ]
        names = [variable.value for variable in found.variables]
        return names, [[_plain(row[name]) for name in names] for row in _bounded(found)]
    except (SyntaxError, ValueError) as error:
        raise UserError(
            f"the query cannot be read ({first_line(error)})",
            "it is SPARQL 1.1 with the prefixes rdf, rdfs, biolink and :",
        ) from error


def _bounded(rows: Iterable[Any]) -> Iterator[Any]:
    for number, row in enumerate(rows):
        require(number < MOST_ROWS, f"the query has more than {MOST_ROWS:,} rows", "add a LIMIT")
        yield row


def _plain(term: Any) -> str:
    return "" if term is None else str(getattr(term, "value", term))


def find_concept(graph: Graph, name: str) -> ox.NamedNode:
    """The concept of a compact id or of a name.

    Raises:
        UserError: none, or several have that name; names them.
    """
    if ":" in name:
        node = concept_node(name)
        if any(graph.quads(node, NAME, None)):
            return node
    found = sorted({q.subject.value for q in graph.quads(None, NAME, ox.Literal(" ".join(name.lower().split())))})
    require(
        bool(found),
        f"nothing in the graph is called {name!r}",
        "give a name as the texts write it, or an id such as MESH:D003924",
    )
    curies = [_curie(graph, ox.NamedNode(one)) for one in found]
    require(len(found) == 1, f"{name!r} is ambiguous: {', '.join(curies[:8])}", "give one of these ids")
    return ox.NamedNode(found[0])


def _curie(graph: Graph, node: ox.NamedNode) -> str:
    return next((str(q.object.value) for q in graph.quads(node, own("curie"), None)), node.value)


def name_of(graph: Graph, node: ox.NamedNode) -> str:
    """The shortest of a concept's names, the first in the alphabet of equals."""
    names = [str(q.object.value) for q in graph.quads(node, NAME, None)]
    return min(names, key=lambda n: (len(n), n), default=node.value)


def neighbours(graph: Graph, name: str, least: float = 0.0, most: int = 50) -> list[Edge]:
    """Edges of a concept, the surest first.

    Args:
        graph: the store.
        name: a concept's id or name.
        least: smallest confidence.
        most: edges returned.
    """
    node = find_concept(graph, name)
    found = [edge for side in ("s", "o") for edge in _edges_at(graph, side, node, least, most)]
    return sorted(found, key=lambda e: (-e.confidence, -e.support, e.id))[:most]


def _edges_at(graph: Graph, side: str, node: ox.NamedNode, least: float, most: int) -> list[Edge]:
    """Edges with the concept on one side; only of those that are returned more than the confidence is looked up."""
    place = "subject" if side == "s" else "object"
    surest = (
        f"{{ SELECT ?e WHERE {{ ?e rdf:{place} ?{side} ; :confidence ?c0 ; :support ?n0 "
        f"FILTER(?c0 >= {least:f} && ?n0 > 0) }} ORDER BY DESC(?c0) DESC(?n0) ?e LIMIT {most} }}"
    )
    query = f"SELECT * WHERE {{ {surest} {EDGE_FIELDS} }}"
    return [_edge(graph, row, {side: node}) for row in graph.select(query, {side: node})]


def _edge(graph: Graph, row: Any, known: dict[str, Any]) -> Edge:
    def value(name: str) -> Any:
        return known[name] if name in known else row[name]

    return Edge(
        value("e").value.rpartition(":")[2],
        row["sc"].value,
        value("p").value.rpartition("/")[2],
        row["oc"].value,
        row["l"].value,
        float(row["c"].value),
        int(row["n"].value),
        int(row["d"].value),
        name_of(graph, value("s")),
        name_of(graph, value("o")),
    )


def edge_by_id(graph: Graph, edge: str) -> Edge:
    """An edge by its id.

    Raises:
        UserError: there is none.
    """
    node = own(f"edge:{edge}")
    rows = list(graph.select(f"SELECT * WHERE {{ {EDGE_FIELDS} }}", {"e": node}))
    require(bool(rows), f"no edge {edge!r}", "ids of edges are printed by: stillhouse kg neighbours NAME")
    return _edge(graph, rows[0], {"e": node})


def edges_between(graph: Graph, one: str, two: str) -> list[Edge]:
    """Edges of two concepts, in either direction, denied ones too."""
    a, b = find_concept(graph, one), find_concept(graph, two)
    return list(_between(graph, a, b))


def _between(graph: Graph, a: ox.NamedNode, b: ox.NamedNode) -> Iterator[Edge]:
    for subject, object in ((a, b), (b, a)):
        ends = {"s": subject, "o": object}
        for row in graph.select(f"SELECT * WHERE {{ {EDGE_FIELDS} }} ORDER BY DESC(?c) ?e", ends):
            yield _edge(graph, row, ends)


def path(graph: Graph, one: str, two: str, most_hops: int = 4) -> list[Edge]:
    """The edges of a shortest way from one concept to another, at every step the surest; empty if there is none.

    Searched from both ends by turns. Of the ways that meet at once (MOST_WEIGHED of them) it is the one whose weakest edge is surest.

    Raises:
        UserError: a name that the graph does not know, or both are one concept.
    """
    start, goal = find_concept(graph, one), find_concept(graph, two)
    require(start != goal, f"{one!r} and {two!r} are one concept", "name two")
    came: list[dict[ox.NamedNode, ox.NamedNode | None]] = [{start: None}, {goal: None}]
    fronts = [[start], [goal]]
    for _ in range(most_hops):
        side = 0 if len(fronts[0]) <= len(fronts[1]) else 1
        fronts[side], meetings = _expand(graph, fronts[side], came[side], came[1 - side])
        if meetings:
            ways = [_way(graph, meeting, came) for meeting in meetings[:MOST_WEIGHED]]
            return max(ways, key=lambda way: min(edge.confidence for edge in way))
        if not fronts[side]:
            break
    return []


def _expand(
    graph: Graph, front: Sequence[ox.NamedNode], came: dict[Any, Any], other: dict[Any, Any]
) -> tuple[list[ox.NamedNode], list[ox.NamedNode]]:
    """One step of the search: the new front, and the nodes where the first node that leads to the other search meets it."""
    new: list[ox.NamedNode] = []
    for node in front:
        meetings: list[ox.NamedNode] = []
        for near in islice(_adjacent(graph, node), MOST_EXPANDED):
            if near in came:
                continue
            came[near] = node
            (meetings if near in other else new).append(near)
        if meetings:
            return new, meetings
    return new, []


def _adjacent(graph: Graph, node: ox.NamedNode) -> Iterator[ox.NamedNode]:
    """Concepts that an edge joins to this one; edges that are only denied have no triple of their own."""
    for predicate in WALKED:
        yield from (quad.object for quad in graph.quads(node, predicate, None))
        yield from (quad.subject for quad in graph.quads(None, predicate, node))


def _way(graph: Graph, meeting: ox.NamedNode, came: Sequence[dict[Any, Any]]) -> list[Edge]:
    """The surest edge of every step of the way through a node where both searches meet."""
    nodes = [*reversed(_trail(meeting, came[0])), *_trail(meeting, came[1])[1:]]
    return [max(_between(graph, a, b), key=lambda edge: edge.confidence) for a, b in pairwise(nodes)]


def _trail(node: Any, came: dict[Any, Any]) -> list[Any]:
    """From a node back to where its search began."""
    found = [node]
    while (node := came[node]) is not None:
        found.append(node)
    return found


def evidence(graph: Graph, edge: str) -> list[Finding]:
    """Every sentence behind an edge, the surest first."""
    edge_by_id(graph, edge)
    query = """SELECT * WHERE { ?v :of ?e ; :document ?d ; :sentence ?t ; :offset ?a ; :subjectSpan ?s ; :objectSpan ?o ;
        :extractor ?x ; :probability ?p ; :negated ?n ; :hedged ?h } ORDER BY DESC(?p) ?d ?a"""
    return [
        Finding(
            row["d"].value,
            row["t"].value,
            int(row["a"].value),
            _span(row["s"].value),
            _span(row["o"].value),
            row["x"].value,
            float(row["p"].value),
            row["n"].value == "true",
            row["h"].value == "true",
        )
        for row in graph.select(query, {"e": own(f"edge:{edge}")})
    ]


def _span(written: str) -> Span:
    start, _, end = written.partition("-")
    return int(start), int(end)


def highlighted(sentence: str, places: Sequence[tuple[Span, str, str]]) -> str:
    """A sentence with (place, before, after) put round mentions; places that overlap the one before are left plain."""
    made, last = "", 0
    for (start, end), before, after in sorted(places):
        if start < last:
            continue
        made += sentence[last:start] + before + sentence[start:end] + after
        last = end
    return made + sentence[last:]

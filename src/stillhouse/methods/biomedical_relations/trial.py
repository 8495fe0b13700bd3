"""Walk the run's knowledge graph: a concept, its neighbours, and the sentences behind every edge. No torch is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from stillhouse.core.errors import UserError, require
from stillhouse.core.result import Table
from stillhouse.core.trial import Number, Output, Page, Ready, Text, Trial
from stillhouse.knowledge import queries
from stillhouse.knowledge.page import Shown, neighbourhood_page
from stillhouse.knowledge.store import Graph, concept_node

SENTENCES = 8


def open_run(run: Path) -> Ready:
    """The graph that the run built of the report documents; it is opened anew for every question, so others can use it.

    Raises:
        UserError: the run found no edge.
    """
    folder = run / "graph"
    require(folder.is_dir(), f"{run} has no graph", "its extractors found no edge")
    with Graph(folder) as graph:
        first = _some_concept(graph)

    def answer(concept: str, least: float, most: int) -> Iterator[Output]:
        with Graph(folder) as graph:
            node = queries.find_concept(graph, concept)
            found = queries.neighbours(graph, concept, least, 10_000)
            require(bool(found), f"{concept!r} has no such edge", "lower the confidence, or name another concept")
            shown = [Shown(edge, tuple(queries.evidence(graph, edge.id)[:SENTENCES])) for edge in found[:most]]
            centre = next(c for edge in found for c in (edge.subject, edge.object) if concept_node(c) == node)
            name = queries.name_of(graph, node)
        rows = tuple(
            (
                s.edge.subject_name,
                s.says,
                s.edge.object_name,
                round(s.edge.confidence, 3),
                s.edge.support,
                s.edge.denied,
            )
            for s in shown
        )
        yield Table(
            f"Edges of {name}", ("Subject", "Relation", "Object", "Confidence", "Sentences for", "Against"), rows
        )
        yield Page(f"{name} and its neighbours", neighbourhood_page(name, centre, shown, max(0, len(found) - most)))

    return Ready(
        {
            "concept": Text("Concept, by name or id", first, 120),
            "least": Number("Confidence, at least", 0.0, 1.0, 0.0, whole=False),
            "most": Number("Edges shown", 1, 40, 12),
        },
        answer,
    )


def _some_concept(graph: Graph) -> str:
    """A concept of the graph to begin with: the subject of its surest edge."""
    for row in graph.select(
        "SELECT ?n WHERE { ?e :confidence ?c ; rdf:subject ?s . ?s :curie ?n } ORDER BY DESC(?c) LIMIT 1"
    ):
        return str(row[0].value)
    raise UserError("the run's graph has no edge", "its extractors found none; try a longer run")


TRIALS: Mapping[str, Trial] = {
    "walk": Trial("Walk the graph", "A concept's neighbours, and the sentences behind every edge.", open_run)
}

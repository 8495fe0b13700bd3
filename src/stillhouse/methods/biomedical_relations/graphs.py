"""The graph of the report split's documents, judged edge by edge against their annotation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from stillhouse.core.run import Run
from stillhouse.knowledge.biolink import curie
from stillhouse.knowledge.documents import Counts, Document, Relation
from stillhouse.knowledge.edges import Evidence
from stillhouse.knowledge.pairs import candidate_pairs
from stillhouse.knowledge.store import Graph
from stillhouse.methods.biomedical_relations.data import RelationData
from stillhouse.methods.biomedical_relations.evaluation import GraphScore, Key, graph_score
from stillhouse.methods.biomedical_relations.extraction import Extraction, build

CONFIDENCES = (0.0, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Borders of the table of confidence against precision."""


def edge_keys(evidence: Sequence[Evidence]) -> dict[Key, float]:
    """Edges of each document, with the probability of their surest sentence; denied ones are none."""
    found: dict[Key, float] = {}
    for one in evidence:
        if not one.negated:
            key = (one.document, frozenset((one.subject.id, one.object.id)), one.label)
            found[key] = max(found.get(key, 0.0), one.probability)
    return found


def with_curies(document: Document) -> Document:
    """The document's relations between concepts as the graph names them."""
    kinds = {concept: m.type for m in document.mentions for concept in m.ids}
    made = tuple(
        Relation(r.label, *(curie(c, kinds.get(c, "")) for c in (r.first, r.second))) for r in document.relations
    )
    return Document(document.id, document.text, document.mentions, made)


def judge(extraction: Extraction, documents: Sequence[Document]) -> tuple[GraphScore, dict[Key, float]]:
    """Precision and recall of the edges of annotated documents, and the edges."""
    edges = edge_keys(extraction.evidence(documents))
    meeting = {
        (d.id, frozenset(curie(c, kind) for c, kind in zip(p.concepts, p.types, strict=True)))
        for d in documents
        for p in candidate_pairs(d, extraction.allows)
    }
    return graph_score(edges, [with_curies(d) for d in documents], meeting), edges


def f1_of(score: GraphScore) -> float:
    """Harmonic mean of precision and recall."""
    return 2 * score.precision * score.recall / max(1e-9, score.precision + score.recall)


def confidence_rows(edges: dict[Key, float], documents: Sequence[Document]) -> list[tuple[str | float, ...]]:
    """(confidence, edges, mean confidence, share that is annotated) in bins."""
    gold = {(d.id, frozenset((r.first, r.second)), r.label) for d in map(with_curies, documents) for r in d.relations}
    rows: list[tuple[str | float, ...]] = []
    for low, high in pairwise(CONFIDENCES):
        inside = {key: p for key, p in edges.items() if low <= p < high or (p == high == 1.0)}
        if inside:
            right = sum(key in gold for key in inside) / len(inside)
            rows.append(
                (f"{low:g} to {high:g}", len(inside), round(sum(inside.values()) / len(inside), 3), round(right, 3))
            )
    return rows


def build_report_graph(extraction: Extraction, data: RelationData, run: Run) -> tuple[Path, dict[str, int]]:
    """The graph of the report documents, in the run folder."""
    folder = run.folder / "graph"
    with Graph(folder, write=True) as graph:
        build(data.documents, extraction, graph, Counts())
        return folder, graph.sizes()

"""Evidence for an edge, and how much of it makes how sure: p(edge) = 1 - prod over documents (1 - max p in the document)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stillhouse.core.files import content_hash
from stillhouse.knowledge.biolink import curie, edge_id, ordered
from stillhouse.knowledge.cues import stance
from stillhouse.knowledge.documents import Span
from stillhouse.knowledge.pairs import Pair

SUREST = 0.9999
"""No number of sentences makes an edge surer than this."""


@dataclass(frozen=True)
class Concept:
    """An end of an edge."""

    id: str
    """namespace:id"""
    type: str
    name: str
    """As the text has it."""


@dataclass(frozen=True)
class Evidence:
    """One sentence in which an extractor saw a relation."""

    subject: Concept
    object: Concept
    label: str
    document: str
    sentence: str
    offset: int
    """Code point of the document at which the sentence begins."""
    subject_span: Span
    object_span: Span
    """Places in the sentence."""
    extractor: str
    probability: float
    negated: bool
    hedged: bool

    @property
    def edge(self) -> str:
        """Id of the edge that it is evidence for."""
        return edge_id(self.subject.id, self.label, self.object.id)

    @property
    def id(self) -> str:
        """The same for the same finding, so that nothing is loaded twice."""
        places = (self.offset, self.subject_span, self.object_span)
        return content_hash(["evidence", self.edge, self.document, repr(places), self.extractor])


def evidence_of(pair: Pair, label: str, probability: float, extractor: str) -> Evidence:
    """What a labelled pair says, subject first."""
    ends = [
        (kind, curie(concept, kind), place)
        for kind, concept, place in zip(pair.types, pair.concepts, (pair.first, pair.second), strict=True)
    ]
    swap = ordered(ends[0][:2], ends[1][:2])[0] != ends[0][:2]
    (kind, one, place), (other_kind, two, other_place) = ends[::-1] if swap else ends
    negated, hedged = stance(pair)
    return Evidence(
        Concept(one, kind, pair.words(place)),
        Concept(two, other_kind, pair.words(other_place)),
        label,
        pair.document,
        pair.sentence,
        pair.offset,
        place,
        other_place,
        extractor,
        round(float(probability), 4),
        negated,
        hedged,
    )


def noisy_or(probabilities: Iterable[float]) -> float:
    """1 - prod (1 - p): the chance that one of several independent findings is right."""
    return min(SUREST, 1 - math.prod(1 - p for p in probabilities))


def confidence(findings: Iterable[tuple[str, float]]) -> tuple[float, int]:
    """Confidence of an edge and the documents behind it.

    Sentences of one document are not independent: a document counts once, by its surest sentence.

    Args:
        findings: (document, probability) of evidence that does not deny the edge.
    """
    best: dict[str, float] = {}
    for document, probability in findings:
        best[document] = max(probability, best.get(document, 0.0))
    return round(noisy_or(best.values()), 4), len(best)


def merge_edges(evidence: Iterable[Evidence]) -> Mapping[str, list[Evidence]]:
    """Evidence by edge."""
    edges: dict[str, list[Evidence]] = {}
    for one in evidence:
        edges.setdefault(one.edge, []).append(one)
    return edges

"""The graph on disk: RDF in pyoxigraph, one writer or several readers, every load whole or absent and never twice.

concept   a biolink:Category; rdfs:label; :name (every way it was written, lowercase)
subject   biolink:predicate   object                          the edge, for queries that only walk
edge      rdf:subject, rdf:predicate, rdf:object; :label; :confidence; :support; :denied
evidence  :of edge; :document; :sentence; :offset; :subjectSpan; :objectSpan; :extractor; :probability; :negated; :hedged
document  :loaded key                                         what makes a second load of it do nothing
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pyoxigraph as ox

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import content_hash, read_json, write_json
from stillhouse.core.locks import try_lock, try_shared_lock
from stillhouse.knowledge.biolink import BIOLINK, OWN, category_of, iri, predicate_of
from stillhouse.knowledge.edges import Concept, Evidence, confidence, merge_edges

RDF, RDFS = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://www.w3.org/2000/01/rdf-schema#"
PREFIXES = {"rdf": RDF, "rdfs": RDFS, "biolink": BIOLINK, "": OWN}
FORMAT = 1


def own(name: str) -> ox.NamedNode:
    """A term of the store's own."""
    return ox.NamedNode(OWN + name)


A, SUBJECT, PREDICATE, OBJECT = (ox.NamedNode(RDF + name) for name in ("type", "subject", "predicate", "object"))
LABEL = ox.NamedNode(RDFS + "label")
OF, LOADED, NAME, CONFIDENCE, SUPPORT, DENIED = (
    own(n) for n in ("of", "loaded", "name", "confidence", "support", "denied")
)


class Graph:
    """An open store; use it with `with`.

    Raises:
        UserError: another process has it, it is damaged, or it is not there (for reading).
    """

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        self.folder, self.write = folder, write
        if not write:
            require((folder / "graph.json").is_file(), f"no graph in {folder}", "make one with: stillhouse kg build")
        self._lock = _lock(folder, write)
        try:
            self._check_format()
            path = str(folder / "store")
            self.store: ox.Store = ox.Store(path) if write else ox.Store.read_only(path)
        except OSError as error:
            self._lock.close()
            raise UserError(
                f"the graph in {folder} cannot be opened ({first_line(error)})",
                "restore it, or build it again in another folder",
            ) from error
        except UserError:
            self._lock.close()
            raise

    def _check_format(self) -> None:
        file = self.folder / "graph.json"
        if not file.exists():
            write_json(file, {"format": FORMAT})
        about = read_json(file)
        require(
            isinstance(about, dict) and about.get("format") == FORMAT,
            f"the graph in {self.folder} is of another version",
            "build it again",
        )

    def __enter__(self) -> Graph:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another process have it."""
        if self.write:
            self.store.flush()
        del self.store  # RocksDB lets go of its files
        self._lock.close()

    def loaded(self, document: str, key: str) -> bool:
        """Whether this document was loaded under this key (its content and the extractor)."""
        return any(self.store.quads_for_pattern(_document(document), LOADED, ox.Literal(key)))

    def load(self, documents: Mapping[str, str], evidence: Sequence[Evidence]) -> int:
        """Load all evidence of some documents in one transaction; edges' confidence and support are brought up to date.

        Args:
            documents: id -> key of every document read, those without evidence too.
            evidence: of those documents.

        Returns:
            Pieces of evidence that were not there before.
        """
        new = [e for e in {one.id: one for one in evidence}.values() if not self._has(e)]
        insert: list[ox.Triple] = [ox.Triple(_document(d), LOADED, ox.Literal(key)) for d, key in documents.items()]
        delete: list[ox.Triple] = []
        for one in new:
            insert += evidence_triples(one)
        for edge, group in merge_edges(new).items():
            node = own(f"edge:{edge}")
            old = [
                ox.Triple(node, p, q.object)
                for p in (CONFIDENCE, SUPPORT, DENIED)
                for q in self.store.quads_for_pattern(node, p, None)
            ]
            delete += old
            known = list(self._findings(node)) if old else []
            insert += edge_triples(edge, group[0], [*known, *((e.document, e.probability, e.negated) for e in group)])
        self._apply(delete, insert)
        return len(new)

    def _has(self, one: Evidence) -> bool:
        return any(self.store.quads_for_pattern(own(f"evidence:{one.id}"), OF, None))

    def _findings(self, edge: ox.NamedNode) -> Iterator[tuple[str, float, bool]]:
        query = "SELECT * WHERE { ?v :of ?e ; :document ?d ; :probability ?p ; :negated ?n }"
        for row in self.select(query, {"e": edge}):
            yield row["d"].value, float(row["p"].value), row["n"].value == "true"

    def _apply(self, delete: Sequence[ox.Triple], insert: Sequence[ox.Triple]) -> None:
        parts = [
            f"{verb} DATA {{ {_lines(triples)} }}"
            for verb, triples in (("DELETE", delete), ("INSERT", insert))
            if triples
        ]
        if parts:
            try:
                self.store.update(" ;\n".join(parts))  # one request, one transaction
            except OSError as error:
                raise UserError(
                    f"the graph in {self.folder} cannot be written ({first_line(error)})",
                    "make room; what was loaded before is whole",
                ) from error

    def quads(self, subject: Any, predicate: Any, object: Any) -> Iterator[Any]:
        """Quads of a pattern; None stands for anything."""
        return self.store.quads_for_pattern(subject, predicate, object)

    def select(self, query: str, values: Mapping[str, ox.NamedNode] | None = None) -> Any:
        """Solutions of a SPARQL query with the store's prefixes.

        Args:
            query: with SELECT * where `values` are given.
            values: nodes to write in the place of variables. The engine's own substitution comes after the plan is made,
                and the plan then reads the whole store.
        """
        for name, node in (values or {}).items():
            query = re.sub(rf"\?{name}\b", lambda _, node=node: str(node), query)  # type: ignore[misc]
        return self.store.query(query, prefixes=PREFIXES)

    def count(self, query: str) -> int:
        """The number that a counting query finds."""
        return int(next(iter(self.select(query)))[0].value)

    def sizes(self) -> dict[str, int]:
        """Concepts, edges, pieces of evidence and documents."""
        return {
            "concepts": self.count("SELECT (COUNT(DISTINCT ?c) AS ?n) WHERE { ?c :name ?x }"),
            "edges": self.count("SELECT (COUNT(?e) AS ?n) WHERE { ?e :confidence ?x }"),
            "evidence": self.count("SELECT (COUNT(?v) AS ?n) WHERE { ?v :of ?e }"),
            "documents": self.count("SELECT (COUNT(DISTINCT ?d) AS ?n) WHERE { ?d :loaded ?k }"),
        }


def _lock(folder: Path, write: bool) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+" if write else "r", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot open the graph in {folder} ({error.strerror})", "make the folder readable, and writable to build"
        ) from error
    if not (try_lock(lock) if write else try_shared_lock(lock)):
        lock.close()
        raise UserError(f"another process has the graph in {folder}", "wait for it or stop it first")
    return lock


def _document(name: str) -> ox.NamedNode:
    return own(f"document:{content_hash([name])}")


def concept_node(compact: str) -> ox.NamedNode:
    """The node of a concept."""
    return ox.NamedNode(iri(compact))


def _concept_triples(concept: Concept) -> list[ox.Triple]:
    node = concept_node(concept.id)
    return [
        ox.Triple(node, A, ox.NamedNode(BIOLINK + category_of(concept.type))),
        ox.Triple(node, own("curie"), ox.Literal(concept.id)),
        ox.Triple(node, NAME, ox.Literal(" ".join(concept.name.lower().split()))),
    ]


def evidence_triples(one: Evidence) -> list[ox.Triple]:
    """What the store says of a piece of evidence and of its two concepts."""
    node = own(f"evidence:{one.id}")
    values: dict[str, Any] = {
        "document": one.document,
        "sentence": one.sentence,
        "offset": one.offset,
        "subjectSpan": f"{one.subject_span[0]}-{one.subject_span[1]}",
        "objectSpan": f"{one.object_span[0]}-{one.object_span[1]}",
        "extractor": one.extractor,
        "probability": one.probability,
        "negated": one.negated,
        "hedged": one.hedged,
    }
    told = [ox.Triple(node, own(name), ox.Literal(value)) for name, value in values.items()]
    return [
        *_concept_triples(one.subject),
        *_concept_triples(one.object),
        ox.Triple(node, OF, own(f"edge:{one.edge}")),
        *told,
    ]


def edge_triples(edge: str, one: Evidence, findings: Iterable[tuple[str, float, bool]]) -> list[ox.Triple]:
    """What the store says of an edge, given all its (document, probability, negated).

    An edge that is only denied has confidence 0 and cannot be walked.
    """
    found = list(findings)
    sure, support = confidence((document, p) for document, p, negated in found if not negated)
    predicate = predicate_of(one.label)
    subject, object, node = concept_node(one.subject.id), concept_node(one.object.id), own(f"edge:{edge}")
    name = ox.NamedNode(BIOLINK + predicate.name)
    made = [
        ox.Triple(node, A, ox.NamedNode(BIOLINK + "Association")),
        ox.Triple(node, SUBJECT, subject),
        ox.Triple(node, PREDICATE, name),
        ox.Triple(node, OBJECT, object),
        ox.Triple(node, own("label"), ox.Literal(one.label)),
        ox.Triple(node, CONFIDENCE, ox.Literal(sure)),
        ox.Triple(node, SUPPORT, ox.Literal(support)),
        ox.Triple(node, DENIED, ox.Literal(sum(negated for _, _, negated in found))),
    ]
    if predicate.direction:
        made.append(
            ox.Triple(node, ox.NamedNode(BIOLINK + "object_direction_qualifier"), ox.Literal(predicate.direction))
        )
    if support:
        made.append(ox.Triple(subject, name, object))
    return made


def _lines(triples: Sequence[ox.Triple]) -> str:
    return "\n".join(f"{triple} ." for triple in dict.fromkeys(triples))

"""The graph's commands: build, query, neighbours, path, evidence, export, page, normalise."""

from __future__ import annotations

import json as json_module
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import tyro

from stillhouse.core.errors import require
from stillhouse.core.files import write_atomically
from stillhouse.knowledge import queries
from stillhouse.knowledge.documents import Counts, Document
from stillhouse.knowledge.export import WRITERS, send
from stillhouse.knowledge.page import Shown, neighbourhood_page
from stillhouse.knowledge.queries import Edge
from stillhouse.knowledge.readers import read_documents
from stillhouse.knowledge.store import Graph, concept_node

SAY_EVERY_SECONDS = 10.0


def build(
    documents: tyro.conf.Positional[str],
    model: Path,
    graph: Path = Path("kg"),
    format: str = "",
    entities: Literal["given", "dictionary", "tagger"] = "given",
    tagger: Path | None = None,
    dictionaries: str = "",
    normalise: bool = False,
    threshold: float | None = None,
    limit: int = 0,
    quiet: bool = False,
) -> None:
    """Read documents into a graph; started again, it goes on where it was and loads nothing twice.

    Args:
        documents: a PubTator, BioC, text or JSON lines file, a folder of them, or planted:N for N generated abstracts.
        model: a run's model folder (its student is taken), or one extractor's folder in it.
        graph: folder of the graph.
        format: pubtator, bioc-json, bioc-xml, text or jsonl; told by the file's name by default.
        entities: given (as annotated), dictionary (found by name), or tagger (by a trained one; add --normalise for concepts).
        tagger: folder of a tagger that `kg tagger` has trained.
        dictionaries: folder or wheel with hgnc_entries.tsv, mesh_id_label_mappings.tsv, ...; looked for in $STILLHOUSE_DATA by default.
        normalise: give mentions without an id one from the dictionaries.
        threshold: smallest probability of evidence; the model's by default.
        limit: stop after this many documents; 0 reads all.
        quiet: nothing on the terminal but errors.
    """
    from stillhouse.methods.biomedical_relations import extraction as reading

    folder = model if (model / "about.json").is_file() else model / "student"
    extraction = reading.load_extraction(folder)
    if threshold is not None:
        require(0 < threshold < 1, f"threshold is {threshold}", "give a probability between 0 and 1")
        extraction = reading.Extraction(extraction.extractor, replace(extraction.about, threshold=threshold))
    counts = Counts()
    stream = _documents(documents, format, counts)
    stream = _with_entities(islice(stream, limit) if limit else stream, entities, tagger, dictionaries, normalise)
    said = time.monotonic()

    def seen(done: reading.Built) -> None:
        nonlocal said
        if not quiet and time.monotonic() - said >= SAY_EVERY_SECONDS:
            said = time.monotonic()
            speed = done.documents / max(done.seconds, 1e-9)
            print(
                f"{done.documents:,} documents, {speed:.1f} a second, {done.evidence:,} pieces of evidence",
                file=sys.stderr,
                flush=True,
            )

    with Graph(graph, write=True) as opened:
        done = reading.build(stream, extraction, opened, counts, seen)
        if quiet:
            return
        print(f"read: {counts.words()}")
        print(
            f"{graph}: {done.documents:,} documents in {done.seconds:.1f} s ({done.already:,} were there), {done.new:,} new pieces of evidence"
        )
        print(f"in the graph: {reading.describe(opened.sizes())}")


def _documents(source: str, format: str, counts: Counts) -> Iterator[Document]:
    if source.partition(":")[0] == "planted":
        from stillhouse.methods.biomedical_relations.planted import make_documents, make_world

        number = source.partition(":")[2] or "100"
        require(number.isdigit() and int(number) > 0, f"{source!r} names no number of abstracts", "write planted:100")
        for document in make_documents(make_world(0), int(number), 2):
            counts.saw(document)
            yield document
        return
    yield from read_documents(Path(source), counts, format)


def _with_entities(
    documents: Iterable[Document], entities: str, tagger: Path | None, dictionaries: str, normalise: bool
) -> Iterator[Document]:
    if entities == "tagger":
        from stillhouse.knowledge.tagger import Tagger

        require(
            tagger is not None, "no tagger named", "give its folder with --tagger, or train one: stillhouse kg tagger"
        )
        documents = map(Tagger.load(tagger or Path()).read, documents)
    if entities != "dictionary" and not normalise:
        yield from documents
        return
    from stillhouse.knowledge.dictionaries import open_dictionaries
    from stillhouse.knowledge.normaliser import ground, tag

    known = open_dictionaries(dictionaries)
    for document in documents:
        yield tag(document, known) if entities == "dictionary" else ground(document, known)


def query(text: tyro.conf.Positional[str], graph: Path = Path("kg"), seconds: float = 60, json: bool = False) -> None:
    """Ask in SPARQL; rdf:, rdfs:, biolink: and : (the graph's own terms) are known prefixes.

    Args:
        text: e.g. "SELECT ?s ?o WHERE { ?s biolink:treats ?o } LIMIT 5", or a file with it.
        graph: folder of the graph.
        seconds: give up after so many.
        json: machine-readable.
    """
    file = Path(text)
    asked = file.read_text(encoding="utf-8") if len(text) < 200 and file.is_file() else text
    with Graph(graph) as opened:
        columns, rows = queries.sparql(opened, asked, seconds)
    if json:
        print(json_module.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=1, ensure_ascii=False))
        return
    print("\t".join(columns))
    for row in rows:
        print("\t".join(row))


def neighbours(
    name: tyro.conf.Positional[str], graph: Path = Path("kg"), least: float = 0.0, most: int = 20, json: bool = False
) -> None:
    """A concept's edges, the surest first.

    Args:
        name: a name as the texts write it, or an id such as MESH:D003924.
        graph: folder of the graph.
        least: smallest confidence.
        most: how many to print.
        json: machine-readable.
    """
    with Graph(graph) as opened:
        found = queries.neighbours(opened, name, least, most)
    _print_edges(found, json)


def path(
    one: tyro.conf.Positional[str],
    two: tyro.conf.Positional[str],
    graph: Path = Path("kg"),
    hops: int = 4,
    json: bool = False,
) -> None:
    """A shortest way from one concept to another.

    Args:
        one: name or id.
        two: name or id.
        graph: folder of the graph.
        hops: most edges.
        json: machine-readable.
    """
    with Graph(graph) as opened:
        found = queries.path(opened, one, two, hops)
    if not found and not json:
        print(f"nothing leads from {one} to {two} in {hops} steps")
        return
    _print_edges(found, json)


def evidence(edge: tyro.conf.Positional[tuple[str, ...]], graph: Path = Path("kg"), json: bool = False) -> None:
    """The sentences behind an edge, with its two mentions marked.

    Args:
        edge: an edge's id, or the names of two concepts.
        graph: folder of the graph.
        json: machine-readable.
    """
    require(len(edge) in (1, 2), f"{len(edge)} names given", "give an edge's id, or two concepts")
    with Graph(graph) as opened:
        edges = [queries.edge_by_id(opened, edge[0])] if len(edge) == 1 else queries.edges_between(opened, *edge)
        require(bool(edges), f"no edge between {' and '.join(edge)}", "see: stillhouse kg neighbours NAME")
        told = [(e, queries.evidence(opened, e.id)) for e in edges]
    if json:
        print(
            json_module.dumps(
                [{**asdict(e), "evidence": [asdict(f) for f in found]} for e, found in told],
                indent=1,
                ensure_ascii=False,
            )
        )
        return
    before, after = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("[", "]")
    for e, found in told:
        _print_edges([e], False)
        for f in found:
            words = queries.highlighted(f.sentence, [(f.subject, before, after), (f.object, before, after)])
            remarks = "".join(f", {word}" for word, is_so in (("hedged", f.hedged), ("denied", f.negated)) if is_so)
            print(f"  {words}\n    {f.document}, character {f.offset}; {f.extractor}, p {f.probability:.2f}{remarks}")


def export(
    out: tyro.conf.Positional[str],
    format: Literal["turtle", "graphml", "neo4j-csv", "cypher", "sparql-endpoint"] = "turtle",
    graph: Path = Path("kg"),
) -> None:
    """Write the graph for another tool, or send it to a SPARQL endpoint.

    Args:
        out: a file; a folder for neo4j-csv; the URL of the update service for sparql-endpoint.
        format: turtle, graphml, neo4j-csv (for neo4j-admin), cypher (for cypher-shell), or sparql-endpoint.
        graph: folder of the graph.
    """
    with Graph(graph) as opened:
        if format == "sparql-endpoint":
            print(f"{out}: {send(opened, out):,} triples sent")
        else:
            print(
                f"{out}: {WRITERS[format](opened, Path(out)):,} {'triples' if format == 'turtle' else 'edges'} written"
            )


def page(
    name: tyro.conf.Positional[str], out: Path = Path("neighbourhood.html"), graph: Path = Path("kg"), most: int = 16
) -> None:
    """A page with a concept's neighbourhood and the sentences behind every edge.

    Args:
        name: name or id.
        out: the page.
        graph: folder of the graph.
        most: edges shown.
    """
    with Graph(graph) as opened:
        node = queries.find_concept(opened, name)
        found = queries.neighbours(opened, name, most=10_000)
        require(bool(found), f"{name!r} has no edge", "see another concept")
        shown = [Shown(e, tuple(queries.evidence(opened, e.id)[:8])) for e in found[:most]]
        centre = next(c for e in found for c in (e.subject, e.object) if concept_node(c) == node)
        title = queries.name_of(opened, node)
    write_atomically(out, neighbourhood_page(title, centre, shown, max(0, len(found) - most)))
    print(out)


def normalise(documents: tyro.conf.Positional[Path], dictionaries: str = "", format: str = "", most: int = 10) -> None:
    """How often the dictionaries give annotated mentions the id that the corpus gives them.

    Args:
        documents: with annotated ids, e.g. BioRED.
        dictionaries: folder or wheel; looked for in $STILLHOUSE_DATA by default.
        format: as for build.
        most: examples of misses to print.
    """
    from stillhouse.knowledge.dictionaries import open_dictionaries
    from stillhouse.knowledge.normaliser import measure

    counts = Counts()
    found = measure(read_documents(documents, counts, format), open_dictionaries(dictionaries))
    print(counts.words())
    for row in found:
        print(
            f"{row.type:10} {row.mentions:6,} mentions  right {row.right / max(1, row.mentions):.1%}  wrong {row.wrong / max(1, row.mentions):.1%}  "
            f"ambiguous {row.ambiguous / max(1, row.mentions):.1%}  unknown {row.unknown / max(1, row.mentions):.1%}  "
            f"in the dictionaries {row.reachable / max(1, row.mentions):.1%}  document-level accuracy {row.concepts_right / max(1, row.concepts):.1%} of {row.concepts:,} concepts"
        )
        for words, wanted, got in row.misses[:most]:
            print(f"    {words!r}: {wanted}, not {got or 'found'}")


def tagger(
    train: tyro.conf.Positional[Path], out: Path, test: Path | None = None, passes: int = 5, seed: int = 0
) -> None:
    """Train a tagger of names on an IOB file (a token, a tab and a tag a line), for `build --entities tagger`.

    Args:
        train: e.g. BC5CDR-train.tsv.
        out: folder for the tagger.
        test: IOB file to judge it on.
        passes: over the training sentences.
        seed: of their order.
    """
    from stillhouse.knowledge.tagger import read_iob, span_f1, train_tagger

    made = train_tagger(read_iob(train), passes, seed)
    made.save(out)
    print(f"{out}: {', '.join(made.tags)}")
    if test is not None:
        precision, recall, f1 = span_f1(made, read_iob(test))
        print(f"{test}: precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f} of whole names")


def _print_edges(edges: Sequence[Edge], json: bool) -> None:
    if json:
        print(json_module.dumps([asdict(e) for e in edges], indent=1, ensure_ascii=False))
        return
    for e in edges:
        denied = f", denied by {e.denied}" if e.denied else ""
        print(
            f"{e.id}  {e.confidence:.2f}  {e.subject_name} ({e.subject})  {e.label}  {e.object_name} ({e.object})  [{e.support} documents{denied}]"
        )


COMMANDS: dict[str, Callable[..., None]] = {
    "build": build,
    "query": query,
    "neighbours": neighbours,
    "path": path,
    "evidence": evidence,
    "export": export,
    "page": page,
    "normalise": normalise,
    "tagger": tagger,
}

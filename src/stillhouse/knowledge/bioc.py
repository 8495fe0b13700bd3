"""BioC, the exchange format of biomedical text, as JSON and as XML: passages with offsets, annotations with locations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import parse_json
from stillhouse.knowledge.documents import Counts, Document, Mention, Relation, Span, canonical_type, split_ids
from stillhouse.knowledge.offsets import Written, to_code_points

TYPE_KEYS, ID_KEYS = (
    ("type", "NE", "entity"),
    ("identifier", "identifiers", "MESH", "NCBI GENE", "NCBI Gene", "id", "mesh"),
)

MOST_GAP = 1_000_000
"""Characters between two passages, which are filled with spaces."""


def read_bioc_json(file: Path, counts: Counts) -> Iterator[Document]:
    """A BioC collection, a list of documents, or one document.

    Raises:
        UserError: not JSON, not BioC, or an annotation that does not lie where it says.
    """
    try:
        raw = parse_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{file} is not JSON ({error})", "give BioC JSON, or name it .jsonl if it has a document a line"
        ) from error
    documents = raw.get("documents", [raw]) if isinstance(raw, dict) else raw
    require(isinstance(documents, list), f"{file} is not BioC", "give a collection with a list of documents")
    for place, one in enumerate(documents, 1):
        try:
            yield _document(file, one, counts)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{file} document {place} is not BioC ({type(error).__name__}: {error})",
                "a document has id and passages, a passage offset and text",
            ) from error


def read_bioc_xml(file: Path, counts: Counts) -> Iterator[Document]:
    """A BioC collection, a document at a time.

    Raises:
        UserError: not well-formed, not BioC, or an annotation that does not lie where it says.
    """
    found = False
    try:
        for _, element in ElementTree.iterparse(file):
            if element.tag == "document":
                found = True
                yield _document(file, _as_json(element), counts)
                element.clear()
    except ElementTree.ParseError as error:
        raise UserError(f"{file} is not well-formed XML ({error})", "restore the file") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{file} is not BioC ({type(error).__name__}: {error})",
            "a document has id and passages, a passage offset and text",
        ) from error
    if not found:
        raise UserError(f"{file} has no <document>", "give a BioC collection")


def _as_json(element: ElementTree.Element) -> dict[str, Any]:
    """An XML document in the shape that the JSON has."""
    return {
        "id": element.findtext("id") or "",
        "passages": [_passage(p) for p in element.findall("passage")],
        "relations": [_xml_relation(r) for r in element.findall("relation")],
    }


def _passage(element: ElementTree.Element) -> dict[str, Any]:
    return {
        "offset": element.findtext("offset") or "0",
        "text": element.findtext("text") or "",
        "sentences": [_passage(s) for s in element.findall("sentence")],
        "annotations": [_annotation(a) for a in element.findall("annotation")],
        "relations": [_xml_relation(r) for r in element.iter("relation")],
    }


def _annotation(element: ElementTree.Element) -> dict[str, Any]:
    return {
        "id": element.get("id"),
        "infons": _infons(element),
        "text": element.findtext("text") or "",
        "locations": [
            {"offset": place.get("offset"), "length": place.get("length")} for place in element.findall("location")
        ],
    }


def _infons(element: ElementTree.Element) -> dict[str, str]:
    return {str(i.get("key")): i.text or "" for i in element.findall("infon")}


def _xml_relation(element: ElementTree.Element) -> dict[str, Any]:
    return {"infons": _infons(element), "nodes": [{"refid": n.get("refid")} for n in element.findall("node")]}


def _document(file: Path, raw: dict[str, Any], counts: Counts) -> Document:
    name, passages = str(raw["id"]), raw["passages"]
    text, mentions, by_id = "", [], {}
    for piece in (piece for passage in passages for piece in _pieces(passage)):
        offset, words = int(piece["offset"]), str(piece.get("text") or "")
        # where offsets count bytes, those behind a letter of two bytes are too far on: pieces then follow one another
        at = offset if text.isascii() and offset >= len(text) else len(text) + 1
        if at - len(text) > MOST_GAP:
            raise ValueError(f"a passage at {offset}, where the text before it ends at {len(text)}")
        text = text.ljust(at) + words
        annotations = piece.get("annotations") or []
        for annotation, spans in zip(annotations, _placed(file, name, words, offset, annotations, counts), strict=True):
            kind, ids = _first(annotation["infons"], TYPE_KEYS), split_ids(_first(annotation["infons"], ID_KEYS))
            mention = Mention(spans, canonical_type(kind), ids).moved(at)
            by_id[annotation.get("id")] = mention
            mentions.append(mention)
    relations = [r for part in (raw, *passages) for r in part.get("relations") or []]
    made = (_relation(r, by_id) for r in relations)
    return Document(name, text, tuple(mentions), tuple(r for r in made if r is not None))


def _pieces(passage: dict[str, Any]) -> list[dict[str, Any]]:
    """The passage itself, or its sentences where only those have text; annotations go with the text they lie in."""
    sentences = passage.get("sentences") or []
    if passage.get("text") or not sentences:
        inner = [a for s in sentences for a in s.get("annotations") or []]
        return [{**passage, "annotations": [*(passage.get("annotations") or []), *inner]}]
    outer = passage.get("annotations") or []
    pieces = []
    for s in sentences:
        start = int(s["offset"])
        end = start + len(str(s.get("text") or "").encode())
        own = [a for a in outer if start <= int(a["locations"][0]["offset"]) < max(end, start + 1)]
        outer = [a for a in outer if a not in own]
        pieces.append({**s, "annotations": [*(s.get("annotations") or []), *own]})
    return pieces


def _placed(
    file: Path, name: str, words: str, offset: int, annotations: list[dict[str, Any]], counts: Counts
) -> list[tuple[Span, ...]]:
    """Spans of a piece's annotations in code points from its start."""
    written = [Written(_spans(a, offset), str(a.get("text") or "")) for a in annotations]
    placed = to_code_points(words, written)
    if isinstance(placed, int):
        wrong = written[placed]
        at = wrong.spans[0][0] + offset
        raise UserError(
            f"{file} document {name!r}: {wrong.words!r} is not at offset {at}", "mend the annotation's location"
        )
    counts.other_units += placed[1] != "code points"
    return placed[0]


def _spans(annotation: dict[str, Any], offset: int) -> tuple[Span, ...]:
    places = [(int(place["offset"]) - offset, int(place["length"])) for place in annotation["locations"]]
    if not places:
        raise ValueError("an annotation without a location")
    return tuple(sorted((start, start + length) for start, length in places))


def _first(infons: dict[str, Any], keys: tuple[str, ...]) -> str:
    return next((str(infons[key]) for key in keys if infons.get(key)), "")


def _relation(raw: dict[str, Any], by_id: dict[Any, Mention]) -> Relation | None:
    infons, nodes = raw.get("infons", {}), raw.get("nodes") or []
    label = _first(infons, ("type", "relation", "label"))
    if "entity1" in infons and "entity2" in infons:  # BioRED's way: concepts, not annotations
        return Relation(label, str(infons["entity1"]).split("|")[0], str(infons["entity2"]).split("|")[0])
    ids = [by_id[n["refid"]].ids for n in nodes if n.get("refid") in by_id]
    return Relation(label, ids[0][0], ids[1][0]) if len(ids) >= 2 and ids[0] and ids[1] else None

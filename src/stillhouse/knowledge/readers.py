"""Documents from PubTator, BioC (JSON and XML), plain text and JSON lines, one after the other; offsets end up in code points.

A line that cannot be read is an error that names it. Nothing is left out silently: what was empty, twice there or written
in other units is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import content_hash, parse_json
from stillhouse.knowledge.bioc import read_bioc_json, read_bioc_xml
from stillhouse.knowledge.documents import Counts, Document, Mention, Relation, canonical_type, check_spans, split_ids
from stillhouse.knowledge.offsets import Written, to_code_points

FORMATS = ("pubtator", "bioc-json", "bioc-xml", "text", "jsonl")


def read_documents(source: Path, counts: Counts, format: str = "") -> Iterator[Document]:
    """All documents of a file or of a folder's files.

    Args:
        source: a file, or a folder of files of one or several kinds.
        counts: filled as documents come.
        format: one of FORMATS; told by the file's name where empty.

    Raises:
        UserError: no such file, a line that cannot be read (its number is named), or one id with two texts.
    """
    require(source.exists(), f"no documents at {source}", "give a PubTator, BioC, text or JSON lines file, or a folder")
    require(format in ("", *FORMATS), f"no format {format!r}", f"choose one of {', '.join(FORMATS)}")
    files = (
        sorted(f for f in source.rglob("*") if f.is_file() and not f.name.startswith("."))
        if source.is_dir()
        else [source]
    )
    require(bool(files), f"{source} is empty", "put document files there")
    seen: dict[str, str] = {}
    for file in files:
        for document in _read_file(file, format or guess_format(file), counts):
            content = content_hash([document.text, repr(document.mentions)])
            known = seen.get(document.id)
            if known == content:
                counts.duplicates += 1
                continue
            require(
                known is None,
                f"{file} has a second document {document.id!r} with another text",
                "give every document an id of its own",
            )
            seen[document.id] = content
            counts.saw(document)
            yield document


def guess_format(file: Path) -> str:
    """The format that a file's name, or else its first line, tells.

    Raises:
        UserError: neither tells.
    """
    name = file.name.lower()
    if name.endswith((".jsonl", ".ndjson")):
        return "jsonl"
    if name.endswith(".xml"):
        return "bioc-xml"
    if name.endswith(".json"):
        return "bioc-json"
    with _open(file) as lines:
        first = next((line for line in lines if line.strip()), "")
    if "|t|" in first:
        return "pubtator"
    if name.endswith(".pubtator"):
        return "pubtator"
    require(
        name.endswith((".txt", ".text", ".md")),
        f"cannot tell what kind of file {file} is",
        f"say so with --format: {', '.join(FORMATS)}",
    )
    return "text"


def _open(file: Path) -> Any:
    return file.open(encoding="utf-8", errors="strict", newline="\n")


def _read_file(file: Path, format: str, counts: Counts) -> Iterator[Document]:
    readers = {
        "pubtator": read_pubtator,
        "bioc-json": read_bioc_json,
        "bioc-xml": read_bioc_xml,
        "jsonl": read_json_lines,
        "text": read_text,
    }
    try:
        yield from readers[format](file, counts)
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 (byte {error.start})", "convert it to UTF-8") from error


def read_text(file: Path, counts: Counts) -> Iterator[Document]:
    """A file of plain text is one document, named after the file."""
    del counts
    yield Document(file.stem, file.read_text(encoding="utf-8"))


def read_pubtator(file: Path, counts: Counts) -> Iterator[Document]:
    """`id|t|title`, `id|a|abstract`, `id TAB start TAB end TAB words TAB type TAB ids`, `id TAB relation TAB id TAB id`."""
    block: list[tuple[int, str]] = []
    with _open(file) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                block.append((number, line.rstrip("\r\n")))
            elif block:
                yield _pubtator_document(file, block, counts)
                block = []
    if block:
        yield _pubtator_document(file, block, counts)


def _pubtator_document(file: Path, block: Sequence[tuple[int, str]], counts: Counts) -> Document:
    title, abstract, name = None, "", ""
    rows: list[tuple[int, list[str]]] = []
    for number, line in block:
        head = line.split("|", 2)
        if len(head) == 3 and head[1] in ("t", "a") and "\t" not in head[0]:
            require(
                not name or head[0] == name,
                f"{file} line {number}: id {head[0]!r} in the document {name!r}",
                "put an empty line between documents",
            )
            name = head[0]
            title, abstract = (head[2], abstract) if head[1] == "t" else (title, head[2])
        else:
            rows.append((number, line.split("\t")))
    first = block[0][0]
    require(title is not None, f"{file} line {first}: a document without a line id|t|title", "mend the file")
    text = f"{title} {abstract}" if abstract else str(title)
    mentions, relations = _pubtator_rows(file, name, rows)
    written = [Written(((start, end),), words) for _, start, end, words, _, _ in mentions]
    spans = _placed(file, text, written, [m[0] for m in mentions], counts)
    made = tuple(
        Mention(s, canonical_type(kind), split_ids(ids))
        for s, (_, _, _, _, kind, ids) in zip(spans, mentions, strict=True)
    )
    return Document(name, text, made, tuple(relations))


def _pubtator_rows(
    file: Path, name: str, rows: Sequence[tuple[int, list[str]]]
) -> tuple[list[tuple[int, int, int, str, str, str]], list[Relation]]:
    mentions, relations = [], []
    for number, row in rows:
        where = f"{file} line {number}"
        require(row[0] == name, f"{where}: not of the document {name!r}", "put an empty line between documents")
        if len(row) >= 5 and row[1].isdecimal() and row[2].isdecimal() and len(row[1]) + len(row[2]) < 30:
            ids = row[5] if len(row) > 5 else ""
            mentions.append((number, int(row[1]), int(row[2]), row[3], row[4], ids))
        elif len(row) >= 4 and row[1] and not row[1][0].isdigit():
            relations.append(Relation(row[1], row[2], row[3]))
        else:
            raise UserError(
                f"{where} is neither a mention nor a relation: {' '.join(row)[:60]!r}",
                "columns are divided by tabs: id, start, end, words, type, ids",
            )
    return mentions, relations


def _placed(
    file: Path, text: str, written: Sequence[Written], lines: Sequence[int], counts: Counts
) -> list[tuple[tuple[int, int], ...]]:
    placed = to_code_points(text, written)
    if isinstance(placed, int):
        spans, words = written[placed]
        start, end = spans[0][0], spans[-1][1]
        raise UserError(
            f"{file} line {lines[placed]}: {start} to {end} is {text[start:end]!r} in the text, not {words!r}",
            "offsets count code points (or bytes, or UTF-16 units) of title, one space, abstract",
        )
    counts.other_units += placed[1] != "code points"
    return placed[0]


def read_json_lines(file: Path, counts: Counts) -> Iterator[Document]:
    """A document a line: id, text (or title and abstract), mentions (start, end or spans, type, ids, text), relations."""
    with _open(file) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _json_document(file, number, line, counts)


def _json_document(file: Path, number: int, line: str, counts: Counts) -> Document:
    where = f"{file} line {number}"
    try:
        raw = parse_json(line)
        text = str(raw["text"]) if "text" in raw else f"{raw['title']} {raw.get('abstract') or ''}".rstrip()
        mentions = raw.get("mentions") or raw.get("entities") or []
        written = [Written(_spans(m), str(m.get("text", ""))) for m in mentions]
        kinds = [(canonical_type(str(m["type"])), _json_ids(m)) for m in mentions]
        relations = tuple(
            Relation(str(r["label"]), str(r["first"]), str(r["second"])) for r in raw.get("relations") or []
        )
        name = str(raw["id"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{where} cannot be read ({type(error).__name__}: {error})",
            "a line is an object with id, text and perhaps mentions and relations",
        ) from error
    for spans, words in written:
        if not words:
            check_spans(spans, len(text), where)
    placed = _placed(file, text, written, [number] * len(written), counts)
    return Document(
        name, text, tuple(Mention(s, kind, ids) for s, (kind, ids) in zip(placed, kinds, strict=True)), relations
    )


def _spans(mention: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    if mention.get("spans"):
        return tuple((int(a), int(b)) for a, b in mention["spans"])
    return ((int(mention["start"]), int(mention["end"])),)


def _json_ids(mention: dict[str, Any]) -> tuple[str, ...]:
    ids = mention.get("ids", mention.get("id", ()))
    return split_ids(ids) if isinstance(ids, str) else tuple(str(i) for i in ids)

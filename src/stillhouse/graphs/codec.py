"""The stored form of a summary, and its reader. docs/methods/mirage.md describes the file byte by byte.

    file   = "MIRAGE" 0x01, CRC-32 of the rest (4 bytes, little-endian), zlib(body)
    body   = header, codebook, trees, content
    header = JSON in UTF-8, preceded by its length
    number = unsigned LEB128: seven bits a byte, lowest first, the high bit set on all but the last

Nothing in a file is code, and every length and index is checked before it is used.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.core.errors import UserError
from stillhouse.core.files import parse_json, write_atomically
from stillhouse.graphs.data import Floats, Ints
from stillhouse.graphs.itemsets import FrequentSet
from stillhouse.graphs.mixtures import Mixture, Rule
from stillhouse.graphs.summary import Summary
from stillhouse.graphs.trees import Level, TreeTable
from stillhouse.graphs.words import Words

MAGIC = b"MIRAGE\x01"
MAX_BODY_BYTES = 1 << 28
MOST_FEATURES = 1 << 26
"""Entries of the words' feature table."""
MOST_COPIES = 1 << 24
"""Children of all trees of one depth, copies counted."""
PRESENCE_STEPS = 255
"""A presence byte b means p = b / 255."""
MEAN_STEPS = 32.0
"""A mean byte b means mu = exp(b / 32), 1 to about 2,900."""
RULE_STEPS = 127
"""A rule byte b (signed) means weight = scale x b / 127."""


def write_summary(summary: Summary, path: Path) -> int:
    """Write a summary; its size in bytes."""
    content = pack(summary)
    write_atomically(path, content)
    return len(content)


def read_summary(path: Path) -> Summary:
    """Read a summary.

    Raises:
        UserError: the file is missing, truncated, damaged, of another kind, or inconsistent.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})", "give a .mirage file") from error
    return unpack(content, str(path))


def pack(summary: Summary) -> bytes:
    """A summary as the bytes of its file."""
    body = zlib.compress(b"".join(_body(summary)), 9)
    return MAGIC + struct.pack("<I", zlib.crc32(body)) + body


def unpack(content: bytes, name: str = "summary") -> Summary:
    """A summary from the bytes of its file.

    Raises:
        UserError: the bytes are not a whole, consistent summary.
    """
    mend = "make it again with: stillhouse mirage summarise"
    if not content.startswith(MAGIC):
        raise UserError(f"{name} is not a summary (it does not start with MIRAGE 1)", "give a .mirage file")
    head = len(MAGIC) + 4
    if len(content) < head or struct.unpack("<I", content[len(MAGIC) : head])[0] != zlib.crc32(content[head:]):
        raise UserError(f"{name} is damaged or cut short (its checksum does not fit)", mend)
    try:
        inflater = zlib.decompressobj()
        body = inflater.decompress(content[head:], MAX_BODY_BYTES)
        if inflater.unconsumed_tail:
            raise UserError(f"{name} unpacks to more than {MAX_BODY_BYTES >> 20} MiB", "do not use this file")
        return _Reader(body).summary()
    except (zlib.error, ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise UserError(f"{name} is not a consistent summary ({error})", mend) from error


def numbers(values: Iterable[int]) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    for value in values:
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)


def _body(summary: Summary) -> Iterable[bytes]:
    words = summary.words
    header: dict[str, Any] = {
        "kind": summary.kind,
        "hops": summary.hops,
        "classes": summary.class_names,
        "graphs": summary.graph_counts.tolist(),
        "nodes": words.node_source,
        "labels": words.labels,
        "edges": words.edge_labels,
        "codes": list(words.codebook.shape),
        "error": round(words.error, 4),
        "flags": [int(summary.leaf_degrees), int(summary.root_mask), int(summary.class_prior), int(bool(summary.rule))],
    }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    yield numbers([len(text)]) + text
    yield words.codebook.astype("<f4").tobytes() + words.scale.astype("<f4").tobytes()
    for depth, level in enumerate(summary.vocabulary.levels):
        yield from _level(level, depth, summary)
    if summary.kind == "mixtures":
        yield from _mixtures(summary)
    else:
        for sets in summary.itemsets:
            yield from _itemsets(sets)


def _level(level: Level, depth: int, summary: Summary) -> Iterable[bytes]:
    yield numbers([len(level)])
    yield numbers(level.words.tolist())
    if depth == 0:
        yield numbers(level.degrees.tolist()) if summary.leaf_degrees else b""
        return
    yield numbers(np.diff(level.offsets).tolist())
    yield numbers(level.edge_words.tolist()) if summary.words.edge_labels else b""
    yield numbers(level.children.tolist())
    yield numbers(level.copies.tolist())


def _mixtures(summary: Summary) -> Iterable[bytes]:
    for mixture in summary.mixtures:
        presence = np.rint(mixture.presence * PRESENCE_STEPS).astype(np.uint8)
        means = np.clip(np.rint(MEAN_STEPS * np.log(np.maximum(mixture.means, 1))), 0, 255).astype(np.uint8)
        yield numbers([len(mixture.weights)])
        yield numbers(np.maximum(np.rint(mixture.weights * 65535), 1).astype(int).tolist())
        yield presence.T.tobytes() + np.where(presence > 0, means, 0).T.astype(np.uint8).tobytes()
    if summary.rule is not None:
        # a softmax only knows differences, so class 0 is the zero
        weights = summary.rule.weights[1:] - summary.rule.weights[0]
        bias = summary.rule.bias[1:] - summary.rule.bias[0]
        for row, offset in zip(weights, bias, strict=True):
            scale = max(float(np.abs(row).max()), 1e-6)
            yield struct.pack("<ff", scale, float(offset))
            yield np.rint(row / scale * RULE_STEPS).astype(np.int8).tobytes()


def _itemsets(sets: tuple[FrequentSet, ...]) -> Iterable[bytes]:
    yield numbers([len(sets)])
    yield numbers(found.support for found in sets)
    yield numbers(len(found.items) for found in sets)
    for found in sets:
        trees = [tree for tree, _ in found.items]
        yield numbers([trees[0], *(b - a for a, b in pairwise(trees))])
    yield numbers(copies - 1 for found in sets for _, copies in found.items)


class _Reader:
    """Reads a body front to back; ValueError where it does not hold together."""

    def __init__(self, body: bytes) -> None:
        self.body, self.place = body, 0

    def summary(self) -> Summary:
        header = parse_json(self.bytes(self.number()).decode())
        leaf_degrees, root_mask, class_prior, ruled = map(bool, header["flags"])
        classes, hops = len(header["classes"]), int(header["hops"])
        _check(header["kind"] in ("mixtures", "itemsets"), "unknown kind")
        graphs = np.array(header["graphs"], dtype=np.int64)
        _check(1 <= hops <= 4 and classes >= 1 and graphs.shape == (classes,), "impossible header")
        _check(bool((graphs > 0).all()), "a class without graphs")
        words = self.words(header)
        levels: list[Level] = []
        for depth in range(hops + 1):
            levels.append(self.level(depth, words, levels[-1] if levels else None, leaf_degrees))
        vocabulary = TreeTable(tuple(levels))
        mixed = header["kind"] == "mixtures"
        trees = vocabulary.trees
        _check(trees > 0, "no tree")
        mixtures = tuple(self.mixture(trees) for _ in range(classes)) if mixed else ()
        rule = self.rule(trees, classes) if ruled else None
        itemsets = () if mixed else tuple(self.itemsets(trees) for _ in range(classes))
        _check(self.place == len(self.body), "bytes left over")
        return Summary(
            header["kind"],
            words,
            tuple(map(str, header["classes"])),
            graphs,
            vocabulary,
            leaf_degrees,
            root_mask,
            class_prior,
            mixtures,
            rule,
            itemsets,
        )

    def words(self, header: dict[str, Any]) -> Words:
        codes, columns = map(int, header["codes"])
        _check(header["nodes"] in ("labels", "attributes", "both", "degree", "degree-buckets"), "unknown node words")
        codebook = self.floats(codes * columns).reshape(codes, columns)
        scale = self.floats(columns)
        labels, edges = tuple(map(str, header["labels"])), tuple(map(str, header["edges"]))
        _check(len(labels) * max(1, codes) * (len(labels) + columns) <= MOST_FEATURES, "too many words")
        return Words(header["nodes"], labels, codebook, scale, edges, float(header["error"]))

    def level(self, depth: int, words: Words, below: Level | None, leaf_degrees: bool) -> Level:
        trees = self.number()
        roots = self.array(trees, words.unknown + 1)
        zeros = np.zeros(trees, dtype=np.int64)
        if below is None:
            degrees = self.array(trees) if leaf_degrees else zeros
            none = np.zeros(0, dtype=np.int64)
            return Level(roots, degrees, np.zeros(trees + 1, dtype=np.int64), none, none, none)
        lengths = self.array(trees)
        entries = int(lengths.sum())
        edges = self.array(entries, len(words.edge_labels) + 1) if words.edge_labels else np.zeros(entries, np.int64)
        children, copies = self.array(entries, len(below)), self.array(entries)
        _check(bool((copies > 0).all() and (copies <= MOST_COPIES).all()), "a child with no copy, or too many")
        _check(int(copies.sum()) <= MOST_COPIES, "too many children")
        return Level(roots, zeros, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), edges, children, copies)

    def mixture(self, trees: int) -> Mixture:
        components = self.number()
        _check(components > 0, "a class without components")
        weights = self.array(components).astype(np.float32)
        presence, means = (
            np.frombuffer(self.bytes(trees * components), np.uint8).reshape(trees, components).T.astype(np.float32)
            for _ in range(2)
        )
        _check(bool((weights > 0).all()), "a component without weight")
        return Mixture(
            weights / weights.sum(),
            (presence / PRESENCE_STEPS).astype(np.float32),
            np.exp(means / MEAN_STEPS).astype(np.float32),
        )

    def rule(self, trees: int, classes: int) -> Rule:
        _check((classes - 1) * trees <= len(self.body), "a rule beyond the end")
        weights = np.zeros((classes, trees), dtype=np.float32)
        bias = np.zeros(classes, dtype=np.float32)
        for c in range(1, classes):
            scale, bias[c] = self.floats(2)
            weights[c] = np.frombuffer(self.bytes(trees), np.int8) * (scale / RULE_STEPS)
        return Rule(weights, bias)

    def itemsets(self, trees: int) -> tuple[FrequentSet, ...]:
        count = self.number()
        supports, sizes = self.array(count), self.array(count)
        _check(count > 0 and bool((sizes > 0).all() and (supports > 0).all()), "an empty set, or none")
        found = [np.cumsum(self.array(int(size))) for size in sizes]
        _check(all(int(items.min()) >= 0 and int(items.max()) < trees for items in found), "a tree out of range")
        copies = np.split(self.array(int(sizes.sum())) + 1, np.cumsum(sizes)[:-1])
        return tuple(
            FrequentSet(tuple(zip(items.tolist(), times.tolist(), strict=True)), int(support))
            for items, times, support in zip(found, copies, supports, strict=False)
        )

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.bytes(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            _check(shift < 63, "a number too long")

    def array(self, length: int, bound: int | None = None) -> Ints:
        _check(0 <= length <= len(self.body) - self.place, "a length beyond the end")
        values = np.array([self.number() for _ in range(length)], dtype=np.int64)
        _check(bound is None or not length or int(values.max()) < bound, "an index out of range")
        return values

    def floats(self, count: int) -> Floats:
        _check(count >= 0, "a negative length")
        values = np.frombuffer(self.bytes(4 * count), "<f4").astype(np.float32)
        _check(bool(np.isfinite(values).all()), "a number that is not finite")
        return values

    def bytes(self, length: int) -> bytes:
        _check(0 <= length <= len(self.body) - self.place, "a length beyond the end")
        self.place += length
        return self.body[self.place - length : self.place]


def _check(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)

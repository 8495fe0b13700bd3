"""Names to concepts: by dictionary, by the abbreviations a document defines, and never by a guess between equals.

1  an abbreviation that the document defines ("congenital hypothyroidism (CH)") stands for its long form
2  the name's key, then the key without what species, "gene" or a plural add
3  of several concepts the one with the best kind of name; of equals the one that another name in the document means;
   else the mention stays without a concept, and is counted as ambiguous
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from stillhouse.knowledge.biolink import curie
from stillhouse.knowledge.dictionaries import Dictionaries, Entry, key_of
from stillhouse.knowledge.documents import Document, Mention
from stillhouse.knowledge.pairs import longest_only

TYPES = ("gene", "disease", "chemical")
BEFORE = ("human ", "mouse ", "murine ", "rat ", "serum ", "plasma ", "recombinant ", "the ")
BEHIND = (
    " gene",
    " genes",
    " protein",
    " proteins",
    " mrna",
    " receptor protein",
    " syndrome",
    " disease",
    " patients",
    " deficiency",
)
MOST_WORDS = 7
"""Of a name in the text that the tagger looks up."""
LEAST_LETTERS = 3
_ABBREVIATION = re.compile(r"\(([A-Za-z][A-Za-z0-9-]{1,9})[);,]")
_WORD = re.compile(r"\w+(?:[-/']\w+)*")


@dataclass(frozen=True)
class Found:
    """What a name means."""

    concept: str
    """Empty where nothing, or several things, are meant."""
    ambiguous: bool = False


def abbreviations(text: str) -> dict[str, str]:
    """Short form -> long form, as the text defines them (Schwartz and Hearst, 2003)."""
    found: dict[str, str] = {}
    for match in _ABBREVIATION.finditer(text):
        short = match.group(1)
        words = text[: match.start()].rstrip()
        window = " ".join(words.split()[-min(len(short) + 5, 2 * len(short)) :])
        long = _long_form(short, window)
        if long and len(long) > len(short):
            found.setdefault(short, long)
    return found


def _long_form(short: str, window: str) -> str:
    """The shortest end of the window in which the short form's letters occur in order, the first at a word's start."""
    place = len(window) - 1
    for i in range(len(short) - 1, -1, -1):
        letter = short[i].lower()
        if not letter.isalnum():
            continue
        while place >= 0 and (
            window[place].lower() != letter or (i == 0 and place > 0 and window[place - 1].isalnum())
        ):
            place -= 1
        if place < 0:
            return ""
        place -= 1
    start = place + 1
    return window[start:] if not window[start:].count(".") else ""


def _variants(name: str) -> Iterator[str]:
    low = " ".join(name.lower().split())
    yield low
    for start in BEFORE:
        if low.startswith(start):
            low = low.removeprefix(start)
            yield low
    for end in BEHIND:
        if low.endswith(end) and len(low) > len(end) + 2:
            yield low.removesuffix(end)
    yield low + "s"
    if low.endswith("s") and len(low) > 4:
        yield low[:-1]
        if low.endswith("ies"):
            yield low[:-3] + "y"


LEADING = ("NCBIGene", "MESH", "HGNC", "MONDO", "CHEBI")
"""One name in two terminologies is one concept: the first of these that has it counts."""


def _goodness(entry: Entry) -> tuple[int, int]:
    """Terminology first, kind of name second."""
    namespace = entry.concept.partition(":")[0]
    return LEADING.index(namespace) if namespace in LEADING else len(LEADING), entry.rank


def candidates(name: str, kind: str, known: Dictionaries) -> list[Entry]:
    """Concepts of a type that a name may mean, those of the leading terminology and of the best kind of name only."""
    for variant in _variants(name):
        found = [e for e in known.look_up(key_of(variant)) if e.type == kind]
        if found:
            best = min(map(_goodness, found))
            return [e for e in found if _goodness(e) == best]
    return []


def resolve(name: str, kind: str, known: Dictionaries, short: dict[str, str], meant: set[str]) -> Found:
    """What a name in a document means.

    Args:
        name: as written.
        kind: its type.
        known: the dictionaries.
        short: the document's abbreviations.
        meant: concepts that unambiguous names in the document mean.
    """
    options = candidates(short[name], kind, known) if name in short else []
    options = options or candidates(name, kind, known)
    concepts = list(dict.fromkeys(e.concept for e in options))
    if len(concepts) > 1:
        concepts = [c for c in concepts if c in meant] or concepts
    return Found(concepts[0]) if len(concepts) == 1 else Found("", bool(concepts))


def _resolve_all(document: Document, mentions: Iterable[Mention], known: Dictionaries) -> list[Found]:
    short = abbreviations(document.text)
    listed = list(mentions)
    first = [resolve(m.text_in(document.text), m.type, known, short, set()) for m in listed]
    meant = {f.concept for f in first if f.concept}
    return [
        f if f.concept or not f.ambiguous else resolve(m.text_in(document.text), m.type, known, short, meant)
        for f, m in zip(first, listed, strict=True)
    ]


def ground(document: Document, known: Dictionaries) -> Document:
    """The document, with a concept for every mention without one that the dictionaries know."""
    open_ = [m for m in document.mentions if not m.ids]
    found = dict(zip(open_, _resolve_all(document, open_, known), strict=True))
    made = tuple(
        replace(m, ids=(found[m].concept,)) if m in found and found[m].concept else m for m in document.mentions
    )
    return replace(document, mentions=made)


def tag(document: Document, known: Dictionaries) -> Document:
    """The document, with the genes, diseases and chemicals that the dictionaries find in it; longest names win.

    A name that could be of two types is left out unless the document defines it as an abbreviation.
    """
    words = [(m.start(), m.end()) for m in _WORD.finditer(document.text)]
    short = abbreviations(document.text)
    found = [m for i in range(len(words)) for m in _names_at(document.text, words, i, known, short)]
    kept = longest_only(found)
    grounded = _resolve_all(document, kept, known)
    return replace(
        document, mentions=tuple(replace(m, ids=(f.concept,)) for m, f in zip(kept, grounded, strict=True) if f.concept)
    )


def _names_at(
    text: str, words: list[tuple[int, int]], i: int, known: Dictionaries, short: dict[str, str]
) -> Iterator[Mention]:
    """The longest known name that begins at a word."""
    for j in range(min(i + MOST_WORDS, len(words)) - 1, i - 1, -1):
        name = text[words[i][0] : words[j][1]]
        if len(name) < LEAST_LETTERS or "\n" in name or ". " in name:
            continue
        kinds = {e.type for e in known.look_up(key_of(short.get(name, name))) if _plausible(name, e)}
        if len(kinds) == 1:
            yield Mention(((words[i][0], words[j][1]),), kinds.pop())
            return


def _plausible(name: str, entry: Entry) -> bool:
    """A gene's symbol is written with a capital or a digit: "was" and "impact" are no genes. So is any name of up to four letters."""
    marked = any(c.isupper() or c.isdigit() for c in name[1:]) or name.isupper()
    single = " " not in name
    return marked or not single or (entry.type != "gene" and len(name) > 4 and entry.name.lower() == name.lower())


@dataclass
class Accuracy:
    """The normaliser against a corpus's own ids, for one type."""

    type: str
    mentions: int = 0
    right: int = 0
    wrong: int = 0
    ambiguous: int = 0
    unknown: int = 0
    reachable: int = 0
    """Mentions whose annotated concept the dictionaries have: HGNC has no mouse genes, for instance."""
    concepts: int = 0
    """Distinct annotated concepts, counted in each document."""
    concepts_right: int = 0
    misses: list[tuple[str, str, str]] = field(default_factory=list)
    """(words, annotated id, what was found)"""


def measure(documents: Iterable[Document], known: Dictionaries) -> list[Accuracy]:
    """Mentions with annotated ids, grounded without looking at the ids; right if an equivalent id is among the annotated."""
    rows = {kind: Accuracy(kind) for kind in TYPES}
    for document in documents:
        asked = [m for m in document.mentions if m.type in rows and m.ids]
        reached: dict[tuple[str, str], bool] = {}
        for mention, found in zip(asked, _resolve_all(document, asked, known), strict=True):
            wanted = {curie(c, mention.type) for c in mention.ids}
            hit = bool(found.concept) and bool(known.equivalents(found.concept) & wanted)
            rows[mention.type].reachable += any(known.has(c) for c in wanted)
            _count(rows[mention.type], hit, found, mention.text_in(document.text), min(wanted))
            for concept in wanted:
                reached[mention.type, concept] = reached.get((mention.type, concept), False) or hit
        for (kind, _), hit in reached.items():
            rows[kind].concepts += 1
            rows[kind].concepts_right += hit
    return list(rows.values())


def _count(row: Accuracy, hit: bool, found: Found, words: str, wanted: str) -> None:
    row.mentions += 1
    row.right += hit
    row.ambiguous += found.ambiguous
    row.unknown += not found.concept and not found.ambiguous
    row.wrong += bool(found.concept) and not hit
    if not hit:
        row.misses.append((words, wanted, found.concept))

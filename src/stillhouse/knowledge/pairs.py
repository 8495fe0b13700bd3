"""Candidate pairs: two mentions of different concepts in one sentence, and how they are shown to an extractor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from stillhouse.knowledge.documents import Counts, Document, Mention, Span
from stillhouse.knowledge.sentences import split_sentences

NONE = "none"
"""The label of a pair between which nothing is said."""
MOST_PAIRS = 400
"""Pairs of one sentence that are looked at, the nearest ones first; a list of fifty genes has 1,225."""


@dataclass(frozen=True)
class Pair:
    """Two mentions in a sentence; `first` is the one that comes first."""

    document: str
    sentence: str
    offset: int
    """Code point of the document at which the sentence begins."""
    first: Span
    second: Span
    """Places in the sentence."""
    types: tuple[str, str]
    concepts: tuple[str, str]
    label: str = ""
    """What is annotated; empty where nobody has looked."""

    def words(self, place: Span) -> str:
        """A mention's words."""
        return self.sentence[place[0] : place[1]]

    @property
    def between(self) -> str:
        """The text between the two mentions."""
        return self.sentence[self.first[1] : self.second[0]]


def overlap(left: Mention, right: Mention) -> bool:
    """Whether two mentions share a character."""
    return any(a < d and c < b for a, b in left.spans for c, d in right.spans)


def longest_only(mentions: Sequence[Mention]) -> list[Mention]:
    """Of mentions that overlap the longest, the first of equals; in the order of the text."""
    kept: list[Mention] = []
    for mention in sorted(mentions, key=lambda m: (-(m.end - m.start), m.start)):
        if not any(overlap(mention, other) for other in kept):
            kept.append(mention)
    return sorted(kept, key=lambda m: (m.start, m.end))


def merged(mentions: Sequence[Mention]) -> list[Mention]:
    """Mentions of one place and type as one with all their concepts, in the order of the text."""
    found: dict[tuple[tuple[Span, ...], str], dict[str, None]] = {}
    for mention in mentions:
        found.setdefault((mention.spans, mention.type), {}).update(dict.fromkeys(mention.ids))
    made = [Mention(spans, kind, tuple(ids)) for (spans, kind), ids in found.items()]
    return sorted(made, key=lambda m: (m.start, m.end))


def candidate_pairs(
    document: Document,
    allowed: Callable[[str, str], bool],
    counts: Counts | None = None,
    labels: Mapping[tuple[str, str], str] | None = None,
) -> Iterator[Pair]:
    """Pairs of concepts in every sentence, each at its nearest pair of mentions.

    Overlapping mentions are kept (a nested one may be meant) but are no pair with each other. Of a composite mention every
    concept takes part. A mention without a concept is known by its words.

    Args:
        document: with mentions.
        allowed: whether a pair of types can be related.
        counts: pairs, overlapping mentions and windows are counted there.
        labels: annotated relation of each pair of concepts (first id, second id), in either order; NONE for others.
    """
    mentions = merged(document.mentions)
    if counts is not None:
        counts.overlapping += sum(overlap(a, b) for a, b in pairwise(mentions))
    seen: set[tuple[int, int, str, str]] = set()
    for start, end in split_sentences(document, counts):
        inside = [m for m in mentions if start <= m.start and m.end <= end]
        near = _nearest(document, inside, allowed)
        for (one, two), (left, right) in near.items():
            place = (left.start, right.start, one, two)
            if place in seen:  # windows of a long sentence overlap
                continue
            seen.add(place)
            label = "" if labels is None else labels.get((one, two)) or labels.get((two, one)) or NONE
            if counts is not None:
                counts.pairs += 1
            yield Pair(
                document.id,
                document.text[start:end],
                start,
                (left.start - start, left.end - start),
                (right.start - start, right.end - start),
                (left.type, right.type),
                (one, two),
                label,
            )


def _nearest(
    document: Document, mentions: Sequence[Mention], allowed: Callable[[str, str], bool]
) -> dict[tuple[str, str], tuple[Mention, Mention]]:
    """For every pair of concepts, in the order of the text, the two mentions nearest to each other."""
    options = [
        (right.start - left.end, left, right)
        for left, right in combinations(mentions, 2)
        if allowed(left.type, right.type) and not overlap(left, right)
    ]
    found: dict[frozenset[str], tuple[str, str, Mention, Mention]] = {}
    for _, left, right in sorted(options, key=lambda o: (o[0], o[1].start, o[2].start)):
        for one in concepts_of(left, document.text):
            for two in concepts_of(right, document.text):
                if one != two and len(found) < MOST_PAIRS:
                    found.setdefault(frozenset((one, two)), (one, two, left, right))
    ordered = sorted(found.values(), key=lambda f: (f[2].start, f[3].start))
    return {(one, two): (left, right) for one, two, left, right in ordered}


def concepts_of(mention: Mention, text: str) -> tuple[str, ...]:
    """A mention's concepts; its own words, lowercased, where none is known."""
    return mention.ids or (f"text:{mention.text_in(text).lower()}",)


def marked(pair: Pair, blind: bool = False) -> str:
    """The sentence with typed markers of punctuation (Zhou and Chen, arXiv 2102.01373): "@ * gene * HNF-6 @", "# ^ disease ^ MODY #".

    Punctuation is in every vocabulary, so any tokenizer reads it. Where the sentence has these signs itself they are left out:
    the first of each is the mention's. With `blind` the type stands for the name. Of a long sentence what is far from the two
    mentions is left out.
    """
    text = pair.sentence.translate(_NO_SIGNS)
    names = [text[a:b] for a, b in (pair.first, pair.second)]
    kinds = [kind.replace("_", " ") for kind in pair.types]
    if blind:
        left, right = f"@ {kinds[0]} @", f"# {kinds[1]} #"
    else:
        left, right = f"@ * {kinds[0]} * {names[0]} @", f"# ^ {kinds[1]} ^ {names[1]} #"
    before, between, after = text[: pair.first[0]], text[pair.first[1] : pair.second[0]], text[pair.second[1] :]
    parts = (_end(before), left, _middle(between), right, _start(after))
    return " ".join(part.strip() for part in parts if part.strip())


MARKERS = ("@", "#")
"""What stands before (and behind) the first and the second mention."""
_NO_SIGNS = str.maketrans(dict.fromkeys(MARKERS, " "))
OUTSIDE, BETWEEN = 150, 300
"""Characters kept on either side of the pair, and between its mentions."""


def _start(text: str) -> str:
    return text if len(text) <= OUTSIDE else text[:OUTSIDE].rpartition(" ")[0]


def _end(text: str) -> str:
    return text if len(text) <= OUTSIDE else text[-OUTSIDE:].partition(" ")[2]


def _middle(text: str) -> str:
    if len(text) <= BETWEEN:
        return text
    half = BETWEEN // 2
    return f"{text[:half].rpartition(' ')[0]} ... {text[-half:].partition(' ')[2]}"

"""Sentences of a text with their places in it; very long ones come as overlapping windows, none is dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from stillhouse.knowledge.documents import Counts, Document, Mention, Span

BLOCK = 50_000
"""Characters that are split at a time, so that a book needs no more memory than an abstract."""
MOST_CHARACTERS = 1200
"""A longer sentence (a table, a list of references) is read in windows of this size."""
OVERLAP = 300
"""Characters that neighbouring windows share: a pair of mentions this near is whole in one of them."""


@lru_cache(maxsize=1)
def _splitter() -> Any:
    import spacy  # takes seconds; queries do without

    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    return nlp


def split_sentences(document: Document, counts: Counts | None = None) -> list[Span]:
    """Places of the sentences: a mention is never cut, and a sentence longer than MOST_CHARACTERS becomes windows."""
    whole = _joined_over(list(_raw_spans(document.text)), document.mentions)
    found: list[Span] = []
    for start, end in whole:
        windows = _windows(document.text, start, end)
        if len(windows) > 1 and counts is not None:
            counts.windows += len(windows)
        found += windows
    return found


def _raw_spans(text: str) -> Iterator[Span]:
    for start, end in _blocks(text):
        for sentence in _splitter()(text[start:end]).sents:
            words = sentence.text
            left = len(words) - len(words.lstrip())
            if words.strip():
                yield start + sentence.start_char + left, start + sentence.start_char + len(words.rstrip())


def _blocks(text: str) -> Iterator[Span]:
    """Stretches of at most BLOCK characters that end at white space where there is some."""
    start = 0
    while start < len(text):
        end = min(start + BLOCK, len(text))
        if end < len(text):
            blank = max(text.rfind(mark, start + BLOCK // 2, end) for mark in ("\n", ". ", " "))
            end = blank + 1 if blank > start else end
        yield start, end
        start = end


def _joined_over(spans: Sequence[Span], mentions: Sequence[Mention]) -> list[Span]:
    """Sentences that a mention reaches over are one."""
    found: list[Span] = []
    reaching = sorted((m.start, m.end) for m in mentions)
    place = 0
    for start, end in spans:
        if found:
            last = found[-1]
            while place < len(reaching) and reaching[place][1] <= last[1]:
                place += 1
            if any(a < last[1] < b and b > start for a, b in reaching[place : place + 50]):
                found[-1] = (last[0], end)
                continue
        found.append((start, end))
    return found


def _windows(text: str, start: int, end: int) -> list[Span]:
    if end - start <= MOST_CHARACTERS:
        return [(start, end)]
    found = []
    while end - start > MOST_CHARACTERS:
        blank = text.rfind(" ", start + MOST_CHARACTERS // 2, start + MOST_CHARACTERS)
        stop = blank if blank > 0 else start + MOST_CHARACTERS
        found.append((start, stop))
        again = text.find(" ", stop - OVERLAP, stop)
        start = again + 1 if again >= 0 else stop - OVERLAP
    return [*found, (start, end)]

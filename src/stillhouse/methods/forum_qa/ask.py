"""Questions to a finished run: the passages that may answer, the span in each, how sure, and when to say nothing at all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stillhouse.corpus.cleaning import words
from stillhouse.corpus.spans import Span
from stillhouse.methods.forum_qa.aspects import ASPECTS
from stillhouse.methods.forum_qa.crisis import is_crisis
from stillhouse.methods.forum_qa.reader import Reader, load_reader, passages_of

SAFETY = (
    "These are other people's words, found by a machine: no clinical advice. Ask a doctor or nurse before you change anything.\n"
    "If you are in danger or cannot go on: 112, 999, 911; to talk to someone 988 (USA, Canada), 116 123 (UK, Europe), findahelpline.com"
)
"""Beside every answer, for the questions in danger that no list of wordings knows."""
HELP = (
    "It sounds as if you, or someone near you, may be in danger. This tool cannot help with that; people can, now:\n"
    "  the emergency number: 112 (Europe), 999 (UK), 911 (USA, Canada), 000 (Australia)\n"
    "  someone to talk to: 988 (USA, Canada), 116 123 (UK, Ireland and much of Europe), 13 11 14 (Australia)\n"
    "  any other country: https://findahelpline.com\n"
    "You do not have to be certain that it is an emergency to call."
)
STOP = frozenset(
    [
        "how",
        "does",
        "do",
        "it",
        "the",
        "a",
        "an",
        "of",
        "to",
        "in",
        "is",
        "are",
        "what",
        "when",
        "did",
        "was",
        "were",
        "the",
        "writer",
        "writer's",
        "these",
        "now",
        "on",
        "for",
        "and",
        "with",
        "who",
        "which",
    ]
)
EXPANSION = 0.5
"""Weight of words that belong to an aspect that the question names, against its own words."""


@dataclass(frozen=True)
class Reply:
    """What is said of one passage."""

    passage: str
    span: Span | None
    confidence: float


class Search:
    """BM25 over passages, the question widened by the words of the aspects that it names."""

    def __init__(self, passages: Sequence[str], k1: float = 1.2, b: float = 0.6) -> None:
        self.passages, self.k1, self.b = list(passages), k1, b
        self.counts = [Counter(words(passage)) for passage in passages]
        self.lengths = [count.total() for count in self.counts]
        self.mean = sum(self.lengths) / max(1, len(self.lengths))
        self.having = Counter(word for count in self.counts for word in count)

    def weights(self, question: str) -> dict[str, float]:
        """Words to look for and how much each counts."""
        asked = {word: 1.0 for word in words(question) if word not in STOP}
        named = [a for a in ASPECTS if a.lexicon & set(asked) or a.name in question.lower()]
        return {**{word: EXPANSION for aspect in named for word in aspect.lexicon}, **asked}

    def top(self, question: str, most: int) -> list[str]:
        """The passages most likely to answer."""
        weights = self.weights(question)
        scores = [self._score(i, weights) for i in range(len(self.passages))]
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        return [self.passages[i] for i in order[:most] if scores[i] > 0]

    def _score(self, i: int, weights: dict[str, float]) -> float:
        """sum_w weight idf (k1 + 1) tf / (tf + k1 (1 - b + b length / mean length))."""
        norm = self.k1 * (1 - self.b + self.b * self.lengths[i] / self.mean)
        found = 0.0
        for word, weight in weights.items():
            tf = self.counts[i][word]
            if tf:
                n = self.having[word]
                idf = math.log(1 + (len(self.passages) - n + 0.5) / (n + 0.5))
                found += weight * idf * tf * (self.k1 + 1) / (tf + norm)
        return found


def replies(
    reader: Reader, passages: Sequence[str], question: str, top: int = 3, looked_at: int = 12
) -> list[Reply] | None:
    """The surest replies, or None where the question is one that no machine should answer.

    A passage with the words of someone in danger is never quoted.
    """
    if is_crisis(question):
        return None
    found = [p for p in Search(passages).top(question, looked_at) if not is_crisis(p)]
    if not found:
        return []
    said = [Reply(p, a[0].span, a[0].confidence) for p, a in zip(found, reader.ask(question, found), strict=True)]
    answered = sorted((r for r in said if r.span is not None), key=lambda r: -r.confidence)
    return answered[:top] or [max(said, key=lambda r: r.confidence)]


def highlighted(reply: Reply, colour: bool) -> str:
    """The passage with its answer marked: in colour on a terminal, by brackets elsewhere."""
    if reply.span is None:
        return reply.passage
    start, end = reply.span
    left, right = ("\033[1;32m", "\033[0m") if colour else ("»", "«")
    return f"{reply.passage[:start]}{left}{reply.passage[start:end]}{right}{reply.passage[end:]}"


def open_run(run: Path) -> tuple[Reader, list[str]]:
    """Reader and passages of a finished run."""
    return load_reader(run / "model"), passages_of(run / "model")

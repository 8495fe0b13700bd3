"""What a reader has to beat: the sentence that shares most words with the question, the first sentence, and saying nothing."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence

from stillhouse.corpus.cleaning import words
from stillhouse.corpus.spans import Span, trimmed
from stillhouse.corpus.squad import Question

_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*\s+|\n+")
SLIDING_WORDS = 8
"""Width of the sliding window; about an answer's length."""
_WORD = re.compile(r"\w+(?:['’]\w+)*")


def sentences(text: str) -> list[Span]:
    """Sentences by their full stops and lines."""
    places = [0, *(m.end() for m in _SENTENCE_END.finditer(text)), len(text)]
    found = (trimmed(text, Span(a, b)) for a, b in itertools.pairwise(places))
    return [span for span in found if span is not None]


def first_sentence(question: Question) -> Span | None:
    """Always the first sentence."""
    return next(iter(sentences(question.context)), None)


class SlidingWindow:
    """The window of words that shares most with the question, each word weighed by how rare it is (Richardson et al. 2013).

    score(i) = sum over words w of the window that are in the question of log(1 + 1 / count(w))
    """

    def __init__(self, passages: Sequence[str], width: int = SLIDING_WORDS) -> None:
        self.width = width
        self.counts = Counter(word for passage in passages for word in words(passage))

    def __call__(self, question: Question) -> tuple[Span | None, float]:
        """The best window, and its score."""
        asked = set(words(question.text))
        found = list(_WORD.finditer(question.context))
        weights = [math.log(1 + 1 / max(1, self.counts[m[0].lower()])) if m[0].lower() in asked else 0.0 for m in found]
        if not found:
            return None, 0.0
        width = min(self.width, len(found))
        scores = [sum(weights[i : i + width]) for i in range(len(found) - width + 1)]
        best = max(range(len(scores)), key=scores.__getitem__)
        return Span(found[best].start(), found[best + width - 1].end()), scores[best]

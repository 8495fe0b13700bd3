"""Released text that a search engine does not lead back to its author: no run of n words is left as it was written.

A quoted phrase of six words finds a post. `obscure` changes a text until it shares no run of n words with its source: by
contractions and everyday synonyms first, and where neither is at hand by leaving a word out: a light one ("of", "just")
silently, any other marked "[…]". `Lookup` then
searches the whole source for every run of n words of what is to be released. That stops an exact search; one by meaning may
still come near, which is why a release is for those who signed for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.spans import Replacement, Rewritten, Span, rewrite

LEFT_OUT = "[…]"
_TOKEN = re.compile(r"\[[A-Z]+\]|\[…\]|[^\W_]+(?:['’][^\W_]+)*")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SAME = (
    "but yet",
    "when whenever",
    "every each",
    "because as",
    "just simply",
    "really truly",
    "often frequently",
    "start begin",
    "started began",
    "help assist",
    "helps assists",
    "usually normally",
    "almost nearly",
    "maybe perhaps",
    "big large",
    "small little",
    "tired weary",
    "scared afraid",
    "kids children",
    "everyone everybody",
    "someone somebody",
    "anyone anybody",
    "wrong mistaken",
    "happens occurs",
    "happened occurred",
    "happen occur",
    "need require",
    "needs requires",
    "try attempt",
    "tried attempted",
    "seems appears",
    "until till",
    "whole entire",
    "while whilst",
    "mostly mainly",
    "finally eventually",
    "only merely",
    "sometimes occasionally",
    "lately recently",
    "constantly continually",
    "terrible awful",
    "nice pleasant",
    "strange odd",
    "sure certain",
    "enough sufficient",
    "nearly almost",
    "ask enquire",
    "about regarding",
    "think believe",
    "thought believed",
    "good fine",
    "great excellent",
    "shops stores",
    "shop store",
    "loud noisy",
    "quiet silent",
)
SYNONYMS: Mapping[str, str] = {pair.split()[0]: pair.split()[1] for pair in _SAME}
"""Words that may stand for one another in everyday prose without changing what is said."""
DETERMINERS: Mapping[str, str] = {"the": "that", "my": "the", "a": "one", "an": "one", "this": "that", "who": "that"}
"""The next resort: still prose, a little less so."""
CONTRACTIONS: Mapping[str, str] = {
    "i'm": "I am",
    "i've": "I have",
    "i'd": "I would",
    "i'll": "I will",
    "it's": "it is",
    "that's": "that is",
    "can't": "cannot",
    "don't": "do not",
    "doesn't": "does not",
    "didn't": "did not",
    "won't": "will not",
    "isn't": "is not",
    "wasn't": "was not",
    "couldn't": "could not",
    "wouldn't": "would not",
    "haven't": "have not",
    "you're": "you are",
    "they're": "they are",
    "we're": "we are",
    "he's": "he is",
    "she's": "she is",
    "there's": "there is",
    "cannot": "can't",
}
_PAIRS: Mapping[tuple[str, str], str] = {
    ("i", "am"): "I'm",
    ("i", "have"): "I've",
    ("it", "is"): "it's",
    ("do", "not"): "don't",
    ("did", "not"): "didn't",
    ("i", "would"): "I'd",
    ("does", "not"): "doesn't",
    ("is", "not"): "isn't",
    ("going", "to"): "gonna",
    ("because", "of"): "due to",
    ("these", "days"): "nowadays",
    ("the", "moment"): "present",
    ("most", "days"): "usually",
    ("as", "if"): "as though",
}
LIGHT = frozenset(
    [
        "a",
        "an",
        "the",
        "and",
        "but",
        "so",
        "of",
        "to",
        "in",
        "on",
        "at",
        "for",
        "with",
        "that",
        "this",
        "it",
        "is",
        "was",
        "i",
        "my",
        "just",
        "have",
        "had",
        "been",
        "be",
        "as",
        "or",
        "if",
    ]
)


def tokens(text: str) -> list[tuple[str, int, int]]:
    """Words as a search engine sees them: (lower case, start, end); placeholders are words that no source has."""
    return [
        (m[0].lower() if not m[0].startswith("[") else f"\0{m[0]}", m.start(), m.end()) for m in _TOKEN.finditer(text)
    ]


def grams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """All runs of n words."""
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def obscure(
    text: str, sources: Iterable[Sequence[str]], n: int, seed: int, spans: Sequence[Span | None] = ()
) -> Rewritten:
    """The text without any run of n words of its sources, its spans carried along.

    Args:
        text: what is to be released.
        sources: word lists (`tokens`) whose runs it must not have.
        n: words of a run.
        seed: of the choice among possible changes.
        spans: answers; a word in one is left out only if nothing else can be done.
    """
    known = {gram for source in sources for gram in grams(source, n)}
    made = Rewritten(text, tuple(spans))
    for step in (_reworded, _redetermined, _shortened):
        found, place = tokens(made.text), 0
        most = 2 * len(found)  # "I am" and "I'm" may both be known: no changing to and fro
        while (hit := _first_known(found, known, n, place)) is not None:
            change = step(made, found, hit, n, seed) if most else None
            if change is None:
                place = hit + 1
                continue
            made = rewrite(made.text, [change], made.spans)
            found, most = tokens(made.text), most - (step is not _shortened)
    return made


def _first_known(found: Sequence[tuple[str, int, int]], known: set[tuple[str, ...]], n: int, place: int) -> int | None:
    listed = [word for word, _, _ in found]
    return next((i for i in range(place, len(listed) - n + 1) if tuple(listed[i : i + n]) in known), None)


def _by_middle(place: int, n: int, seed: int) -> list[int]:
    """Words of a run from its middle outwards: a change there breaks most of the runs around it."""
    return sorted(range(place, place + n), key=lambda i: (abs(i - place - n // 2), derive_seed(seed, i)))


def _reworded(
    made: Rewritten, found: Sequence[tuple[str, int, int]], place: int, n: int, seed: int
) -> Replacement | None:
    """One word or pair of the run said otherwise; None where there is nothing to change."""
    for i in _by_middle(place, n, seed):
        word, start, end = found[i]
        old = made.text[start:end]
        if (
            i + 1 < len(found)
            and (short := _PAIRS.get((word, found[i + 1][0])))
            and made.text[end : found[i + 1][1]] == " "
        ):
            return Replacement(start, found[i + 1][2], _cased(short, old))
        new = CONTRACTIONS.get(word.replace("’", "'")) or SYNONYMS.get(word)
        if new is not None and not old.isupper():
            return Replacement(start, end, _cased(new, old))
    return None


def _redetermined(
    made: Rewritten, found: Sequence[tuple[str, int, int]], place: int, n: int, seed: int
) -> Replacement | None:
    """One article or possessive of the run changed; None where there is none."""
    for i in _by_middle(place, n, seed):
        word, start, end = found[i]
        if word in DETERMINERS:
            return Replacement(start, end, _cased(DETERMINERS[word], made.text[start:end]))
    return None


def _shortened(
    made: Rewritten, found: Sequence[tuple[str, int, int]], place: int, n: int, seed: int
) -> Replacement | None:
    """One word of the run left out: a light one near its end, outside answers where that is possible."""

    def cost(i: int) -> tuple[bool, bool, bool, int]:
        word, start, end = found[i]
        inside = any(span is not None and span.overlaps(Span(start, end)) for span in made.spans)
        return inside, word not in LIGHT, word in ("i", "me"), place + n - i

    i = min((i for i in range(place, place + n) if not found[i][0].startswith("\0")), key=cost)
    word, start, end = found[i]
    if word not in LIGHT:
        return Replacement(start, end, LEFT_OUT)
    # a light word goes without a mark: marks would tell a search where to put its wildcards
    return Replacement(start, end + (made.text[end : end + 1] == " "), "")


def _cased(new: str, old: str) -> str:
    return new[0].upper() + new[1:] if old[0].isupper() and not new.startswith("I") else new


class Lookup:
    """A search of released texts in a stream of sources, by all their runs of n words; memory grows with what is released."""

    def __init__(self, released: Sequence[str], n: int) -> None:
        self.n = n
        self.owners: dict[tuple[str, ...], list[int]] = {}
        for number, text in enumerate(released):
            for gram in grams([word for word, _, _ in tokens(text)], n):
                self.owners.setdefault(gram, []).append(number)
        self.found: dict[int, set[tuple[str, ...]]] = {}
        """Number of a released text -> its runs that some source has."""

    def search(self, source: str) -> None:
        """Look into one source text."""
        found = _WORD.findall(source.lower())
        # the zip of n shifted lists is `grams`, several times as fast: this is where a long export spends its time
        for gram in zip(*(found[i:] for i in range(self.n)), strict=False):
            for number in self.owners.get(gram, ()):
                self.found.setdefault(number, set()).add(gram)

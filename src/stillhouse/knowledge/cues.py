"""Is it denied, is it only supposed? Cue phrases and their scope, after NegEx."""

from __future__ import annotations

import re
from typing import NamedTuple

from stillhouse.knowledge.pairs import Pair

NEGATIONS = (
    "no",
    "not",
    "nor",
    "neither",
    "without",
    "never",
    "cannot",
    "lack of",
    "lacks",
    "lacked",
    "absence of",
    "failed to",
    "fails to",
    "independent of",
    "independently of",
    "unrelated to",
    "no evidence",
    "did not",
    "does not",
    "do not",
    "was not",
    "were not",
    "is not",
    "are not",
    "unaffected by",
    "unlikely",
    "ruled out",
    "rather than",
)
HEDGES = (
    "may",
    "might",
    "could",
    "can be",
    "possibly",
    "possible",
    "potential",
    "potentially",
    "suggest",
    "suggests",
    "suggested",
    "suggesting",
    "hypothesize",
    "hypothesized",
    "hypothesise",
    "putative",
    "presumably",
    "appears to",
    "appear to",
    "seems to",
    "likely",
    "probably",
    "perhaps",
    "speculate",
    "whether",
    "remains unclear",
    "candidate",
    "it is thought",
)
ENDS = r"\b(?:but|however|although|though|whereas|while|yet|except|nevertheless|because|which)\b|[;:]"
"""What closes a cue's scope."""
NOT_ENDED_BY = r"\bbut also\b"
PSEUDO = r"\bnot only\b|\bno increase\b|\bnot necessarily\b|\bno doubt\b"
"""Phrases that hold a cue and deny nothing."""
REACH = 60
"""Characters before the first mention in which a cue still bears on the pair."""


class Stance(NamedTuple):
    """How a sentence stands to what it says of a pair."""

    negated: bool
    hedged: bool


def _pattern(cues: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(cues, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)


_NEGATION, _HEDGE = _pattern(NEGATIONS), _pattern(HEDGES)
_END = re.compile(ENDS, re.IGNORECASE)
_PSEUDO = re.compile(f"{PSEUDO}|{NOT_ENDED_BY}", re.IGNORECASE)


def stance(pair: Pair) -> Stance:
    """Negated if a negation's scope reaches the text between the mentions; hedged if the sentence has a hedge in reach.

    A scope runs from the cue to the end of its clause. A cue right behind the second mention ("... was not found") counts as
    well, as long as nothing closes the clause before it.
    """
    text = _PSEUDO.sub(lambda found: "~" * len(found.group()), pair.sentence)
    return Stance(_reaches(_NEGATION, text, pair), _reaches(_HEDGE, text, pair))


def _reaches(cues: re.Pattern[str], text: str, pair: Pair) -> bool:
    mentions = (pair.first, pair.second)
    for found in cues.finditer(text):
        start, end = found.span()
        if any(a <= start < b for a, b in mentions):  # part of a name
            continue
        if text[:start].rstrip().lower().endswith("but"):  # "A, but not B, inhibits C" is about B alone
            close = text.find(",", end)
            if any(end <= a and b <= (close if close >= 0 else len(text)) for a, b in mentions):
                return True
            continue
        if start < pair.first[0]:
            near = pair.first[0] - end <= REACH and not _END.search(text, end, pair.first[0])
            # a clause that closes between the two mentions has let go of the second
            if near and not _END.search(text, pair.first[1], pair.second[0]):
                return True
        elif start < pair.second[0]:
            if not _END.search(text, end, pair.second[0]):
                return True
        elif start - pair.second[1] <= REACH and not _END.search(text, pair.second[1], start):
            return True
    return False

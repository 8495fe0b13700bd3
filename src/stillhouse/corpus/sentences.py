"""Finished sentences out of what a language model says, and what is wrong with the rest."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Literal

Fault = Literal["empty", "unfinished", "endless", "other script", "broken text", "repeats itself"]
END = re.compile(r"[.?!][\"'”’)]*(?=\s|$)")
ABBREVIATIONS = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "st",
        "vs",
        "etc",
        "inc",
        "no",
        "fig",
        "e.g",
        "i.e",
        "u.s",
        "u.k",
        "jr",
        "sr",
        "approx",
        "dept",
        "gen",
        "gov",
    ]
)
MOST_CHARACTERS = 400


def split_sentences(text: str) -> Iterator[str]:
    """Finished sentences of a text in order; what follows the last full stop is left out."""
    start = 0
    for end in END.finditer(text):
        before = text[start : end.start()].rsplit(maxsplit=1)
        last = before[-1].lower().strip("([\"'") if before else ""
        if text[end.start()] == "." and (last in ABBREVIATIONS or re.fullmatch(r"[a-z]", last)):
            continue
        sentence = " ".join(text[start : end.end()].split())
        start = end.end()
        if sentence:
            yield sentence


def first_sentence(text: str) -> str | None:
    """The first finished sentence; None where there is none."""
    return next(split_sentences(text), None)


def fault(text: str) -> Fault | None:
    """Why no sentence can be taken from a continuation; None where one can."""
    if not text.strip():
        return "empty"
    if "\ufffd" in text or any(unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn") and c not in "\n\t\r" for c in text):
        return "broken text"
    sentence = first_sentence(text)
    if sentence is None:
        return "endless" if len(text) > MOST_CHARACTERS else "unfinished"
    if len(sentence) > MOST_CHARACTERS:
        return "endless"
    if latin_share(sentence) < 0.9:
        return "other script"
    return "repeats itself" if repeats(sentence) else None


def latin_share(text: str) -> float:
    """Share of the letters that are Latin; 0 where there are no letters."""
    letters = [c for c in text if c.isalpha()]
    return sum(unicodedata.name(c, "").startswith("LATIN") for c in letters) / len(letters) if letters else 0.0


def repeats(sentence: str, times: int = 3) -> bool:
    """Whether a run of one to four words comes `times` times in a row."""
    words = sentence.lower().split()
    for length in range(1, 5):
        for start in range(len(words) - times * length + 1):
            run = words[start : start + length]
            if all(words[start + k * length : start + (k + 1) * length] == run for k in range(1, times)):
                return True
    return False

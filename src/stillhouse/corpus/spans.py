"""Spans of a text: rewriting a text while its spans stay on the same words, and refusing spans that are not where they say.

A span is [start, end) in Python characters. Every step that changes a text (cleaning, de-identification, making it
unsearchable) is a list of replacements, and `rewrite` carries the answers through it exactly.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stillhouse.core.errors import UserError

JOINERS = "\u200d\ufe0e\ufe0f"
"""Zero-width joiner and variation selectors: they belong to the character before them."""


class Span(NamedTuple):
    """Characters [start, end) of a text."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """What the span covers."""
        return text[self.start : self.end]

    def overlaps(self, other: Span) -> bool:
        """Whether the two share a character."""
        return self.start < other.end and other.start < self.end


class Replacement(NamedTuple):
    """Characters [start, end) give way to `text`."""

    start: int
    end: int
    text: str


class Rewritten(NamedTuple):
    """A changed text and where its spans are now; None for one of which nothing is left."""

    text: str
    spans: tuple[Span | None, ...]


def rewrite(text: str, replacements: Iterable[Replacement], spans: Sequence[Span | None] = ()) -> Rewritten:
    """Carry out replacements and move the spans along.

    A span that a replacement cuts into takes in the whole of what it became. An insertion (start = end) at the edge of
    a span stays outside. White space that a span would begin or end with afterwards is left outside too.

    Args:
        text: the text.
        replacements: of parts of `text` that do not overlap, in any order.
        spans: to be carried along; None stays None.

    Raises:
        ValueError: two replacements overlap.
    """
    ordered = sorted(replacements)
    pieces: list[str] = []
    places: list[tuple[int, int, int, int]] = []  # old start and end, new start and end of every replacement
    done = length = 0
    for start, end, new in ordered:
        if start < done:
            raise ValueError(f"two replacements overlap at character {start}")
        pieces += [text[done:start], new]
        length += start - done
        places.append((start, end, length, length + len(new)))
        length += len(new)
        done = end
    pieces.append(text[done:])
    made = "".join(pieces)
    return Rewritten(made, tuple(None if span is None else _moved(made, span, places) for span in spans))


def _moved(text: str, span: Span, places: Sequence[tuple[int, int, int, int]]) -> Span | None:
    start, end = span
    new_start = new_end = None
    shift_start = shift_end = 0
    for old_start, old_end, to_start, to_end in places:
        if old_end <= start:
            shift_start = to_end - old_end
        elif old_start <= start < old_end:
            new_start = to_start
        if old_end <= end and not (old_start == old_end == end):
            shift_end = to_end - old_end
        elif old_start < end < old_end:
            new_end = to_end
    new_start = start + shift_start if new_start is None else new_start
    new_end = end + shift_end if new_end is None else new_end
    return trimmed(text, Span(new_start, new_end))


def trimmed(text: str, span: Span) -> Span | None:
    """The span without white space at its ends; None where nothing is left."""
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Span(start, end) if start < end else None


def splits_character(text: str, place: int) -> bool:
    """Whether a cut before `place` would part a letter from its accent or an emoji from its modifier."""
    if not 0 < place < len(text):
        return False
    after, before = text[place], text[place - 1]
    if unicodedata.combining(after) or after in JOINERS or before == "\u200d":
        return True
    return "\U0001f3fb" <= after <= "\U0001f3ff" or _second_of_flag(text, place)


def _second_of_flag(text: str, place: int) -> bool:
    """Flags are pairs of regional indicators."""
    count = 0
    while place - count > 0 and "\U0001f1e6" <= text[place - 1 - count] <= "\U0001f1ff":
        count += 1
    return count % 2 == 1 and "\U0001f1e6" <= text[place] <= "\U0001f1ff"


def moved_to(context: str, start: int, answer: str, tolerance: int) -> int:
    """The place nearest to `start` where the answer is, if one is within `tolerance` characters; else `start`."""
    for away in range(tolerance + 1):
        for place in (start - away, start + away):
            if place >= 0 and context.startswith(answer, place):
                return place
    return start


def require_aligned(context: str, start: int, answer: str, name: str) -> Span:
    """The answer's span, which must be exactly where it says.

    Args:
        context: the passage.
        start: character where the answer is said to begin.
        answer: its text.
        name: of the question, for the error.

    Raises:
        UserError: empty, outside the passage, other words there, or cut through a composed character.
    """
    if not answer.strip():
        raise UserError(f"the answer of {name} is empty", "leave the answer out, or set is_impossible")
    if start < 0 or context[start : start + len(answer)] != answer:
        there = context[max(0, start) : max(0, start) + len(answer)]
        found = context.find(answer)
        hint = f"it is at character {found}" if found >= 0 else "it is nowhere in the passage"
        raise UserError(
            f"the answer {answer[:40]!r} of {name} is not at character {start} of its passage ({there[:40]!r} is); {hint}",
            "mend answer_start (it counts Unicode characters, not bytes or UTF-16 units)",
        )
    for place in (start, start + len(answer)):
        if splits_character(context, place):
            raise UserError(
                f"the answer {answer[:40]!r} of {name} cuts through a composed character at {place}",
                "let it begin and end on whole characters",
            )
    return Span(start, start + len(answer))


def occurrences(text: str, part: str) -> list[Span]:
    """Every place where `part` is found, from the left, without overlaps."""
    found, place = [], text.find(part)
    while place >= 0 and part:
        found.append(Span(place, place + len(part)))
        place = text.find(part, place + len(part))
    return found


def without_overlaps(spans: Iterable[Span]) -> list[Span]:
    """Spans that overlap joined into one, in order."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.start < joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined

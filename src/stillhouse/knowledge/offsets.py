"""Which unit a file counts its offsets in: code points, bytes of UTF-8, or UTF-16 units; found by the mentions' own words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from stillhouse.knowledge.documents import Span


class Written(NamedTuple):
    """Spans as a file has them, and the words they should cover ("" where the file does not say)."""

    spans: tuple[Span, ...]
    words: str


def _table(text: str, width: Callable[[str], int]) -> dict[int, int]:
    """Offset in the other unit -> code point, at character boundaries."""
    ends = np.cumsum([0, *(width(letter) for letter in text)])
    return {int(offset): i for i, offset in enumerate(ends)}


UNITS: dict[str, Callable[[str], int]] = {
    "code points": lambda _: 1,
    "UTF-8 bytes": lambda letter: len(letter.encode()),
    "UTF-16 units": lambda letter: 2 if ord(letter) > 0xFFFF else 1,
}


def _squeezed(words: str) -> str:
    return "".join(words.split()).lower()


def _fits(text: str, spans: Sequence[Span], words: str) -> bool:
    if not words:
        return True
    covered = _squeezed("".join(text[a:b] for a, b in spans))
    return covered == _squeezed(words)


def to_code_points(text: str, written: Sequence[Written]) -> tuple[list[tuple[Span, ...]], str] | int:
    """The spans in code points and the unit they were in; the place of the first that fits in no unit, if one does not.

    A text in ASCII has one unit. In others the unit is the first in which every mention covers its own words.
    """
    failed = len(written)
    for unit, width in UNITS.items():
        if unit != "code points" and text.isascii():
            break
        table = _table(text, width) if unit != "code points" else None
        found: list[tuple[Span, ...]] = []
        for place, (spans, words) in enumerate(written):
            moved = spans if table is None else tuple((table.get(a, -1), table.get(b, -1)) for a, b in spans)
            inside = all(0 <= a < b <= len(text) for a, b in moved)
            if not inside or not _fits(text, moved, words):
                failed = place if unit == "code points" else failed
                break
            found.append(moved)
        else:
            return found, unit
    return failed

"""ROUGE-L of two sentences, on words (Lin 2004), by a bit-parallel longest common subsequence."""

from __future__ import annotations

import re
from collections.abc import Sequence

WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Lower-case words; letters and digits of any script."""
    return WORD.findall(text.lower())


def common_subsequence(x: Sequence[str], y: Sequence[str]) -> int:
    """Length of the longest common subsequence, in O(|x| |y| / 64) (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(x):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(x)) - 1
    free = full
    for word in y:
        hits = free & places.get(word, 0)
        free = ((free + hits) | (free - hits)) & full
    return len(x) - free.bit_count()


def rouge_l(x: Sequence[str], y: Sequence[str]) -> float:
    """F1 of the longest common subsequence: 2 LCS / (|x| + |y|); 0 where one is empty."""
    if not x or not y:
        return 0.0
    return 2 * common_subsequence(x, y) / (len(x) + len(y))

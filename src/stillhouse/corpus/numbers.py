"""Numbers that a text mentions, in digits or words, and whether two texts agree on them.

The filter is right in both directions: every number of y must be one of x, and for a paraphrase also the reverse (the released
code of arXiv 2305.16635 looks twice at the numbers of y, so a number that y loses is never noticed).
"""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal

UNITS = {
    word: value
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
TENS = {
    word: 20 + 10 * i
    for i, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"])
}
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
DIGITS = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
TOKEN = re.compile(rf"(?:{DIGITS.pattern})|[^\W\d_]+", re.UNICODE)


def numbers(text: str) -> Counter[Decimal]:
    """Every number of the text and how often it is there: 1,200 = 1200 = twelve hundred; "one" alone is a pronoun too often to count."""
    found: Counter[Decimal] = Counter()
    spelt: list[str] = []
    for token in [*TOKEN.findall(text.lower()), ""]:
        if _goes_on(spelt, token):
            spelt.append(token)
            continue
        if token == "and" and spelt and spelt[-1] in SCALES:
            continue
        if spelt and spelt != ["one"]:
            found[Decimal(_value(spelt)).normalize()] += 1
        spelt = [token] if token in UNITS or token in TENS else []
        if token[:1].isdigit():
            found[Decimal(token.replace(",", "")).normalize()] += 1
    return found


def _goes_on(spelt: list[str], token: str) -> bool:
    """Whether a word belongs to the number begun before it: "twenty one" and "two hundred five" do, "two three" are two."""
    if not spelt:
        return False
    if token in SCALES:
        return True
    small = token in UNITS or token in TENS
    return small and (spelt[-1] in SCALES or (spelt[-1] in TENS and 0 < UNITS.get(token, 0) < 10))


def _value(spelt: list[str]) -> int:
    """Twelve hundred and five -> 1205."""
    whole, part = 0, 0
    for word in spelt:
        if word in SCALES:
            part = max(part, 1) * SCALES[word]
            if SCALES[word] > 100:
                whole, part = whole + part, 0
        else:
            part += UNITS.get(word, TENS.get(word, 0))
    return whole + part


def numbers_agree(x: Counter[Decimal], y: Counter[Decimal], *, both_ways: bool) -> bool:
    """Whether y has no number that x has not, and with `both_ways` x none that y has not; repetitions are free."""
    return set(y) <= set(x) and (not both_ways or set(x) <= set(y))

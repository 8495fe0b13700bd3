"""A seeded grammar of everyday events in several wordings: text for which it is known which sentences say the same.

A story has one state (who, where, when, how many of what, for whom, by what) and tells a few events of it in order. An event
is a kind and some of the state's slots,

    fact = (kind, {(slot, concept), ...})          x entails y   iff   kind_x = kind_y and slots_y is part of slots_x

and has many wordings: frames (active, passive, there was ...), synonyms, an adjunct before or behind. `read_fact` is the inverse
of `say`, so a sentence that a language model made up can be looked at too: does it say what that other one says?
No story holds the same event twice, so nothing in the text shows what a paraphrase is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from stillhouse.core.seeding import derive_seed

PEOPLE = [
    "Anna",
    "Boris",
    "Clara",
    "David",
    "Elena",
    "Felix",
    "Greta",
    "Henry",
    "Irene",
    "Jonas",
    "Karin",
    "Louis",
    "Maria",
    "Nadia",
    "Oscar",
    "Paula",
    "Rosa",
    "Simon",
    "Teresa",
    "Ursula",
    "Viktor",
    "Wanda",
    "Xenia",
    "Yusuf",
    "Zoe",
    "Aaron",
    "Bella",
    "Carlos",
    "Doris",
    "Emil",
]
PLACES = [
    "Oslo",
    "Lima",
    "Cairo",
    "Paris",
    "Dublin",
    "Madrid",
    "Athens",
    "Berlin",
    "Delhi",
    "Havana",
    "Lagos",
    "Milan",
    "Prague",
    "Quito",
    "Riga",
    "Seoul",
    "Tokyo",
    "Vienna",
    "Warsaw",
    "Zagreb",
    "Bergen",
    "Geneva",
    "Lisbon",
    "Nairobi",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
NUMBERS = (
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
)
ITEMS = (
    ("apples",),
    ("bikes", "bicycles"),
    ("sofas", "couches"),
    ("photos", "photographs"),
    ("lamps",),
    ("books",),
    ("coats",),
    ("chairs",),
    ("rugs", "carpets"),
    ("shoes",),
    ("kettles",),
    ("clocks",),
    ("phones", "telephones"),
    ("boats",),
    ("guitars",),
    ("tables",),
    ("candles",),
    ("mirrors",),
    ("baskets",),
    ("plates", "dishes"),
)
FRIENDS = (
    ("the doctor", "the physician"),
    ("the teacher",),
    ("the boss", "the manager"),
    ("the mayor",),
    ("the nurse",),
    ("the baker",),
    ("the neighbour",),
    ("the lawyer", "the attorney"),
    ("the farmer",),
    ("the painter",),
    ("the pilot",),
    ("the singer",),
)
VEHICLES = (("train",), ("bus", "coach"), ("plane", "aeroplane"), ("car",), ("boat", "ship"))


def _alone(words: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple((word,) for word in words)


LEXICON: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "person": _alone(PEOPLE),
    "place": _alone(PLACES),
    "day": _alone(DAYS),
    "number": NUMBERS,
    "item": ITEMS,
    "friend": FRIENDS,
    "vehicle": VEHICLES,
}
"""Slot -> concepts, each with its surface forms."""

EVENT_TOLD, ADJUNCT_TOLD = 0.8, 0.4
"""Probability that a story tells an event, and an event an adjunct."""
ADJUNCTS: Mapping[str, str] = {"place": "in", "day": "on", "friend": "for", "vehicle": "by"}


@dataclass(frozen=True)
class Kind:
    """A kind of event: what it always has, what it may have, and its frames."""

    core: tuple[str, ...]
    adjuncts: tuple[str, ...]
    frames: tuple[str, ...]


KINDS: Mapping[str, Kind] = {
    "travel": Kind(
        ("person", "place"),
        ("day", "vehicle"),
        (
            "{person} went to {place}",
            "{person} travelled to {place}",
            "{person} made a trip to {place}",
            "a trip to {place} was made by {person}",
        ),
    ),
    "meet": Kind(
        ("person", "friend"),
        ("place", "day"),
        (
            "{person} met {friend}",
            "{friend} was met by {person}",
            "{person} had a meeting with {friend}",
            "there was a meeting between {person} and {friend}",
        ),
    ),
    "buy": Kind(
        ("person", "number", "item"),
        ("friend", "day"),
        (
            "{person} bought {number} {item}",
            "{person} purchased {number} {item}",
            "{number} {item} were bought by {person}",
            "{number} {item} were purchased by {person}",
        ),
    ),
    "repair": Kind(
        ("person", "number", "item"),
        ("place", "day"),
        (
            "{person} repaired {number} {item}",
            "{person} fixed {number} {item}",
            "{number} {item} were repaired by {person}",
            "{number} {item} were fixed by {person}",
        ),
    ),
    "give": Kind(
        ("person", "number", "item", "friend"),
        ("day",),
        (
            "{person} gave {number} {item} to {friend}",
            "{person} gave {friend} {number} {item}",
            "{number} {item} were given to {friend} by {person}",
            "{friend} received {number} {item} from {person}",
            "{friend} got {number} {item} from {person}",
        ),
    ),
    "return": Kind(
        ("person", "place"),
        ("day", "vehicle"),
        (
            "{person} came back from {place}",
            "{person} returned from {place}",
            "{person} made the trip back from {place}",
            "the trip back from {place} was made by {person}",
        ),
    ),
}
ORDER = tuple(KINDS)
"""The order in which a story tells them."""


@dataclass(frozen=True)
class Fact:
    """What a sentence says."""

    kind: str
    slots: frozenset[tuple[str, int]]
    """Slot and number of the concept."""

    def entails(self, other: Fact) -> bool:
        """Whether whoever holds this true must hold `other` true."""
        return self.kind == other.kind and other.slots <= self.slots

    def without(self, slot: str) -> Fact:
        """The same event without a slot."""
        return Fact(self.kind, frozenset(pair for pair in self.slots if pair[0] != slot))

    def with_concept(self, slot: str, concept: int) -> Fact:
        """The same event with another concept in a slot."""
        return Fact(self.kind, self.without(slot).slots | {(slot, concept)})

    @property
    def adjuncts(self) -> list[str]:
        """The slots that could be left out, in the grammar's order."""
        here = dict(self.slots)
        return [slot for slot in KINDS[self.kind].adjuncts if slot in here]


def say(fact: Fact, random: np.random.Generator) -> str:
    """A wording of the fact, drawn by `random`."""
    words = {slot: _draw(LEXICON[slot][concept], random) for slot, concept in sorted(fact.slots)}
    frame = _draw(KINDS[fact.kind].frames, random)
    order = [str(slot) for slot in random.permutation(fact.adjuncts)]
    phrases = [f"{ADJUNCTS[slot]} {words[slot]}" for slot in order]
    text = frame.format(**words)
    if phrases and random.random() < 0.5:
        text = f"{phrases[0]}, {text}"
        phrases = phrases[1:]
    text = " ".join([text, *phrases]) + "."
    return text[0].upper() + text[1:]


def _draw(options: Sequence[str], random: np.random.Generator) -> str:
    return options[int(random.integers(len(options)))]


def read_fact(sentence: str) -> Fact | None:
    """What a sentence of the grammar says; None for any other sentence."""
    text = " ".join(sentence.split()).lower()
    for kind, pattern, core in _patterns():
        found = pattern.fullmatch(text)
        if not found:
            continue
        slots = {slot: _concept(slot, found[slot]) for slot in core}
        for phrase in (found["front"] or "", *_adjunct_pattern().findall(found["behind"] or "")):
            preposition, _, word = phrase.strip(" ,").partition(" ")
            if not preposition:
                continue
            slot = next((s for s in KINDS[kind].adjuncts if ADJUNCTS[s] == preposition), None)
            if slot is None or slot in slots or word not in _concepts(slot):
                return None
            slots[slot] = _concept(slot, word)
        return Fact(kind, frozenset(slots.items()))
    return None


@cache
def _concepts(slot: str) -> dict[str, int]:
    return {form.lower(): number for number, forms in enumerate(LEXICON[slot]) for form in forms}


def _concept(slot: str, word: str) -> int:
    return _concepts(slot)[word]


def _any_of(slot: str) -> str:
    return "|".join(sorted(map(re.escape, _concepts(slot)), key=len, reverse=True))


@cache
def _adjunct_pattern() -> re.Pattern[str]:
    return re.compile(" (?:" + "|".join(f"{p} (?:{_any_of(slot)})" for slot, p in ADJUNCTS.items()) + ")")


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str], tuple[str, ...]], ...]:
    made = []
    adjunct = _adjunct_pattern().pattern[1:]
    for kind, shape in KINDS.items():
        for frame in shape.frames:
            core = frame.format(**{slot: f"(?P<{slot}>{_any_of(slot)})" for slot in shape.core})
            made.append(
                (kind, re.compile(f"(?:(?P<front>{adjunct}), )?{core}(?P<behind>(?: {adjunct})*)\\."), shape.core)
            )
    return tuple(made)


def same_meaning(x: str, y: str) -> bool | None:
    """Whether two sentences say the same; None where the first is not of the grammar."""
    first, second = read_fact(x), read_fact(y)
    return None if first is None else second is not None and first == second


def draw_state(random: np.random.Generator) -> dict[str, int]:
    """Who, where, when, how many of what, for whom and by what."""
    return {slot: int(random.integers(len(concepts))) for slot, concepts in LEXICON.items()}


def draw_fact(kind: str, state: Mapping[str, int], random: np.random.Generator) -> Fact:
    """An event of the story, each adjunct told with probability 0.4."""
    shape = KINDS[kind]
    told = [*shape.core, *(slot for slot in shape.adjuncts if random.random() < ADJUNCT_TOLD)]
    return Fact(kind, frozenset((slot, state[slot]) for slot in told))


def story(random: np.random.Generator) -> list[Fact]:
    """Three or more events with one state, in order."""
    state = draw_state(random)
    while True:
        kinds = [kind for kind in ORDER if random.random() < EVENT_TOLD]
        if len(kinds) >= 3:
            return [draw_fact(kind, state, random) for kind in kinds]


@dataclass(frozen=True)
class Stories:
    """Stories in words, and the facts that they tell."""

    texts: tuple[tuple[str, ...], ...]
    """A tuple of sentences each."""
    facts: tuple[tuple[Fact, ...], ...]


SPLITS = ("train", "select", "report")


def split_of(fact: Fact) -> str:
    """The split that an event belongs to, whatever it is worded like: 80 % train, 10 % select, 10 % report.

    By the event's person, place or item, and friend: a held-out event is a new combination of known words.
    """
    here = dict(fact.slots)
    key = [here.get(slot, -1) for slot in ("person", "item", "place", "friend")]
    part = derive_seed("everyday", fact.kind, *key) % 10
    return "train" if part < 8 else "select" if part == 8 else "report"


def everyday_stories(stories: int, seed: int = 0) -> Stories:
    """Stories all of whose events belong to the train split."""
    random = np.random.default_rng(derive_seed("everyday stories", seed))
    texts: list[tuple[str, ...]] = []
    facts: list[tuple[Fact, ...]] = []
    while len(texts) < stories:
        told = [fact for fact in story(random) if split_of(fact) == "train"]
        if len(told) >= 2:
            facts.append(tuple(told))
            texts.append(tuple(say(fact, random) for fact in told))
    return Stories(tuple(texts), tuple(facts))


def held_out_facts(split: str, count: int, seed: int = 0) -> list[Fact]:
    """Different events of a held-out split."""
    random = np.random.default_rng(derive_seed("everyday", split, seed))
    found: dict[Fact, None] = {}
    while len(found) < count:
        found.update((fact, None) for fact in story(random) if split_of(fact) == split)
    return list(itertools.islice(found, count))


def wordings(fact: Fact, count: int, random: np.random.Generator) -> list[str]:
    """Up to `count` different wordings of a fact."""
    found: dict[str, None] = {}
    for _ in range(20 * count):
        found.setdefault(say(fact, random))
        if len(found) == count:
            break
    return list(found)


def labelled_pairs(count: int, seed: int = 0, split: str = "train") -> tuple[list[str], list[str], list[bool]]:
    """Pairs of sentences and whether the first entails the second; half of them do.

    Negatives are near: another concept in one slot, an adjunct that the first does not have, or another kind of event
    with the same state.
    """
    random = np.random.default_rng(derive_seed("everyday pairs", split, seed))
    first: list[str] = []
    second: list[str] = []
    labels: list[bool] = []
    while len(first) < count:
        state = draw_state(random)
        fact = draw_fact(str(random.choice(ORDER)), state, random)
        if split_of(fact) != split:
            continue
        entailed = bool(random.random() < 0.5)
        other = _entailed(fact, random) if entailed else _not_entailed(fact, state, random)
        first.append(say(fact, random))
        second.append(say(other, random))
        labels.append(fact.entails(other))
    return first, second, labels


def _entailed(fact: Fact, random: np.random.Generator) -> Fact:
    for slot in fact.adjuncts:
        if random.random() < 0.25:
            fact = fact.without(slot)
    return fact


def _not_entailed(fact: Fact, state: Mapping[str, int], random: np.random.Generator) -> Fact:
    missing = [slot for slot in KINDS[fact.kind].adjuncts if slot not in dict(fact.slots)]
    way = random.random()
    if way < 0.5:
        slot, concept = sorted(fact.slots)[int(random.integers(len(fact.slots)))]
        others = len(LEXICON[slot])
        return fact.with_concept(slot, (concept + 1 + int(random.integers(others - 1))) % others)
    if way < 0.8 and missing:
        slot = str(random.choice(missing))
        return fact.with_concept(slot, state[slot])
    kind = str(random.choice([kind for kind in ORDER if kind != fact.kind]))
    return draw_fact(kind, state, random)

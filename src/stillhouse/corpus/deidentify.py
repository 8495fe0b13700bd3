"""Names, handles, places, dates, ages and contacts out of a text: own rules, what the forum itself calls ordinary words, and presidio.

Three sources of findings are united, since a missed name costs a person more than a lost word costs a reader:

1. rules for what has a form: e-mail, URL, phone, handle, date, age, postcode, street, doctor's name;
2. cues for names and places ("my sister ...", "live in ...", a signature), and every capitalised word that is not an
   *ordinary* word: one that at least k different users write in small letters;
3. presidio-analyzer with a local spaCy model, for persons and places (`corpus.presidio`).

A name found once is taken out of all posts of its user and thread ("Rose" is a word until someone's friend is called so).
What is found gives way to a placeholder, [NAME]; users become salted hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from stillhouse.corpus.cleaning import WORD
from stillhouse.corpus.spans import Replacement, Rewritten, Span, rewrite

Finder = Callable[[str], list["Found"]]


class Found(NamedTuple):
    """Something personal at [start, end)."""

    start: int
    end: int
    kind: str
    """NAME, HANDLE, PLACE, DATE, AGE, EMAIL, PHONE, URL or CODE."""


_MONTH = (
    r"(?:(?:january|february|march|april|may|june|july|august|september|october|november|december)\b"
    r"|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?)"
)
_DAY = r"(?:the )?[0-3]?\d(?:st|nd|rd|th)?"
_YEAR = r"(?:19|20)\d\d"
_DOMAIN = r"(?:com|org|net|uk|edu|gov|info|io|me|de|eu|ca|au|us|co)"
FORMS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.I))
    for kind, pattern in (
        ("EMAIL", r"[\w.+'’-]+ ?(?:@|\(at\)|\[at\]) ?[\w-]+(?: ?(?:\.|\(dot\)|\[dot\]) ?[\w-]+)+"),
        ("URL", r"(?:https?://|www\.)[^\s<>\")\]]*[^\s<>\")\].,;:!?]"),
        ("URL", rf"\b[a-z0-9][\w-]*(?:\.[\w-]+)*\.{_DOMAIN}(?:/[^\s<>\")\]]*[^\s<>\")\].,;:!?])?(?![\w@])"),
        ("HANDLE", r"(?<![\w@])@\w[\w.-]*\w"),
        ("HANDLE", r"(?<![\w/])/?u/[\w-]{3,}"),
        ("HANDLE", r"\b(?=\w*\d)(?=\w*_)\w{4,}\b|\b(?:xx|xX)\w+(?:xx|Xx|xX)\b"),
        (
            "PHONE",
            r"(?<![\w.])(?=(?:[ .()+-]*\d){7})(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,5}\)[ .-]?)?\d{2,7}(?:[ .-]\d{2,7}){1,4}(?!\w)",
        ),
        ("PHONE", r"(?<![\w.])\+?\d{9,14}(?!\w)"),
        (
            "DATE",
            rf"\b{_DAY}(?: of)? {_MONTH}(?:,? {_YEAR})?|\b{_MONTH} {_DAY}\b(?:,? {_YEAR})?|\b{_MONTH},? {_YEAR}\b",
        ),
        ("DATE", rf"\b[0-3]?\d[/.-][0-3]?\d[/.-](?:{_YEAR}|\d\d)\b|\b{_YEAR}-[01]\d(?:-[0-3]\d)?\b"),
        ("DATE", rf"\b(?:in|since|of|from|until|till|around|during|summer|winter|spring|autumn|back in) {_YEAR}\b"),
        ("AGE", r"\b\d{1,2}(?: |-)?(?:yo|y/o|yrs? old|years? old|year-old|years? of age)\b"),
        (
            "AGE",
            r"\b(?:i am|i'm|im|i’m|i just turned|i turn(?:ed)?|aged?|age of|she's|he's) \d{2}\b(?!\s*(?:%|mg|hours|minutes|days|weeks|months|pounds|kilos|kg|stone))",
        ),
        ("CODE", r"\b[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}\b"),
        (
            "PLACE",
            r"\b\d{1,4} (?!to |of |in )(?:[A-Za-z]+ ){1,3}(?:street|st|road|rd|avenue|ave|lane|drive|close|crescent|court)\b",
        ),
    )
)
_KIN = (
    r"(?:mum|mom|mother|dad|father|sister|brother|son|daughter|wife|husband|partner|boyfriend|girlfriend|friend|mate|aunt|uncle|"
    r"cousin|nan|gran|grandma|grandad|grandpa|nephew|niece|flatmate|roommate|neighbour|neighbor|boss|manager|nurse|therapist|counsellor|"
    r"psychiatrist|doctor|keyworker|social worker|support worker|dog|cat)"
)
_LAST = r"(?: (?:[A-ZÀ-Ö][\w'’-]+)){0,2}"
_NAME_CUES = re.compile(
    rf"\b(?i:(?:my|our|his|her|their|ex) (?:\w+ )?{_KIN},? |{_KIN},? |(?:name is|name's|named|called|call me|met|dr\.?|mr\.?|mrs\.?|ms\.?|prof\.?|professor|auntie) )"
    rf"(?=(\w[\w'’-]*{_LAST}))"
)
_SPEAKS = re.compile(
    r"(?:\A|[.!?,:\n] ?)(\w+) (?=(?i:says|said|told|thinks|thought|reckons|suggested|drove|asked|made me)\b)"
)
_SIGNED = re.compile(
    rf"(?:^|\n|[.!?] )(?i:[-–—~] ?|love,? |cheers,? |regards,? |thanks,? |hugs,? |xx? ?)(\w[\w'’-]*{_LAST})(?: ?x+)?[.!]?\s*\Z"
)
_PLACE_CUES = re.compile(
    r"\b(?i:(?:stayed|staying|stuck|am|was|clinic|hospital|ward|unit|group|meeting|job|office|school|college|university|uni|flat|team) "
    r"(?:in|near|to|at|from|outside|around|of) |back from |drive to |drove to |train to |bus to |trip to |(?:here|over|down|up|out) in )"
    rf"(?=(\w[\w'’-]*{_LAST}))"
)
_MOVED = re.compile(r"\b(?i:moved from \S+(?: \w+)? to )(?=(\w[\w'’-]*" + _LAST + r"))")
_HOME_CUES = re.compile(
    rf"\b(?i:(?:live|lives|lived|living|born|based|grew up) (?:in|near|outside) |(?:come|comes|came|i'm|am|moved|move|moving) (?:here |back )?(?:from|to) )(?=(\w[\w'’-]*{_LAST}))"
)
"""After these a word is a place even where it is a word as well (Reading, Bath)."""
_NO_PLACE = frozenset(
    [
        "a",
        "an",
        "the",
        "my",
        "our",
        "his",
        "her",
        "their",
        "this",
        "that",
        "here",
        "there",
        "fear",
        "me",
        "you",
        "it",
        "work",
        "bed",
        "home",
        "another",
        "different",
        "one",
        "some",
        "people",
        "hospital",
        "nowhere",
        "town",
    ]
)
_FUNCTION = frozenset(
    ["who", "which", "that", "and", "but", "has", "is", "was", "are", "were", "also", "always", "never"]
)
_CAPITALISED = re.compile(
    r"\b[A-ZÀ-Ö][a-zß-öø-ÿ]+(?:['’-]?[A-Za-zÀ-ÖØ-öø-ÿ]+)*(?: [A-ZÀ-Ö][a-zß-öø-ÿ]*(?:['’-]?[A-Za-zÀ-ÖØ-öø-ÿ]+)*)*"
)
ALWAYS_ORDINARY = frozenset(
    [
        "i",
        "i'm",
        "i've",
        "i'd",
        "i'll",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "christmas",
        "easter",
        "god",
        "english",
        "internet",
        "google",
        "youtube",
        "netflix",
        "dr",
        "mr",
        "mrs",
        "ms",
        "prof",
        "thanks",
        "sorry",
        "hello",
        "hi",
        "hey",
        "yes",
        "no",
        "well",
        "please",
        "the",
        "a",
        "an",
        "and",
        "but",
        "so",
        "my",
        "it",
        "this",
        "that",
        "they",
        "he",
        "she",
        "we",
        "you",
    ]
)


MOST_KNOWN = 300_000
"""Words that a lexicon remembers; beyond it those of one writer are forgotten."""


def user_hash(user: str, salt: bytes) -> str:
    """A pseudonym that cannot be computed without the salt: HMAC-SHA256, twelve hexadecimal digits."""
    return "user-" + hmac.new(salt, user.encode(), hashlib.sha256).hexdigest()[:12]


@dataclass
class Lexicon:
    """Which words are ordinary on this forum: at least `users` people write them, and hardly ever with a capital within a sentence."""

    users: int = 5
    writers: dict[str, set[int]] = field(default_factory=dict)
    small: Counter[str] = field(default_factory=Counter)
    initial: Counter[str] = field(default_factory=Counter)
    capital: Counter[str] = field(default_factory=Counter)
    extra: frozenset[str] = frozenset()
    """Words that are ordinary whoever writes them: medicines, symptoms."""

    def add(self, text: str, user: str) -> None:
        """Take in a post; words at the beginning of a sentence say nothing about their first letter."""
        if text == text.lower():
            return  # whoever writes no capitals says nothing about which words have them
        number = hash(user)
        for match in WORD.finditer(text):
            word, before = match[0], text[max(0, match.start() - 2) : match.start()]
            lower = word.lower()
            begins = not before or before[-1] in "\n\"'(" or before[0] in ".!?:\n"
            kind = self.small if word == lower else self.initial if begins else self.capital
            kind[lower] += 1
            known = self.writers.setdefault(lower, set())
            if kind is not self.capital and len(known) < self.users:
                known.add(number)
        if len(self.writers) > MOST_KNOWN:
            self._forget_rare()

    def _forget_rare(self) -> None:
        """Drop words of a single writer: names, slips of the pen; they are not ordinary, and there is no end of them."""
        for word in [w for w, known in self.writers.items() if len(known) < 2]:
            for counts in (self.writers, self.small, self.initial, self.capital):
                counts.pop(word, None)

    def ordinary(self, word: str) -> bool:
        """Whether a word is one that anyone would write."""
        lower = word.lower().replace("’", "'")
        if lower in ALWAYS_ORDINARY or lower in self.extra or lower.removesuffix("'s") in self.extra:
            return True
        enough = len(self.writers.get(lower, ())) >= self.users
        return enough and self.small[lower] + self.initial[lower] / 2 > self.capital[lower]

    def maybe_name(self, word: str) -> bool:
        """Whether a word, ordinary or not, has been someone's name: it had a capital within a sentence."""
        return self.capital[word.lower()] >= 2 and word.lower() not in ALWAYS_ORDINARY

    def verb(self, word: str) -> bool:
        """Whether a word in small letters is a form of an ordinary one ("buys", "stopped")."""
        stems = {word.removesuffix(ending) for ending in ("s", "es", "ed", "d", "ing") if word.endswith(ending)}
        stems |= {stem[:-1] for stem in stems if len(stem) > 3 and stem[-1] == stem[-2]}
        return word.islower() and any(self.ordinary(stem) for stem in stems if len(stem) > 2)


def find_forms(text: str) -> list[Found]:
    """What has a form: contacts, handles, dates, ages, addresses."""
    return [Found(*m.span(), kind) for kind, pattern in FORMS for m in pattern.finditer(text)]


class CueFinder:
    """Names and places by the words before them, and by being capitalised without being ordinary."""

    def __init__(self, lexicon: Lexicon, users: Iterable[str] = ()) -> None:
        self.lexicon = lexicon
        # mails have "First Last <address>" for a user
        parts = {part.lower() for user in users for part in re.split(r"[\s<>\"]+", user)}
        self.users = {p for p in parts if len(p) >= 3 and not lexicon.ordinary(p) and not p.isdigit()}

    def __call__(self, text: str) -> list[Found]:
        found = [*self._cued(text, _NAME_CUES, "NAME"), *self._cued(text, _PLACE_CUES, "PLACE"), *self._homes(text)]
        for pattern in (_SIGNED, _SPEAKS):
            found += [Found(*m.span(1), "NAME") for m in pattern.finditer(text) if self._called(m[1].split()[0])]
        found += self._capitalised(text)
        return found + [
            Found(*m.span(), "HANDLE") for m in re.finditer(r"\w[\w.-]*\w", text) if m[0].lower() in self.users
        ]

    def _capitalised(self, text: str) -> Iterator[Found]:
        """Runs of capitalised words, from the first to the last that is not ordinary."""
        for match in _CAPITALISED.finditer(text):
            odd = [w for w in WORD.finditer(match[0]) if not self.lexicon.ordinary(w[0])]
            if odd:
                yield Found(match.start() + odd[0].start(), match.start() + odd[-1].end(), "NAME")

    def _called(self, word: str) -> bool:
        """Whether a word where only names and pronouns stand (a signature, "... says") is a name."""
        return not self.lexicon.ordinary(word) or self.lexicon.maybe_name(word)

    def _plain(self, word: str, capitals: bool) -> bool:
        """Whether a word after a cue is no name: ordinary and in small letters, or a verb.

        In a text without capitals a word that is a name elsewhere is taken for one: "my wife hope settles".
        """
        if not word[0].islower() or (not capitals and self.lexicon.maybe_name(word)):
            return False
        return self.lexicon.ordinary(word) or self.lexicon.verb(word)

    def _homes(self, text: str) -> Iterator[Found]:
        capitals = text != text.lower()
        for match in (*_HOME_CUES.finditer(text), *_MOVED.finditer(text)):
            first = match[1].split()[0]
            if first.lower() not in _NO_PLACE and not first[0].isdigit():
                yield self._with_next(text, match.start(1), match[1], "PLACE", capitals)

    def _cued(self, text: str, cues: re.Pattern[str], kind: str) -> Iterator[Found]:
        capitals = text != text.lower()
        for match in cues.finditer(text):
            found = self._with_next(text, match.start(1), match[1], kind, capitals)
            said = text[found.start : found.end].split()
            known = match[1].lower() in ALWAYS_ORDINARY
            if not known and not all(self._plain(w, capitals) or w[0].isdigit() for w in said):
                yield found

    def _with_next(self, text: str, start: int, name: str, kind: str, capitals: bool) -> Found:
        """A name with a second word in small letters where that is no ordinary one ("new brunswick")."""
        end = start + len(re.sub(r"['’]s\Z", "", name))
        after = re.match(r" ([^\W\d_]{3,}|o['’][^\W\d_]{3,})(?!['’\w])", text[end:])
        if (
            name.islower()
            and name not in _FUNCTION
            and after
            and after[1].islower()
            and not self._plain(after[1], capitals)
        ):
            end += after.end()
        return Found(start, end, kind)


def united(found: Iterable[Found]) -> list[Found]:
    """Findings that touch one another as one, of the kind that begins first (the longer of equals)."""
    joined: list[Found] = []
    for one in sorted(found, key=lambda f: (f.start, -f.end)):
        if joined and one.start < joined[-1].end:
            joined[-1] = joined[-1]._replace(end=max(joined[-1].end, one.end))
        elif one.start < one.end:
            joined.append(one)
    return joined


@dataclass
class Deidentifier:
    """All finders together, and the memory of names by user and thread."""

    finders: Sequence[Finder]
    lexicon: Lexicon
    names: dict[str, dict[str, str]] = field(default_factory=dict)
    """User or thread -> name in small letters -> NAME or PLACE."""

    def learn(self, text: str, scopes: Sequence[str]) -> list[Found]:
        """Find what is personal in a text, and remember its names for all texts of these scopes."""
        found = united(f for finder in (find_forms, *self.finders) for f in finder(text))
        for one in found:
            if one.kind in ("NAME", "PLACE"):
                for word in WORD.findall(text[one.start : one.end]):
                    if len(word) > 2 and (word[0].isupper() or not self.lexicon.ordinary(word)):
                        for scope in scopes:
                            self.names.setdefault(scope, {}).setdefault(word.lower().removesuffix("'s"), one.kind)
        return found

    def find(self, text: str, found: Sequence[Found], scopes: Sequence[str]) -> list[Found]:
        """What was found in the text, and the names that were learned of its user and thread."""
        known = {name: kind for scope in scopes for name, kind in self.names.get(scope, {}).items()}
        more = []
        for match in WORD.finditer(text):
            bare = re.sub(r"['’]s\Z", "", match[0])
            kind = known.get(bare.lower())
            # a name that is also a word is one where it is capitalised
            if kind and (not self.lexicon.ordinary(bare) or (bare[0].isupper() and not bare.isupper())):
                more.append(Found(match.start(), match.start() + len(bare), kind))
        return united([*found, *more])


def scrub(text: str, found: Sequence[Found], spans: Sequence[Span | None] = ()) -> Rewritten:
    """The text with what was found as placeholders, "[NAME]", and its spans carried along."""
    return rewrite(text, [Replacement(f.start, f.end, f"[{f.kind}]") for f in united(found)], spans)


@dataclass(frozen=True)
class Score:
    """How much of what is personal was found, and how much of what was taken out is personal."""

    kind: str
    planted: int
    missed: int
    removed: int
    wrong: int

    @property
    def recall(self) -> float:
        """Share of what was planted that is covered whole; 1 where nothing was."""
        return 1 - self.missed / self.planted if self.planted else 1.0

    @property
    def precision(self) -> float:
        """Share of what was removed that touches something planted; 1 where nothing was removed."""
        return 1 - self.wrong / self.removed if self.removed else 1.0


def judge(pairs: Iterable[tuple[Sequence[Found], Sequence[Found]]]) -> list[Score]:
    """Scores of each kind planted and of all, from (planted, found) of every text; a finding of any kind covers."""
    counts: dict[str, Counter[str]] = {}
    for planted, found in pairs:
        for one in planted:
            row = counts.setdefault(one.kind, Counter())
            row["planted"] += 1
            row["missed"] += not _covered(one, found)
        for one in found:
            row = counts.setdefault(one.kind, Counter())
            row["removed"] += 1
            row["wrong"] += not any(one.start < p.end and p.start < one.end for p in planted)
    counts["all"] = sum(counts.values(), Counter())
    return [Score(kind, c["planted"], c["missed"], c["removed"], c["wrong"]) for kind, c in counts.items()]


def _covered(one: Found, found: Sequence[Found]) -> bool:
    place = one.start
    for other in sorted(found):
        if other.start <= place < other.end:
            place = other.end
    return place >= one.end

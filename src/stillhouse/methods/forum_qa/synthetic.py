"""A forum that never was: personas with stories of their own, and every span that later steps have to find.

Each user has a few phrases for each aspect and repeats them, as people do: that is what a split by passages instead of
users gives away. Posts carry quotes, markup, signatures, copies, small letters, emoji and personal data; what is planted
is listed with its place in the raw text, so recall and precision of every step are known and not estimated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from stillhouse.core.files import write_atomically
from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.deidentify import Found
from stillhouse.corpus.readers import Post
from stillhouse.corpus.spans import Span
from stillhouse.methods.forum_qa import fillings
from stillhouse.methods.forum_qa import phrases as p
from stillhouse.methods.forum_qa.aspects import ASPECTS, SUBJECTS, Subject

Random = np.random.Generator
_SLOT = re.compile(r"\{(\w+)\}")
PERSONAL_SLOTS = {
    "name": "NAME",
    "surname": "NAME",
    "place": "PLACE",
    "date": "DATE",
    "age": "AGE",
    "email": "EMAIL",
    "phone": "PHONE",
    "url": "URL",
    "handle": "HANDLE",
    "member": "HANDLE",
    "postcode": "CODE",
}
STORIES = 2
"""Phrases that a user has for each aspect and subject."""
OWN_STORY = 0.75
"""How often one of these is told rather than a new one."""


@dataclass(frozen=True)
class Gold:
    """A question on a post and where its answer is; None for one that the post does not answer."""

    aspect: str
    subject: Subject
    question: str
    answer: Span | None


@dataclass
class Written:
    """A post with what is known about it."""

    post: Post
    golds: list[Gold] = field(default_factory=list)
    personal: list[Found] = field(default_factory=list)


class Draft:
    """Text as it is put together, and the spans of what goes into it."""

    def __init__(self) -> None:
        self.text = ""
        self.answers: dict[tuple[str, Subject], tuple[Span, str]] = {}
        self.personal: list[Found] = []

    def add(self, template: str, slot: Callable[[str], str], about: tuple[str, Subject] | None = None) -> None:
        """Append a template; {answer} is noted as the answer about `about`, personal slots as what they are."""
        place = 0
        for match in _SLOT.finditer(template):
            self.text += template[place : match.start()]
            start, name = len(self.text), match[1]
            filling = slot(name)
            if _SLOT.search(filling):
                self.add(filling, slot)
            else:
                self.text += filling
            if name == "answer" and about:
                self.answers[about] = Span(start, len(self.text)), filling
            elif name in PERSONAL_SLOTS:
                self.personal.append(Found(start, len(self.text), PERSONAL_SLOTS[name]))
            place = match.end()
        self.text += template[place:]


_IRREGULAR = """
lie lay lies, wake woke wakes, sleep slept sleeps, get got gets, keep kept keeps, can't couldn't can't,
fall fell falls, hide hid hides, lose lost loses, make made makes, think thought thinks, have had has,
run ran runs, do did does, eat ate eats, leave left leaves, speak spoke speaks, go went goes, ring rang rings,
spend spent spends, meet met meets, be was is, read read reads, forget forgot forgets, throw threw throws,
put put puts, wear wore wears, let let lets, haven't hadn't hasn't, take took takes, drive drove drives,
give gave gives, buy bought buys, pay paid pays, lend lent lends, sell sold sells, sit sat sits,
hear heard hears, grow grew grows, swim swam swims, stay stayed stays, play played plays, enjoy enjoyed enjoys,
try tried tries, cancel cancelled cancels, drop dropped drops, snap snapped snaps, skip skipped skips,
chat chatted chats, scrub scrubbed scrubs, begin began begins
"""
IRREGULAR = {verb: (past, third) for verb, past, third in (row.split() for row in _IRREGULAR.split(","))}


def inflected(phrase: str, subject: Subject) -> str:
    """A verb phrase as its subject needs it: "lie awake" -> "lay awake" (before), "lies awake" (other)."""
    if subject == "now":
        return phrase
    verb, _, rest = phrase.partition(" ")
    regular = (
        verb + ("d" if verb.endswith("e") else "ed"),
        verb + ("es" if verb.endswith(("s", "sh", "ch", "x")) else "s"),
    )
    past, third = IRREGULAR.get(verb, regular)
    if subject == "before":
        return f"{past} {rest}"
    rest = re.sub(r"\bmy\b", "their", re.sub(r"\bme\b", "them", re.sub(r"\bI\b", "they", rest)))
    return f"{third} {rest}"


def _pick(random: Random, options: Sequence[str]) -> str:
    return options[int(random.integers(len(options)))]


@dataclass
class Persona:
    """A user of the forum: how much and how they write, and their stories."""

    user: str
    random: Random
    members: Sequence[str]
    small_letters: bool
    markup: bool
    personal_share: float
    home: tuple[str, str, str]
    """First name, place and age that this user's posts come back to."""
    people: dict[str, str]
    """Kin -> first name."""
    stories: dict[tuple[str, Subject], list[str]] = field(default_factory=dict)

    def phrase(self, aspect: str, subject: Subject) -> str:
        """What this user has to say on an aspect, slots filled except for personal data."""
        known = self.stories.setdefault((aspect, subject), [])
        if len(known) >= STORIES and self.random.random() < OWN_STORY:
            return _pick(self.random, known)
        if aspect in p.VERB_PHRASES:
            hard, good = p.VERB_PHRASES[aspect]
            is_hard = self.random.random() < {"now": 0.8, "before": 0.25, "other": 0.4}[subject]
            made = inflected(_pick(self.random, hard if is_hard else good), subject)
        else:
            made = _pick(self.random, p.NOUN_PHRASES[aspect])
        made = _SLOT.sub(lambda m: m[0] if m[1] in PERSONAL_SLOTS else _pick(self.random, fillings.SLOTS[m[1]]), made)
        if len(known) < STORIES:
            known.append(made)
        return made

    def slot(self, name: str, kin: str) -> str:
        """What goes into a slot."""
        random = self.random
        match name:
            case "kin":
                return kin
            case "name":
                return self.people.setdefault(kin, _pick(random, fillings.FIRST_NAMES)) if kin else self.home[0]
            case "place":
                return self.home[1] if random.random() < 0.5 else _pick(random, fillings.PLACES)
            case "age":
                return self.home[2]
            case "surname":
                return _pick(random, fillings.SURNAMES)
            case "member":
                return _pick(random, self.members)
            case "handle":
                return f"{_pick(random, fillings.FIRST_NAMES).lower()}_{random.integers(10, 99)}"
            case "email":
                return f"{self.home[0].lower()}.{_pick(random, fillings.SURNAMES).lower()}{random.integers(100)}@{_pick(random, ('mailbox', 'post', 'inbox'))}.example.{_pick(random, ('com', 'org'))}"
            case "phone":
                return _pick(
                    random,
                    (
                        f"07700 900{random.integers(100, 999)}",
                        f"(555) 01{random.integers(10, 99)}-{random.integers(1000, 9999)}",
                        f"+44 7700 900{random.integers(100, 999)}",
                        f"555-01{random.integers(10, 99)}",
                    ),
                )
            case "url":
                return f"{_pick(random, ('https://', 'www.', 'http://'))}{_pick(random, ('my-quiet-blog', 'second-week', 'notes-on-it'))}.example.org/{random.integers(1000)}"
            case "date":
                return _date(random)
            case "postcode":
                return f"{_pick(random, ('LS', 'BN', 'M', 'G', 'SW'))}{random.integers(1, 20)} {random.integers(1, 9)}{_pick(random, ('AB', 'QT', 'XY'))}"
        return _pick(random, fillings.SLOTS[name])


def _date(random: Random) -> str:
    months = (
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    )
    day, month, year = int(random.integers(1, 29)), int(random.integers(1, 13)), int(random.integers(2012, 2024))
    name = months[month - 1]
    shapes = (
        f"{day} {name} {year}",
        f"{name} {day}",
        f"{day}/{month:02}/{year}",
        f"the {day}th of {name}",
        f"{name} {year}",
        f"{year}-{month:02}-{day:02}",
        f"{name[:3]} {day}, {year}",
    )
    return _pick(random, shapes)


def _persona(number: int, user: str, members: Sequence[str], seed: int) -> Persona:
    random = np.random.default_rng(derive_seed("persona", seed, number))
    home = (_pick(random, fillings.FIRST_NAMES), _pick(random, fillings.PLACES), str(random.integers(18, 70)))
    return Persona(
        user, random, members, random.random() < 0.2, random.random() < 0.25, float(random.uniform(0.2, 0.6)), home, {}
    )


def _told(persona: Persona, draft: Draft, aspect: str, subject: Subject, kin: str) -> None:
    frames = p.FRAMES[subject] if aspect in p.VERB_PHRASES else p.NOUN_FRAMES[aspect][subject]
    answer = persona.phrase(aspect, subject)
    template = _pick(persona.random, frames)
    draft.add(template, lambda name: answer if name == "answer" else persona.slot(name, kin), (aspect, subject))


def write_post(persona: Persona, number: str, when: datetime) -> Written:
    """One post with one to four facts, small talk and perhaps personal data, and questions on it."""
    random, draft = persona.random, Draft()
    _prefix(persona, draft)
    aspects = random.choice(len(ASPECTS), size=int(random.integers(1, 3)), replace=False)
    facts: list[tuple[str, Subject]] = []
    for a in aspects:
        first = SUBJECTS[int(random.choice(3, p=[0.55, 0.2, 0.25]))]
        facts.append((ASPECTS[a].name, first))
        if random.random() < 0.35:
            facts.append((ASPECTS[a].name, SUBJECTS[(SUBJECTS.index(first) + int(random.integers(1, 3))) % 3]))
    kin = _pick(random, fillings.SLOTS["kin"])
    parts: list[tuple[str, Subject] | str] = [*facts]
    parts += [_pick(random, fillings.SMALL_TALK) for _ in range(int(random.random() < 0.6))]
    if random.random() < persona.personal_share:
        parts += [_pick(random, fillings.PERSONAL) for _ in range(1 + int(random.random() < 0.2))]
    for i in random.permutation(len(parts)):
        part = parts[i]
        if isinstance(part, str):
            draft.add(part, lambda name: persona.slot(name, ""))
        else:
            _told(persona, draft, part[0], part[1], kin)
        draft.text += "\n\n" if random.random() < 0.15 else " "
    _suffix(persona, draft)
    text = draft.text
    golds = [Gold(a, s, _question(random, a, s, kin), span) for (a, s), (span, _) in draft.answers.items()]
    golds += [Gold(a, s, _question(random, a, s, kin), None) for a, s in _untold(random, facts, len(golds))]
    if persona.small_letters:
        text = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    return Written(
        Post(number, persona.user, when.timestamp(), text, f"thread {random.integers(400)}"), golds, draft.personal
    )


def _prefix(persona: Persona, draft: Draft) -> None:
    """A quoted post, or markup, before the words."""
    random = persona.random
    if persona.markup:
        draft.text += "<p>"
    if random.random() < 0.12:
        quoted = _pick(random, fillings.SMALL_TALK)
        draft.text += f"[quote={_pick(random, persona.members)}]{_SLOT.sub('', quoted)}[/quote]\n"
    if random.random() < 0.05:
        draft.text += "[b]Update:[/b] "


def _suffix(persona: Persona, draft: Draft) -> None:
    if persona.random.random() < 0.1:
        draft.add("\n- {name}", lambda name: persona.slot(name, ""))
    elif persona.random.random() < 0.1:
        draft.text += f"\n-- \n{persona.user} | diagnosed and still here"
    if persona.markup:
        draft.text += "</p>"


def _question(random: Random, aspect: str, subject: Subject, kin: str) -> str:
    found = next(a for a in ASPECTS if a.name == aspect)
    return _pick(random, found.questions(subject)).replace("{kin}", kin)


def _untold(random: Random, facts: Sequence[tuple[str, Subject]], answered: int) -> list[tuple[str, Subject]]:
    """What the post does not tell, rather of an aspect that it does speak of: half as many as it tells."""
    told = set(facts)
    near = [(a, s) for a, _ in facts for s in SUBJECTS if (a, s) not in told]
    far = [(a.name, s) for a in ASPECTS for s in SUBJECTS if a.name not in {name for name, _ in facts}]
    wanted = answered // 2 + int(random.random() < 0.5)
    chosen: dict[tuple[str, Subject], None] = {}
    for _ in range(wanted):
        pool = near if near and random.random() < 0.7 else far
        chosen[pool[int(random.integers(len(pool)))]] = None
    return list(chosen)


def make_forum(users: int, seed: int) -> list[Written]:
    """All posts of a forum in the order of time: regular users, passers-by, one flood, moderators, bots, copies, empty posts, people in danger."""
    random = np.random.default_rng(derive_seed("forum", seed))
    members = [
        f"{_pick(random, ('blue', 'quiet', 'north', 'paper', 'night', 'mossy'))}{_pick(random, ('Fox', 'heron', '_owl', 'kite', 'River', '_moth'))}{i}"
        for i in range(users)
    ]
    start = datetime(2021, 1, 1, tzinfo=UTC)
    made: list[Written] = []
    for number, user in enumerate(members):
        persona = _persona(number, user, members, seed)
        posts = 1 + int(random.pareto(1.1) * 4)
        posts = 40 * 8 if number == 0 else min(posts, 60)
        begun, span = int(random.integers(700)), int(random.integers(20, 600))
        for k in range(posts):
            when = start + timedelta(days=begun + float(random.random()) * span, seconds=k)
            if random.random() < 0.12:
                made.append(_off_topic(persona, f"{number}-{k}", when))
            else:
                made.append(write_post(persona, f"{number}-{k}", when))
    made += [*_noise(random, made, start), *_in_danger(random, made, start)]
    return sorted(made, key=lambda w: (w.post.time, w.post.id))


def _off_topic(persona: Persona, number: str, when: datetime) -> Written:
    draft = Draft()
    draft.add(_pick(persona.random, fillings.OFF_TOPIC), lambda name: persona.slot(name, ""))
    return Written(Post(number, persona.user, when.timestamp(), draft.text, "off topic"), [], draft.personal)


def _noise(random: Random, made: Sequence[Written], start: datetime) -> list[Written]:
    """Moderators, bots, copies and empty posts: about a tenth."""
    noise = []
    for i in range(max(12, len(made) // 12)):
        when = (start + timedelta(days=float(random.random()) * 900)).timestamp()
        shapes = (
            Post(
                f"m{i}",
                "moderator_jo",
                when,
                "Welcome to the forum! Please read the rules before you post, and be kind.",
                "rules",
                True,
            ),
            Post(
                f"m{i}",
                "moderator_jo",
                when,
                f"I have moved this to the right section, number {i}, and closed the other one.",
                "rules",
                True,
            ),
            Post(
                f"b{i}",
                "DailyBot",
                when,
                "Daily check-in: how are your voices and your sleep today? Reply below to take part.",
                "check-in",
            ),
            Post(
                f"e{i}",
                _pick(random, [w.post.user for w in made]),
                when,
                _pick(random, ("", "   ", "<p></p>", "+1", "https://example.org/look", "bump!")),
                "misc",
            ),
        )
        post = shapes[int(random.integers(4))]
        noise.append(Written(post))
        if random.random() < 0.4:
            first = made[int(random.integers(len(made)))]
            copy = Post(f"c{i}", first.post.user, first.post.time + 3600, first.post.text, first.post.thread)
            noise.append(Written(copy, first.golds, first.personal))
    return noise


def _in_danger(random: Random, made: Sequence[Written], start: datetime) -> list[Written]:
    """A few posts of members who may be in danger."""
    posts = []
    for i in range(max(len(fillings.DANGER), len(made) // 200)):
        when = (start + timedelta(days=float(random.random()) * 900)).timestamp()
        aspect = _pick(random, [a.name for a in ASPECTS])
        text = (
            f"{fillings.DANGER[i % len(fillings.DANGER)]} It is about {aspect} and my symptoms, for {2 + i} weeks now."
        )
        posts.append(Written(Post(f"d{i}", _pick(random, [w.post.user for w in made]), when, text, "help")))
    return posts


def write_export(forum: Sequence[Written], path: Path) -> None:
    """The forum as an export of JSON lines, two of them cut short as in a bad download."""
    lines = [
        json.dumps(
            {
                "id": w.post.id,
                "user": w.post.user,
                "time": datetime.fromtimestamp(w.post.time, UTC).isoformat(),
                "text": w.post.text,
                "thread": w.post.thread,
                "staff": w.post.staff,
            },
            ensure_ascii=False,
        )
        for w in forum
    ]
    for place in (len(lines) // 3, len(lines) // 2):
        lines.insert(place, lines[place][: len(lines[place]) // 2])
    write_atomically(path, "\n".join(lines) + "\n")

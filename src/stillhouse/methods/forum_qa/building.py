"""From a forum export to passages that may be released: the funnel, who is listened to, de-identification, and the search for leaks.

The export is streamed: once for who writes what, once for the posts, twice for the search of what is to be released.
Memory grows with users, distinct posts (eight bytes each) and the posts that are kept.
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stillhouse.core.errors import require
from stillhouse.core.files import write_atomically
from stillhouse.core.progress import Progress
from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.cleaning import clean, fingerprint, unusable
from stillhouse.corpus.deidentify import (
    CueFinder,
    Deidentifier,
    Finder,
    Found,
    Lexicon,
    scrub,
    user_hash,
)
from stillhouse.corpus.k_anonymity import Level, band, hidden, k_anonymous, prefix
from stillhouse.corpus.presidio import PresidioFinder
from stillhouse.corpus.readers import Losses, Post, read_posts
from stillhouse.corpus.selection import Activity, CappedPosts, Funnel, Rule, gini, regular_users
from stillhouse.corpus.spans import Span
from stillhouse.corpus.unsearchable import LEFT_OUT, Lookup, obscure, tokens
from stillhouse.methods.forum_qa.aspects import MEDICINES, SYMPTOMS, is_relevant
from stillhouse.methods.forum_qa.crisis import is_crisis

MOST_WORDS = 400
"""Longer posts are left out: a passage should be one story."""
ROUNDS = 2
"""Searches of the whole source; what is still found in the last one is not released."""


@dataclass(frozen=True)
class Planted:
    """What is known of a post beforehand, as spans of its raw text: answers, and personal data."""

    answers: Sequence[Span | None] = ()
    personal: Sequence[Found] = ()


@dataclass(frozen=True)
class Passage:
    """A post on its way to the release."""

    source: str
    """Id of the post in the export."""
    user: str
    thread: str
    cleaned: str
    planted: tuple[Found, ...]
    """Personal data known beforehand, in `cleaned`."""
    answers: tuple[Span | None, ...]
    """In `cleaned` at first, then in `text`."""
    found: tuple[Found, ...] = ()
    """What was taken out of `cleaned`."""
    text: str = ""
    """What is released."""


@dataclass(frozen=True)
class BuildOptions:
    """How a data set is built."""

    columns: Mapping[str, str] = field(default_factory=dict)
    rule: Rule = field(default_factory=Rule)
    deidentifier: str = "presidio"
    search_words: int = 6
    most_users: int = 0
    """Take at most so many regular users, drawn by seed; 0 takes all."""
    seed: int = 0


@dataclass(frozen=True)
class Built:
    """Passages to be released and what was measured on the way."""

    passages: tuple[Passage, ...]
    funnel: tuple[tuple[str, int, int], ...]
    gini_before: float
    gini_after: float
    largest_before: float
    """Share of the user with the most posts, among usable posts; and among the passages."""
    largest_after: float
    found_scrubbed: int
    """Passages that a search would lead back if they were only de-identified."""
    left_out_words: float
    """Share of words given up to make passages unsearchable."""
    losses: str
    months: Mapping[str, tuple[float, float]]
    """User -> first and last post, seconds since 1970."""
    seconds: float


@dataclass
class _Census:
    """What the first pass over an export counts."""

    activity: dict[str, Activity] = field(default_factory=dict)
    lexicon: Lexicon = field(default_factory=Lexicon)
    reasons: Counter[str] = field(default_factory=Counter)
    posts: int = 0


def build(
    path: Path, options: BuildOptions, known: Callable[[str], Planted] | None = None, *, quiet: bool = True
) -> Built:
    """Passages of an export.

    Args:
        path: as for `read_posts`.
        options: how.
        known: id of a post -> what is known of it; carried through every step.
        quiet: show no progress.

    Raises:
        UserError: the export cannot be read, or too few users or posts are left.
    """
    started = time.monotonic()
    losses, funnel = Losses(), Funnel()
    stream = _Stream(path, options.columns, quiet)
    census = _count(stream, losses)
    usable = sum(a.posts for a in census.activity.values())
    funnel.add("posts in the export", census.posts, len(census.activity))
    for reason, count in census.reasons.most_common():
        funnel.add(f"{reason}: left out", census.posts - count, len(census.activity))
        census.posts -= count
    users = _some(regular_users(census.activity, options.rule, funnel), options, census, funnel)
    kept, before = _select(stream, users, known or (lambda _: Planted()), options, funnel)
    require(
        bool(kept), f"no post of {path} is about symptoms or daily life", "give an export of a forum on such things"
    )
    passages = _deidentified(kept, census, options, quiet)
    released, found_scrubbed = _unsearchable(passages, stream, options)
    funnel.add("found by a search of the source: left out", len(released), len({p.user for p in released}))
    require(len({p.user for p in released}) >= 3, "passages of fewer than three users are left", "give a larger export")
    sizes = Counter(p.user for p in released)
    return Built(
        tuple(released),
        tuple(funnel.rows),
        gini(before.values()),
        gini(sizes.values()),
        max(a.posts for a in census.activity.values()) / max(1, usable),
        max(sizes.values()) / len(released),
        found_scrubbed,
        _share_left_out(released),
        losses.words(),
        {user: (census.activity[user].first, census.activity[user].last) for user in sizes},
        time.monotonic() - started,
    )


def _some(users: set[str], options: BuildOptions, census: _Census, funnel: Funnel) -> set[str]:
    """The users, or as many of them as were asked for."""
    if not 0 < options.most_users < len(users):
        return users
    chosen = set(sorted(users, key=lambda user: derive_seed("users", options.seed, user))[: options.most_users])
    funnel.add(f"{options.most_users} users drawn", sum(census.activity[u].posts for u in chosen), len(chosen))
    return chosen


@dataclass(frozen=True)
class _Stream:
    """The export, to be read from its beginning as often as needed."""

    path: Path
    columns: Mapping[str, str]
    quiet: bool

    def posts(self, what: str, losses: Losses | None = None) -> Iterator[Post]:
        """Its posts, with progress by the megabytes of their texts."""
        size = sum(
            f.stat().st_size for f in (self.path.rglob("*.json") if self.path.is_dir() else [self.path]) if f.is_file()
        )
        whole, read = max(1, size // 10**6), 0
        with Progress(what, whole, 0, quiet=self.quiet or whole < 5, unit="MB") as progress:
            for number, post in enumerate(read_posts(self.path, self.columns, losses), start=1):
                yield post
                read += len(post.text)
                if number % 2000 == 0:
                    progress.update(min(read // 10**6, whole - 1), {})


def _count(stream: _Stream, losses: Losses) -> _Census:
    census, seen = _Census(), set[int]()
    census.lexicon.extra = frozenset(MEDICINES | SYMPTOMS)
    for post in stream.posts("counting", losses):
        census.posts += 1
        who = census.activity.setdefault(post.user, Activity())
        text = clean(post.text).text
        reason = unusable(text) or ("too long" if text.count(" ") > MOST_WORDS else None)
        if reason is None:
            mark = fingerprint(text)
            reason = "copy" if mark in seen else None
            seen.add(mark)
            who.copies += reason is not None
        if reason:
            census.reasons[reason] += 1
            who.staff = who.staff or post.staff
            continue
        who.add(post)
        census.lexicon.add(text, post.user)
    return census


def _select(
    stream: _Stream, users: set[str], known: Callable[[str], Planted], options: BuildOptions, funnel: Funnel
) -> tuple[list[Passage], Counter[str]]:
    """Posts of the regular users on the subject, a few of each; and how many each user had before the cap."""
    capped, seen = CappedPosts(options.rule.cap, options.seed), set[int]()
    relevant: Counter[str] = Counter()
    for post in stream.posts("selecting"):
        if post.user not in users:
            continue
        planted = known(post.id)
        spans = [*planted.answers, *(Span(f.start, f.end) for f in planted.personal)]
        text, moved = clean(post.text, spans)
        if (
            unusable(text)
            or text.count(" ") > MOST_WORDS
            or (mark := fingerprint(text)) in seen
            or not is_relevant(text)
        ):
            continue
        seen.add(mark)
        relevant[post.user] += 1
        if is_crisis(text):
            continue
        cut = len(planted.answers)
        personal = tuple(
            Found(span.start, span.end, f.kind)
            for f, span in zip(planted.personal, moved[cut:], strict=True)
            if span is not None
        )
        capped.add(post.user, post.id, Passage(post.id, post.user, post.thread, text, personal, moved[:cut]))
    kept = capped.items()
    funnel.add("about symptoms or daily life", relevant.total(), len(relevant))
    funnel.add("words of someone in danger: left out", capped.seen.total(), len(capped.seen))
    funnel.add(f"at most {options.rule.cap} a user", len(kept), len(capped.kept))
    order = np.random.default_rng(derive_seed("release order", options.seed)).permutation(len(kept))
    return [kept[i] for i in order], relevant


def _deidentified(kept: Sequence[Passage], census: _Census, options: BuildOptions, quiet: bool) -> list[Passage]:
    """Two rounds over the passages: first every name is learned, then taken out wherever its user or thread has it."""
    finders: list[Finder] = [CueFinder(census.lexicon, census.activity)]
    if options.deidentifier == "presidio":
        finders.append(PresidioFinder(census.lexicon))
    machine = Deidentifier(finders, census.lexicon)
    first = []
    with Progress("de-identifying", len(kept), 0, quiet=quiet, unit="posts") as progress:
        for number, passage in enumerate(kept, start=1):
            first.append(machine.learn(passage.cleaned, _scopes(passage)))
            progress.update(number, {})
    made = []
    for passage, found in zip(kept, first, strict=True):
        every = machine.find(passage.cleaned, found, _scopes(passage))
        text, answers = scrub(passage.cleaned, every, passage.answers)
        made.append(replace(passage, found=tuple(every), text=text, answers=answers))
    return made


def _scopes(passage: Passage) -> list[str]:
    return [f"user {passage.user}", *([f"thread {passage.thread}"] if passage.thread else [])]


def _unsearchable(passages: Sequence[Passage], stream: _Stream, options: BuildOptions) -> tuple[list[Passage], int]:
    """Passages that share no run of words with any post; and how many would be found if only de-identified."""
    n = options.search_words
    made = [_obscured(p, [[word for word, _, _ in tokens(p.cleaned)]], n, options.seed) for p in passages]
    scrubbed = 0
    for round_ in range(ROUNDS):
        lookup = Lookup([p.text for p in made], n)
        plain = Lookup([p.text for p in passages], n) if round_ == 0 else None
        for post in stream.posts("searching"):
            for text in dict.fromkeys((post.text, clean(post.text).text)):
                lookup.search(text)
                if plain:
                    plain.search(text)
        if plain:
            scrubbed = len(plain.found)
        if round_ + 1 < ROUNDS:
            made = [_obscured(p, lookup.found.get(i, ()), n, options.seed) for i, p in enumerate(made)]
    return [p for i, p in enumerate(made) if i not in lookup.found], scrubbed


def leaks(
    texts: Sequence[str], path: Path, n: int, columns: Mapping[str, str] | None = None
) -> dict[int, set[tuple[str, ...]]]:
    """The re-identification search on its own: number of a text -> its runs of n words that some post of the export has."""
    lookup = Lookup(texts, n)
    for post in _Stream(path, columns or {}, True).posts("searching"):
        for text in dict.fromkeys((post.text, clean(post.text).text)):
            lookup.search(text)
    return lookup.found


def _obscured(passage: Passage, sources: Sequence[Sequence[str]] | set[tuple[str, ...]], n: int, seed: int) -> Passage:
    text, answers = obscure(passage.text, sources, n, derive_seed(seed, passage.source), passage.answers)
    return replace(passage, text=text, answers=answers)


def _share_left_out(passages: Sequence[Passage]) -> float:
    words = sum(len(tokens(p.text)) for p in passages)
    return sum(p.text.count(LEFT_OUT) for p in passages) / max(1, words)


QUASI: Mapping[str, Sequence[Level]] = {
    "age": (band(10), band(20), hidden),
    "since": (prefix(4), hidden),
    "passages": (band(4), hidden),
}
"""Quasi-identifiers of the released table of users, and how each gives way."""


def user_table(built: Built, salt: bytes, k: int) -> tuple[str, int]:
    """The released table of users as CSV: pseudonym, age, active since, passages; k-anonymous. And how many rows are hidden."""
    sizes = Counter(p.user for p in built.passages)
    rows = [
        {
            "user": user_hash(user, salt),
            "age": _age([p for p in built.passages if p.user == user]),
            "since": time.strftime("%Y-%m", time.gmtime(first)) if np.isfinite(first := built.months[user][0]) else "",
            "passages": str(count),
        }
        for user, count in sizes.items()
    ]
    made, suppressed = k_anonymous(sorted(rows, key=lambda row: row["user"]), QUASI, k)
    file = io.StringIO()
    writer = csv.DictWriter(file, ["user", *QUASI], lineterminator="\n")
    writer.writeheader()
    writer.writerows(made)
    return file.getvalue(), suppressed


def _age(passages: Sequence[Passage]) -> str:
    """The first age that a user tells, as found in the posts; empty where none is told."""
    for passage in passages:
        for found in passage.found:
            number = re.search(r"\d{2}", passage.cleaned[found.start : found.end]) if found.kind == "AGE" else None
            if number:
                return number[0]
    return ""


def write_user_table(built: Built, salt: bytes, k: int, path: Path) -> int:
    """Write the table of users; how many rows had to be hidden."""
    text, suppressed = user_table(built, salt, k)
    write_atomically(path, text)
    return suppressed

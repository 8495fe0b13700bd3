"""The critics: which candidate pairs may stay, the cheap questions first, with a count and the seconds of each.

f_sem  = 1{ p(x => y) >= .75 and p(y => x) >= .75 }                 (a summary: x => y only)
f_diss = 1{ ROUGE-L(x, y) <= .75 and TED(x, y) >= 4 }               (paraphrases)
f_len  = 1{ |y| < .8 |x| }                                          (summaries; a window for paraphrases, as in the code)
f_num  = 1{ the numbers of x are those of y }                       (a summary: those of y are among those of x)
f_div  : pairs of one context are joined if x_i => x_j or y_i => y_j; per component the pair with the highest
         p(x => y) [+ p(y => x)] stays
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stillhouse.corpus.diversity import best_of_components, components, duplicate_edges
from stillhouse.corpus.numbers import numbers, numbers_agree
from stillhouse.corpus.rouge import rouge_l, words
from stillhouse.corpus.tree_distance import distance_at_least, parse
from stillhouse.methods.impossible.config import Config, CriticName
from stillhouse.methods.impossible.nli import EntailmentCritic


@dataclass(frozen=True)
class Group:
    """Sentences that one context gave, and the pairs among them that are candidates."""

    context: str
    sentences: tuple[str, ...]
    pairs: np.ndarray
    """[pairs, 2] numbers of x and y among the sentences."""


@dataclass(frozen=True)
class Kept:
    """A pair that all critics let pass."""

    x: str
    y: str
    forward: float
    """p(x => y)."""
    backward: float
    """p(y => x)."""
    rouge: float
    group: int
    """Number of its group."""


@dataclass
class Funnel:
    """How many came through each step, in order, and how long it took."""

    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, step: str, count: int, seconds: float = 0.0) -> None:
        """Count more of a step."""
        self.counts[step] = self.counts.get(step, 0) + count
        self.seconds[step] = self.seconds.get(step, 0.0) + seconds

    def merge(self, other: Funnel) -> Funnel:
        """Both together; the order of steps is this one's, then the other's."""
        made = Funnel(dict(self.counts), dict(self.seconds))
        for step, count in other.counts.items():
            made.add(step, count, other.seconds.get(step, 0.0))
        return made

    def words(self) -> str:
        """The funnel in a line."""
        return " -> ".join(f"{step} {count:,}" for step, count in self.counts.items())

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"counts": self.counts, "seconds": self.seconds}


def candidate_pairs(sentences: int, *, both_ways: bool) -> np.ndarray:
    """[pairs, 2] all pairs of different sentences: unordered where a pair must hold both ways, else in both orders."""
    first, second = np.triu_indices(sentences, 1)
    pairs = np.stack([first, second], axis=1)
    return pairs if both_ways else np.concatenate([pairs, pairs[:, ::-1]])


@dataclass
class _Flat:
    """The groups of a shard as one list of sentences and pairs."""

    sentences: list[str]
    pairs: np.ndarray
    group: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    rouge: np.ndarray

    def keep(self, index: np.ndarray) -> None:
        self.pairs, self.group = self.pairs[index], self.group[index]
        self.forward, self.backward, self.rouge = self.forward[index], self.backward[index], self.rouge[index]


def _flatten(groups: Sequence[Group]) -> _Flat:
    sentences: list[str] = []
    pairs = []
    for group in groups:
        pairs.append(np.asarray(group.pairs, np.int64).reshape(-1, 2) + len(sentences))
        sentences += group.sentences
    flat = np.concatenate(pairs) if pairs else np.zeros((0, 2), np.int64)
    owner = np.repeat(np.arange(len(groups)), [len(p) for p in pairs])
    nothing = np.full(len(flat), np.nan)
    return _Flat(sentences, flat, owner, nothing, nothing.copy(), nothing.copy())


def judge_pairs(groups: Sequence[Group], config: Config, critic: EntailmentCritic) -> tuple[list[Kept], Funnel]:
    """The pairs of these groups that pass, and the funnel. Near-duplicates are looked for later, over the whole set."""
    flat, funnel = _flatten(groups), Funnel()
    funnel.add("candidate pairs", len(flat.pairs))
    questions: tuple[tuple[CriticName, Callable[[_Flat], np.ndarray]], ...] = (
        ("length", lambda f: _lengths_fit(f, config)),
        ("numbers", lambda f: _numbers_agree(f, config.both_ways)),
        ("rouge", lambda f: _unlike(f, config.most_rouge)),
        ("entailment", lambda f: _entailed(f, config, critic)),
        ("tree", lambda f: _built_otherwise(f, config.least_tree_distance)),
    )
    for name, passes in questions:
        if config.has(name):
            with _timed(funnel, name, flat):
                flat.keep(np.flatnonzero(passes(flat)))
    if config.has("diversity"):
        with _timed(funnel, "diversity", flat):
            flat.keep(_diverse(flat, config, critic))
    kept = zip(flat.pairs.tolist(), flat.forward, flat.backward, flat.rouge, flat.group, strict=True)
    rows = [
        Kept(flat.sentences[x], flat.sentences[y], _known(f), _known(b), _known(r), int(g))
        for (x, y), f, b, r, g in kept
    ]
    return rows, funnel


def _known(value: float) -> float:
    return round(float(value), 4)


@contextmanager
def _timed(funnel: Funnel, step: str, flat: _Flat) -> Iterator[None]:
    started = time.perf_counter()
    yield
    funnel.add(step, len(flat.pairs), time.perf_counter() - started)


def _used(flat: _Flat) -> list[int]:
    return np.unique(flat.pairs).tolist()


def _lengths_fit(flat: _Flat, config: Config) -> np.ndarray:
    lengths = np.array([len(text) for text in flat.sentences], float)
    share = lengths[flat.pairs[:, 1]] / lengths[flat.pairs[:, 0]]
    if config.task == "summary":
        return share < config.summary_length
    low, high = config.paraphrase_length
    return (share >= low) & (share <= high)


def _numbers_agree(flat: _Flat, both_ways: bool) -> np.ndarray:
    found = {i: numbers(flat.sentences[i]) for i in _used(flat)}
    return np.array([numbers_agree(found[x], found[y], both_ways=both_ways) for x, y in flat.pairs.tolist()], bool)


def _unlike(flat: _Flat, most: float) -> np.ndarray:
    found = {i: words(flat.sentences[i]) for i in _used(flat)}
    flat.rouge = np.array([rouge_l(found[x], found[y]) for x, y in flat.pairs.tolist()], float)
    return flat.rouge <= most


def _entailed(flat: _Flat, config: Config, critic: EntailmentCritic) -> np.ndarray:
    """One direction first; the other only for those that passed."""
    flat.forward = _probabilities(flat, flat.pairs, critic)
    passed = flat.forward >= config.entailment
    if config.both_ways:
        back = np.flatnonzero(passed)
        flat.backward = np.full(len(flat.pairs), np.nan)
        flat.backward[back] = _probabilities(flat, flat.pairs[back][:, ::-1], critic)
        passed[back] = flat.backward[back] >= config.entailment
    return passed


def _probabilities(flat: _Flat, pairs: np.ndarray, critic: EntailmentCritic) -> np.ndarray:
    return critic.entailment([flat.sentences[i] for i in pairs[:, 0]], [flat.sentences[i] for i in pairs[:, 1]])


def _built_otherwise(flat: _Flat, least: int) -> np.ndarray:
    used = _used(flat)
    trees = dict(zip(used, parse([flat.sentences[i] for i in used]), strict=True))
    return np.array([distance_at_least(trees[x], trees[y], least) for x, y in flat.pairs.tolist()], bool)


def _diverse(flat: _Flat, config: Config, critic: EntailmentCritic) -> np.ndarray:
    """Places of the best pair of every component of every group."""
    if not len(flat.pairs):
        return np.zeros(0, np.int64)
    if np.isnan(flat.forward).any():
        flat.forward = _probabilities(flat, flat.pairs, critic)
    score = flat.forward + np.nan_to_num(flat.backward)
    stay: list[int] = []
    for group in np.unique(flat.group):
        here = np.flatnonzero(flat.group == group)
        number = {old: new for new, old in enumerate(np.unique(flat.pairs[here]).tolist())}
        local = [(number[x], number[y]) for x, y in flat.pairs[here].tolist()]
        edges = duplicate_edges(
            local, _entailment_matrix([flat.sentences[i] for i in number], config.entailment, critic)
        )
        stay += here[best_of_components(components(edges, len(local)), score[here])].tolist()
    return np.array(stay, np.int64)


def _entailment_matrix(sentences: list[str], threshold: float, critic: EntailmentCritic) -> np.ndarray:
    """[n, n] whether a entails b."""
    n = len(sentences)
    first, second = np.nonzero(~np.eye(n, dtype=bool))
    entails = np.eye(n, dtype=bool)
    entails[first, second] = (
        critic.entailment([sentences[i] for i in first], [sentences[j] for j in second]) > threshold
    )
    return entails

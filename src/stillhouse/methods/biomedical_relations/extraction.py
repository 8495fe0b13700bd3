"""From documents to evidence with a trained extractor, and from evidence to a graph: streaming, resumable, nothing twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stillhouse.core.errors import require
from stillhouse.core.files import content_hash, read_json, write_json
from stillhouse.knowledge.documents import Counts, Document
from stillhouse.knowledge.edges import Evidence, evidence_of
from stillhouse.knowledge.pairs import NONE, Pair, candidate_pairs
from stillhouse.knowledge.store import Graph
from stillhouse.methods.biomedical_relations.classical import Forest, Linear
from stillhouse.methods.biomedical_relations.encoder import Encoder
from stillhouse.methods.biomedical_relations.evaluation import tempered
from stillhouse.methods.biomedical_relations.generative import Generative
from stillhouse.methods.biomedical_relations.rules import Rules

DOCUMENTS_AT_ONCE = 32
"""Documents whose pairs are classified together, and loaded in one transaction."""


class Extractor(Protocol):
    """Gives every pair a probability for every relation."""

    kind: str
    parameters: int

    def predict(self, pairs: Sequence[Pair], /) -> np.ndarray: ...

    def save(self, folder: Path, /) -> None: ...


@dataclass(frozen=True)
class About:
    """What an extractor was trained for; beside its weights as about.json."""

    kind: str
    relations: tuple[str, ...]
    allowed: tuple[tuple[str, ...], ...]
    """Pairs of types that it knows."""
    temperature: float
    """Of its calibration."""
    threshold: float
    deny: bool
    """Whether a negation cue makes a sentence speak against an edge (chosen on the select split)."""
    max_tokens: int
    blind: bool
    data: str


class Extraction:
    """A trained extractor with all that is needed to read documents with it."""

    def __init__(self, extractor: Extractor, about: About) -> None:
        self.extractor, self.about = extractor, about
        self.name = f"{about.kind} ({about.data})"
        self._allowed = frozenset(frozenset(pair) for pair in about.allowed)

    def allows(self, one: str, two: str) -> bool:
        """Whether two types can be related; all can where the training corpus has no types."""
        return not self._allowed or frozenset((one, two)) in self._allowed

    def probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        """[pairs, relations] calibrated probabilities."""
        return (
            tempered(self.extractor.predict(pairs), self.about.temperature)
            if len(pairs)
            else np.zeros((0, len(self.about.relations)))
        )

    def evidence(self, documents: Sequence[Document], counts: Counts | None = None) -> list[Evidence]:
        """What the documents say, in the order of the texts."""
        pairs = [p for d in documents for p in candidate_pairs(d, self.allows, counts)]
        return self.of_pairs(pairs)

    def of_pairs(self, pairs: Sequence[Pair]) -> list[Evidence]:
        """Evidence where the likeliest relation is one and reaches the threshold."""
        told = self.probabilities(pairs)
        found = []
        for pair, shares in zip(pairs, told, strict=True):
            c = int(shares.argmax())
            relation = self.about.relations[c]
            if relation != NONE and shares[c] >= self.about.threshold:
                one = evidence_of(pair, relation, float(shares[c]), self.name)
                found.append(one if self.about.deny else replace(one, negated=False))
        return found

    @property
    def key(self) -> str:
        """Changes with what the extractor is."""
        return content_hash([repr(self.about), str(self.extractor.parameters)])

    def save(self, folder: Path) -> None:
        """Weights and about.json."""
        self.extractor.save(folder)
        write_json(folder / "about.json", asdict(self.about))


def load_extraction(folder: Path) -> Extraction:
    """An extractor that a run has saved.

    Raises:
        UserError: there is none; says which there are beside it.
    """
    near = sorted(f.parent.name for f in folder.parent.glob("*/about.json"))
    hint = (
        f"there are: {', '.join(near)}"
        if near
        else "give a run's model folder, or make one with: stillhouse run biomedical_relations"
    )
    require((folder / "about.json").is_file(), f"no extractor in {folder}", hint)
    raw = read_json(folder / "about.json")
    allowed = tuple(tuple(pair) for pair in raw.pop("allowed"))
    about = About(**{**raw, "relations": tuple(raw["relations"]), "allowed": allowed})
    return Extraction(_LOADERS[about.kind](folder, about), about)


_LOADERS: Mapping[str, Callable[[Path, About], Extractor]] = {
    "rules": lambda folder, about: Rules.load(folder),
    "naive_bayes": lambda folder, about: Linear.load(folder, about.kind),
    "linear": lambda folder, about: Linear.load(folder, about.kind),
    "random_forest": lambda folder, about: Forest.load(folder),
    "generative": lambda folder, about: Generative.load(folder, about.relations, about.max_tokens, about.blind),
    "encoder": lambda folder, about: Encoder.load(folder, about.kind, about.max_tokens, about.blind),
    "labels_only": lambda folder, about: Encoder.load(folder, about.kind, about.max_tokens, about.blind),
    "student": lambda folder, about: Encoder.load(folder, about.kind, about.max_tokens, about.blind),
}


@dataclass
class Built:
    """What a build has done so far."""

    documents: int = 0
    already: int = 0
    """Documents that the graph had before."""
    evidence: int = 0
    new: int = 0
    seconds: float = 0.0


def build(
    documents: Iterable[Document],
    extraction: Extraction,
    graph: Graph,
    counts: Counts,
    seen: Callable[[Built], None] = lambda _: None,
) -> Built:
    """Read documents into the graph, DOCUMENTS_AT_ONCE in a transaction. Done again, or after a kill, it goes on where it was."""
    done = Built()
    started = time.monotonic()
    for batch in _batches(documents):
        keys = {d.id: content_hash([d.text, repr(d.mentions), extraction.key]) for d in batch}
        fresh = [d for d in batch if not graph.loaded(d.id, keys[d.id])]
        found = extraction.evidence(fresh, counts)
        done.new += graph.load({d.id: keys[d.id] for d in fresh}, found) if fresh else 0
        done.documents += len(fresh)
        done.already += len(batch) - len(fresh)
        done.evidence += len(found)
        done.seconds = time.monotonic() - started
        seen(done)
    return done


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    stream = iter(documents)
    while batch := list(islice(stream, DOCUMENTS_AT_ONCE)):
        yield batch


def describe(values: Mapping[str, Any]) -> str:
    """ "12 concepts, 5 edges"."""
    return ", ".join(f"{value:,} {name}" for name, value in values.items())

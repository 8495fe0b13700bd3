"""The text that teacher and student are pre-trained on, and the held-out inputs that everything is judged on.

`everyday` is a grammar whose facts are known, so there references are other wordings of the same fact and "means the same" can be
checked. Other text has no references: there an output's likeness to its input and the critic say what can be said.
"""

from __future__ import annotations

import gzip
import json
import random as python_random
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.errors import UserError, require
from stillhouse.core.files import content_hash
from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.everyday import (
    Fact,
    everyday_stories,
    held_out_facts,
    labelled_pairs,
    read_fact,
    say,
    wordings,
)
from stillhouse.corpus.sentences import fault, split_sentences
from stillhouse.methods.impossible.config import Config, Task
from stillhouse.methods.impossible.nli import LabelledPairs

REFERENCES = 4
MEDQUAD = PublicFile(
    "medquad/medquad.jsonl.gz",
    "https://github.com/abachaa/MedQuAD, its XML converted to a JSON object a line with the fields collection and answer",
    "8298fc6f78602207afb75f8695c1bf95ac30a683e9d774e57bd24cfa2a8e257f",
)
WIKITEXT = PublicFile("wikitext2_small/valid.txt", "the validation part of wikitext-2 (raw)")


@dataclass(frozen=True)
class Exam:
    """Held-out inputs, and references where there are any."""

    inputs: tuple[str, ...]
    references: tuple[tuple[str, ...], ...] | None
    """Other wordings of the same fact (or shorter ones that follow from it); None where nothing is known."""


@dataclass(frozen=True)
class Domain:
    """A text and its exams."""

    name: str
    licence: str
    documents: tuple[tuple[str, ...], ...]
    """Training documents, as sentences."""
    select: Exam
    report: Exam

    @property
    def sentences(self) -> list[str]:
        """All training sentences."""
        return [sentence for document in self.documents for sentence in document]

    @property
    def hash(self) -> str:
        """Changes with any training sentence."""
        return content_hash(["\n".join(document) for document in self.documents])


def load_domain(config: Config) -> Domain:
    """The text of a config.

    Raises:
        UserError: no such text, or nothing in it can be used.
    """
    return _loaded(config.data, config.stories, config.judged, config.task)


@lru_cache(maxsize=2)
def _loaded(data: str, stories: int, judged: int, task: Task) -> Domain:
    if data == "everyday":
        return _everyday(stories or 6000, judged, task)
    if data in NAMED:
        licence, read = NAMED[data]
        return _from_documents(data, licence, read(), stories, judged)
    path = Path(data).expanduser()
    require(path.is_file(), f"no data {data!r}", f"give a .txt file or one of everyday, {', '.join(NAMED)}")
    return _from_documents(path.name, "as the file's", _paragraphs(path), stories, judged)


def _everyday(stories: int, judged: int, task: Task) -> Domain:
    made = everyday_stories(stories)
    return Domain(
        "everyday", "made by stillhouse", made.texts, *(_exam(part, judged, task) for part in ("select", "report"))
    )


def _exam(split: str, count: int, task: Task) -> Exam:
    random = np.random.default_rng(derive_seed("exam", split))
    facts = [fact for fact in held_out_facts(split, 4 * count) if task == "paraphrase" or fact.adjuncts][:count]
    inputs = tuple(say(fact, random) for fact in facts)
    references = tuple(
        tuple(text for text in wordings(_asked(fact, task, random), REFERENCES + 1, random) if text != said)[
            :REFERENCES
        ]
        for fact, said in zip(facts, inputs, strict=True)
    )
    return Exam(inputs, references)


def _asked(fact: Fact, task: Task, random: np.random.Generator) -> Fact:
    """What the reference says: the fact, or for a summary the fact without its adjuncts."""
    if task == "summary":
        for slot in fact.adjuncts:
            fact = fact.without(slot)
    return fact


def _from_documents(name: str, licence: str, documents: Sequence[str], most: int, judged: int) -> Domain:
    """Documents split 80 / 10 / 10 by a hash of their text, cut into finished sentences."""
    parts: dict[str, list[tuple[str, ...]]] = {"train": [], "select": [], "report": []}
    for document in dict.fromkeys(documents):
        sentences = tuple(s for s in split_sentences(document) if fault(s) is None and 3 < len(s.split()) < 40)
        place = derive_seed("document", document) % 10
        if sentences:
            parts["train" if place < 8 else "select" if place == 8 else "report"].append(sentences)
    require(
        len(parts["train"]) >= 20,
        f"{name} has {len(parts['train'])} documents with finished sentences",
        "give more text",
    )
    seen = {sentence for document in parts["train"] for sentence in document}
    exams = []
    for part in ("select", "report"):
        found = [s for document in parts[part] for s in document if s not in seen]
        python_random.Random(derive_seed("exam", part)).shuffle(found)
        require(len(found) > 1, f"{name} has no sentence of its own in its {part} part", "give more text")
        exams.append(Exam(tuple(dict.fromkeys(found))[:judged], None))
    return Domain(name, licence, tuple(parts["train"][: most or None]), *exams)


def _paragraphs(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start})", "save it as UTF-8") from error
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def _medquad() -> list[str]:
    with gzip.open(find_public_file(MEDQUAD), "rt", encoding="utf-8") as file:
        return [str(json.loads(line)["answer"]) for line in file]


def _wikitext() -> list[str]:
    text = find_public_file(WIKITEXT).read_text(encoding="utf-8")
    plain = (
        line.replace(" @-@ ", "-").replace(" @,@ ", ",").replace(" ,", ",").replace(" .", ".")
        for line in text.splitlines()
    )
    return [line.strip() for line in plain if line.strip() and not line.strip().startswith("=") and "<unk>" not in line]


def _speeches() -> list[str]:
    file = find_public_file(
        PublicFile("nltk_small/state_union.zip", "https://github.com/nltk/nltk_data, packages/corpora/state_union.zip")
    )
    with zipfile.ZipFile(file) as archive:
        texts = [
            archive.read(name).decode("latin-1")
            for name in sorted(archive.namelist())
            if name.endswith(".txt") and "README" not in name
        ]
    return [" ".join(part.split()) for text in texts for part in text.replace("\r", "").split("\n\n")]


NAMED: Mapping[str, tuple[str, Callable[[], list[str]]]] = {
    "medquad": ("CC-BY-4.0 (MedQuAD)", _medquad),
    "wikitext2": ("CC-BY-SA-3.0 (Wikipedia)", _wikitext),
    "speeches": ("public domain (State of the Union)", _speeches),
}
"""Public text below $STILLHOUSE_DATA: licence and reader."""


def critic_pairs(count: int, split: str = "train", seed: int = 0) -> LabelledPairs:
    """Labelled pairs of the everyday grammar."""
    premises, hypotheses, entailed = labelled_pairs(count, seed, split)
    return LabelledPairs(premises, hypotheses, np.array(entailed))


def truth(x: str, y: str, task: Task) -> bool | None:
    """Whether y says the same as x (or, for a summary, follows from it), where the grammar knows; None where x is not its."""
    first, second = read_fact(x), read_fact(y)
    if first is None:
        return None
    if second is None:
        return False
    return first == second if task == "paraphrase" else first.entails(second)

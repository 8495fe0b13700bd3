"""Pairs to learn from and to be judged on, with splits by document: the built-in abstracts, BioRED, ChemProt, GAD, own files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.errors import UserError, require
from stillhouse.core.files import content_hash, parse_json
from stillhouse.core.seeding import derive_seed
from stillhouse.encoders.data import TextData, Texts
from stillhouse.knowledge.documents import Counts, Document
from stillhouse.knowledge.pairs import NONE, Pair, candidate_pairs, marked
from stillhouse.knowledge.readers import read_documents
from stillhouse.methods.biomedical_relations.planted import make_documents, make_world

NAMED = ("planted", "biored", "chemprot", "gad")
SELECT_SHARE, REPORT_SHARE = 0.15, 0.2
_BIORED = "https://github.com/bengisucam/bc_bioredProject, biored/data/files (PubTator)"
_CHEMPROT = "https://github.com/allenai/scibert, data/text_classification/chemprot"
_GAD = "https://github.com/BioMedBERT/biomedbert, datasets/RE/GAD/1"
FILES = {
    "biored_Train": PublicFile(
        "biored/biored_Train.txt", _BIORED, "57f96059c1dc5b8a738ee0b7ec5254cf38a1cbb50cd12682809cad627f8c6b36"
    ),
    "biored_Dev": PublicFile(
        "biored/biored_Dev.txt", _BIORED, "b648faefe4d8b76029746afbec437f31398ce35d2e691eb734aaac5db5dc5736"
    ),
    "chemprot_train": PublicFile(
        "chemprot/chemprot_train.txt", _CHEMPROT, "ab17b85c4fb869b2338d7c9617414e63f3c7225e5005920b18d9cd996f1049d8"
    ),
    "chemprot_dev": PublicFile(
        "chemprot/chemprot_dev.txt", _CHEMPROT, "bfe8f39e5146ad4bb16b23707dade850546a305047bc666f6f6824c6a7e3df2f"
    ),
    "chemprot_test": PublicFile(
        "chemprot/chemprot_test.txt", _CHEMPROT, "372249c85ffea6d9a18dc5168cf45841b3d79b03412d6c620381cfc0dd3d6d49"
    ),
    "gad_train": PublicFile("gad/train.tsv", _GAD, "21e3765852a13cf03e6e759e201c5ad2d18b10d3ab05a8ac6bd7510f18f68fec"),
    "gad_test": PublicFile("gad/test.tsv", _GAD, "68fe2b2bddefac2cd5d35b4bc8a13bceee95ee9a582a623632981e893cdb512e"),
}


@dataclass(frozen=True)
class Examples:
    """Labelled pairs."""

    pairs: tuple[Pair, ...]
    labels: np.ndarray
    """[pairs] int64, index of each one's relation."""

    def __len__(self) -> int:
        return len(self.pairs)

    def take(self, index: np.ndarray) -> Examples:
        """These pairs, in this order."""
        return Examples(tuple(self.pairs[int(i)] for i in index), self.labels[index])


@dataclass(frozen=True)
class RelationData:
    """A relation extraction task with its three splits, no document in two of them."""

    name: str
    relations: tuple[str, ...]
    """Relation labels; NONE first where the task has pairs without a relation."""
    train: Examples
    select: Examples
    report: Examples
    unlabelled: tuple[Pair, ...]
    """Pairs that nobody labelled, of documents in neither select nor report."""
    documents: tuple[Document, ...] = ()
    """The report split's documents, for judging the graph; none where the corpus is sentences."""
    select_documents: tuple[Document, ...] = ()
    allowed: frozenset[frozenset[str]] = frozenset()
    """Pairs of types that can be related."""
    counts: Counts | None = None
    blind: bool = False
    """Whether names are shown as their types."""

    @property
    def has_none(self) -> bool:
        """Whether a pair may be unrelated."""
        return self.relations[0] == NONE

    def allows(self, one: str, two: str) -> bool:
        """Whether two types can be related."""
        return frozenset((one, two)) in self.allowed

    def texts(self, examples: Examples) -> Texts:
        """Marked sentences as the text encoders take them."""
        return Texts(tuple(marked(p, self.blind) for p in examples.pairs), None, examples.labels)

    def as_text_data(self, train: Examples) -> TextData:
        """The task as text classification, trained on `train`."""
        return TextData(
            self.name, self.relations, self.texts(train), self.texts(self.select), self.texts(self.report), "macro_f1"
        )


def load_data(
    name: str,
    *,
    documents: int = 300,
    labelled_pairs: int = 0,
    unlabelled: int = 300,
    examples: int = 0,
    blind: bool = False,
    seed: int = 0,
) -> RelationData:
    """The task of this name, or of a file or folder of annotated documents.

    Args:
        name: one of NAMED, a file of documents with relations, or a folder of them.
        documents: of the built-in abstracts.
        labelled_pairs: training pairs of them that keep their labels; 0 for all.
        unlabelled: more of them, whose relations are hidden.
        examples: at most this many training pairs; 0 for all.
        blind: show names as their types.
        seed: of the draws of `labelled_pairs` and `examples`; splits never change.

    Raises:
        UserError: no such data, or it has no annotated relation.
    """
    if name == "planted":
        data = planted(documents, unlabelled)
        data = with_examples(data, labelled_pairs, seed) if labelled_pairs else data
    elif name == "biored":
        data = biored()
    elif name == "chemprot":
        data = chemprot()
    elif name == "gad":
        data = gad()
    else:
        require(
            Path(name).exists(),
            f"no data {name!r}",
            f"give a file or folder of annotated documents, or one of {', '.join(NAMED)}",
        )
        data = from_documents(Path(name).stem, *_split_documents(_read(Path(name))))
    if examples:
        data = with_examples(data, examples, seed)
    return replace(data, blind=blind)


def _read(path: Path) -> tuple[list[Document], Counts]:
    counts = Counts()
    found = list(read_documents(path, counts))
    require(
        any(d.relations for d in found),
        f"{path} has no annotated relation",
        "give documents with relations (PubTator, BioC or JSON lines)",
    )
    return found, counts


def planted(documents: int, unlabelled: int) -> RelationData:
    """The built-in abstracts."""
    world = make_world(0)
    made = make_documents(world, documents, 0)
    hidden = make_documents(world, unlabelled, 1)
    (train, select, report), counts = _split_documents((made, Counts()))
    return from_documents("planted", (train, select, report), counts, hidden)


def biored() -> RelationData:
    """BioRED: 400 abstracts to train (and to select), 100 to report; relations of documents, at the pairs of one sentence."""
    train, counts = _read(find_public_file(FILES["biored_Train"]))
    report, _ = _read(find_public_file(FILES["biored_Dev"]))
    kept, select = _part(train, SELECT_SHARE)
    return from_documents("biored", (kept, select, report), counts)


def _part(documents: Sequence[Document], share: float) -> tuple[list[Document], list[Document]]:
    """Documents without and with this share, drawn by seed 0: the same in every run."""
    order = np.random.default_rng(derive_seed("documents", 0)).permutation(len(documents))
    held = set(order[: max(1, round(share * len(documents)))].tolist())
    return [d for i, d in enumerate(documents) if i not in held], [documents[i] for i in sorted(held)]


def _split_documents(
    read: tuple[list[Document], Counts],
) -> tuple[tuple[list[Document], list[Document], list[Document]], Counts]:
    documents, counts = read
    require(len(documents) >= 10, f"{len(documents)} documents are too few to split", "give ten or more")
    rest, report = _part(documents, REPORT_SHARE)
    train, select = _part(rest, SELECT_SHARE / (1 - REPORT_SHARE))
    return (train, select, report), counts


def from_documents(
    name: str,
    splits: tuple[Sequence[Document], Sequence[Document], Sequence[Document]],
    counts: Counts,
    hidden: Sequence[Document] = (),
) -> RelationData:
    """Pairs of every split; which types can be related, and which relations there are, is what the training split shows.

    Raises:
        UserError: select or report has a relation that train has not.
    """
    train, select, report = splits
    allowed = _related_types(train)
    relations = (NONE, *sorted({r.label for d in train for r in d.relations}))
    for part, documents in (("select", select), ("report", report)):
        unknown = sorted({r.label for d in documents for r in d.relations} - set(relations))
        require(
            not unknown,
            f"the relation {unknown[0] if unknown else ''!r} of {name} ({part} split) is unknown in training",
            f"known are: {', '.join(relations)}",
        )

    def examples(documents: Sequence[Document], tally: Counts | None) -> Examples:
        pairs = tuple(p for d in documents for p in _labelled(d, allowed, tally))
        return Examples(pairs, np.array([relations.index(p.label) for p in pairs], np.int64))

    free = tuple(p for d in hidden for p in candidate_pairs(d, lambda a, b: frozenset((a, b)) in allowed))
    parts = examples(train, counts), examples(select, None), examples(report, None)
    return RelationData(name, relations, *parts, free, tuple(report), tuple(select), allowed, counts)


def _related_types(documents: Iterable[Document]) -> frozenset[frozenset[str]]:
    found = set()
    for d in documents:
        types = {concept: m.type for m in d.mentions for concept in m.ids}
        found |= {
            frozenset((types[r.first], types[r.second])) for r in d.relations if r.first in types and r.second in types
        }
    require(
        bool(found), "no relation is between concepts that are mentioned", "ids of relations must be ids of mentions"
    )
    return frozenset(found)


def _labelled(document: Document, allowed: frozenset[frozenset[str]], counts: Counts | None) -> Iterable[Pair]:
    labels = {(r.first, r.second): r.label for r in document.relations}
    return candidate_pairs(document, lambda a, b: frozenset((a, b)) in allowed, counts, labels)


def chemprot() -> RelationData:
    """ChemProt's 13 relations between a chemical and a protein; every pair has one. Sentences stand for documents."""
    parts = [_chemprot_rows(find_public_file(FILES[f"chemprot_{part}"])) for part in ("train", "dev", "test")]
    relations = tuple(sorted({p.label for p in parts[0]}))
    train, select, report = (_indexed("chemprot", rows, relations) for rows in parts)
    return RelationData("chemprot", relations, train, select, report, ())


_MARKED = re.compile(r"<< (.*?) >>|\[\[ (.*?) \]\]")


def _chemprot_rows(file: Path) -> list[Pair]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        raw = parse_json(line)
        text, spans = _without_markers(raw["text"])
        if len(spans) < 2:
            raise UserError(f"{file} line {number} has not two marked entities", "restore the file")
        rows.append(
            Pair(
                content_hash([text]),
                text,
                0,
                spans[0],
                spans[1],
                ("entity", "entity"),
                ("first", "second"),
                raw["label"],
            )
        )
    return rows


def _without_markers(text: str) -> tuple[str, list[tuple[int, int]]]:
    """A sentence without << >> and [[ ]], and where the marked entities are in it."""
    made, spans, last = "", [], 0
    for found in _MARKED.finditer(text):
        made += text[last : found.start()]
        name = found.group(1) or found.group(2) or ""
        spans.append((len(made), len(made) + len(name)))
        made += name
        last = found.end()
    return made + text[last:], spans


def gad() -> RelationData:
    """GAD, fold 1: is a gene associated with a disease? Names are hidden by the corpus itself."""
    relations = (NONE, "associated_with")
    train = _gad_rows(find_public_file(FILES["gad_train"]), 0)
    report = _gad_rows(find_public_file(FILES["gad_test"]), 1)
    # a sentence with several pairs comes several times: it must not be on both sides of the split
    order = sorted({p.document for p in train}, key=lambda d: derive_seed("gad", d))
    held = set(order[: round(SELECT_SHARE * len(order))])
    parts = [p for p in train if p.document not in held], [p for p in train if p.document in held], report
    train_part, select, told = (_indexed("gad", rows, relations) for rows in parts)
    allowed = frozenset({frozenset(("gene", "disease"))})
    return RelationData("gad", relations, train_part, select, told, (), allowed=allowed)


def _gad_rows(file: Path, header: int) -> list[Pair]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()[header:], 1 + header):
        cells = line.split("\t")
        require(
            len(cells) >= 2 and cells[-1].strip() in ("0", "1"),
            f"{file} line {number} has no label 0 or 1",
            "restore the file",
        )
        text = cells[-2].strip('"')
        places = [(text.find(mark), mark) for mark in ("@GENE$", "@DISEASE$")]
        require(min(places)[0] >= 0, f"{file} line {number} has not @GENE$ and @DISEASE$", "restore the file")
        (a, one), (b, two) = sorted(places)
        kinds = {"@GENE$": "gene", "@DISEASE$": "disease"}
        # the masks go, or their signs would be read as markers
        head, middle, tail = text[:a], text[a + len(one) : b], text[b + len(two) :]
        sentence = f"{head}{kinds[one]}{middle}{kinds[two]}{tail}"
        first = (a, a + len(kinds[one]))
        second = (first[1] + len(middle), first[1] + len(middle) + len(kinds[two]))
        stem = content_hash([re.sub(r"\W+|gene|disease", " ", sentence.lower())])
        label = ("none", "associated_with")[int(cells[-1])]
        rows.append(Pair(stem, sentence, 0, first, second, (kinds[one], kinds[two]), (one, two), label))
    return rows


def _indexed(name: str, pairs: Sequence[Pair], relations: Sequence[str]) -> Examples:
    place = {r: i for i, r in enumerate(relations)}
    unknown = next((p.label for p in pairs if p.label not in place), None)
    if unknown is not None:
        raise UserError(
            f"{name} has the relation {unknown!r}, which is not known", f"known are: {', '.join(relations)}"
        )
    return Examples(tuple(pairs), np.array([place[p.label] for p in pairs], np.int64))


def with_examples(data: RelationData, examples: int, seed: int) -> RelationData:
    """The task with at most this many training pairs, drawn from whole documents in a random order; the rest is unlabelled.

    The labels of what is left over are never looked at again.
    """
    train = data.train
    if examples >= len(train):
        return data
    names = list(dict.fromkeys(p.document for p in train.pairs))
    order = np.random.default_rng(derive_seed("examples", seed)).permutation(len(names))
    rank = {names[int(d)]: place for place, d in enumerate(order)}
    by_document = np.argsort([rank[p.document] for p in train.pairs], kind="stable")
    kept, rest = np.sort(by_document[:examples]), by_document[examples:]
    free = tuple(replace(train.pairs[int(i)], label="") for i in np.sort(rest))
    return replace(data, train=train.take(kept), unlabelled=(*data.unlabelled, *free))


def balanced(train: Examples, seed: int) -> Examples:
    """As many pairs of every class as the smallest has (the paper's balanced runs): the rest is left out."""
    counts = np.bincount(train.labels)
    least = int(counts[counts > 0].min())
    random = np.random.default_rng(derive_seed("balanced", seed))
    rows = [random.permutation(np.flatnonzero(train.labels == c))[:least] for c in np.unique(train.labels)]
    return train.take(np.sort(np.concatenate(rows)))

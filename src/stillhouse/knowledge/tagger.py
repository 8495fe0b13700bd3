"""A trained tagger of names: logistic regression on a word and its neighbours, with the tags that may follow one another.

    score(y_1 .. y_n) = sum_t log p(y_t | words around t)        over sequences without I-x behind anything but B-x or I-x

The best sequence is found exactly (Viterbi). Trained on IOB files, a token and its tag a line (BC5CDR, NCBI-disease, BC2GM).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import SGDClassifier

from stillhouse.core.errors import require
from stillhouse.core.files import read_json, write_json
from stillhouse.knowledge.documents import Document, Mention, canonical_type
from stillhouse.knowledge.sentences import split_sentences

COLUMNS = 2**17
"""Of the hashed features: rare ones share a column."""
_TOKEN = re.compile(r"[^\W_]+|[^\w\s]|_")

Sentence = list[tuple[str, str]]
"""(token, tag) of every token."""


def read_iob(file: Path) -> list[Sentence]:
    """Sentences of a file with a token and its tag a line, an empty line between sentences.

    Raises:
        UserError: no such file, or a line without a tag; names it.
    """
    require(
        file.is_file(), f"no file {file}", "give a file with a token, a tab and a tag (B-Disease, I-Disease, O) a line"
    )
    sentences: list[Sentence] = [[]]
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
        cells = line.split("\t")
        if not line.strip():
            sentences.append([])
            continue
        right = len(cells) >= 2 and (cells[-1] == "O" or cells[-1][:2] in ("B-", "I-"))
        require(right, f"{file} line {number} has no tag: {line[:40]!r}", "a line is a token, a tab, and B-x, I-x or O")
        sentences[-1].append((cells[0], cells[-1]))
    return [s for s in sentences if s]


def shape(word: str) -> str:
    """Capitals, small letters, digits and signs, runs shortened: "BRCA1" is "A0"."""
    kinds = "".join("A" if c.isupper() else "a" if c.islower() else "0" if c.isdigit() else c for c in word)
    return re.sub(r"(.)\1+", r"\1", kinds)


def features(words: Sequence[str], place: int) -> list[str]:
    """What is told of a word: itself, its beginnings and ends, its shape, and two neighbours on either side."""
    word = words[place]
    low = word.lower()
    made = [
        f"w={low}",
        f"s={shape(word)}",
        *(f"p{n}={low[:n]}" for n in (2, 3, 4)),
        *(f"e{n}={low[-n:]}" for n in (2, 3, 4, 5)),
    ]
    for step in (-2, -1, 1, 2):
        near = words[place + step] if 0 <= place + step < len(words) else "|"
        made += [f"{step}w={near.lower()}", f"{step}s={shape(near)}"]
    if place + 1 < len(words):
        made.append(f"2={low} {words[place + 1].lower()}")
    if place:
        made.append(f"-2={words[place - 1].lower()} {low}")
    return made


def best_sequence(scores: np.ndarray, tags: Sequence[str]) -> list[int]:
    """The likeliest tags of a sentence in which no I-x comes first or behind another kind.

    Args:
        scores: [tokens, tags] log-probabilities.
        tags: their names.
    """
    follows = np.array([[0.0 if may_follow(one, two) else -1e9 for two in tags] for one in tags])
    best = scores[0] + np.array([0.0 if may_follow("O", tag) else -1e9 for tag in tags])
    back = np.zeros(scores.shape, int)
    for t in range(1, len(scores)):
        options = best[:, None] + follows
        back[t] = options.argmax(0)
        best = options.max(0) + scores[t]
    way = [int(best.argmax())]
    for t in range(len(scores) - 1, 0, -1):
        way.append(int(back[t, way[-1]]))
    return way[::-1]


def may_follow(one: str, two: str) -> bool:
    """Whether a tag may come behind another."""
    return not two.startswith("I-") or one[2:] == two[2:]


class Tagger:
    """Weights [columns, tags] and biases of the logistic regression."""

    def __init__(self, tags: Sequence[str], weights: np.ndarray, bias: np.ndarray) -> None:
        self.tags, self.weights, self.bias = tuple(tags), weights, bias

    def tag(self, words: Sequence[str]) -> list[str]:
        """The tags of a sentence's tokens."""
        if not words:
            return []
        rows = _hashed([features(words, i) for i in range(len(words))])
        scores = np.asarray(rows @ self.weights) + self.bias
        scores = (
            scores
            - np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1, keepdims=True))
            - scores.max(1, keepdims=True)
        )
        return [self.tags[i] for i in best_sequence(scores, self.tags)]

    def read(self, document: Document) -> Document:
        """The document with the mentions that the tagger finds in it, without concepts."""
        found: list[Mention] = []
        for start, end in split_sentences(document):
            places = [(start + m.start(), start + m.end()) for m in _TOKEN.finditer(document.text[start:end])]
            tags = self.tag([document.text[a:b] for a, b in places])
            found += [
                Mention(((places[i][0], places[j - 1][1]),), canonical_type(kind)) for i, j, kind in spans_of(tags)
            ]
        return replace(document, mentions=tuple(found))

    def save(self, folder: Path) -> None:
        """Weights and tags."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {"weights": np.ascontiguousarray(self.weights, np.float32), "bias": self.bias.astype(np.float32)},
            folder / "tagger.safetensors",
        )
        write_json(folder / "tagger.json", {"tags": self.tags})

    @classmethod
    def load(cls, folder: Path) -> Tagger:
        """What `save` wrote.

        Raises:
            UserError: there is no tagger in the folder.
        """
        require(
            (folder / "tagger.json").is_file(),
            f"no tagger in {folder}",
            "train one with: stillhouse kg tagger FILE.tsv --out FOLDER",
        )
        parts = load_file(folder / "tagger.safetensors")
        return cls(read_json(folder / "tagger.json")["tags"], parts["weights"], parts["bias"])


def _hashed(rows: list[list[str]]) -> sparse.csr_matrix:
    return FeatureHasher(COLUMNS, input_type="string", alternate_sign=False, dtype=np.float32).transform(rows)


def train_tagger(sentences: Sequence[Sentence], passes: int = 5, seed: int = 0) -> Tagger:
    """Averaged stochastic gradient descent on the log-loss of every token's tag.

    Raises:
        UserError: no sentence has a tagged name.
    """
    rows, tags = [], []
    for sentence in sentences:
        words = [word for word, _ in sentence]
        rows += [features(words, i) for i in range(len(words))]
        tags += [tag for _, tag in sentence]
    require(len(set(tags)) > 1, "the sentences have no tagged name", "give IOB data with names in it")
    model = SGDClassifier("log_loss", alpha=2e-6, max_iter=passes, tol=None, average=True, random_state=seed)
    model.fit(_hashed(rows), tags)
    weights, bias = model.coef_.T, model.intercept_
    if weights.shape[1] == 1:
        weights, bias = np.hstack([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return Tagger([str(c) for c in model.classes_], weights.astype(np.float32), bias.astype(np.float32))


def spans_of(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """(first token, behind the last, type) of every name."""
    found: list[tuple[int, int, str]] = []
    start = -1
    for i, tag in enumerate([*tags, "O"]):
        if start >= 0 and not tag.startswith("I-"):
            found.append((start, i, tags[start][2:]))
            start = -1
        if tag.startswith("B-"):
            start = i
    return found


def span_f1(tagger: Tagger, sentences: Sequence[Sentence]) -> tuple[float, float, float]:
    """Precision, recall and F1 of whole names of the right type."""
    right = found = annotated = 0
    for sentence in sentences:
        told = set(spans_of(tagger.tag([word for word, _ in sentence])))
        gold = set(spans_of([tag for _, tag in sentence]))
        right, found, annotated = right + len(told & gold), found + len(told), annotated + len(gold)
    precision, recall = right / max(1, found), right / max(1, annotated)
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)

"""Naive Bayes, random forest and logistic regression on words, saved without pickles.

    naive Bayes   argmax_r log p(r) + sum_w n_w log (n_{w,r} + a) / (n_r + a |V|)
    logistic      argmax_r W_r . tfidf(x) + b_r
    forest        mean over trees of the class shares in the leaf that x falls into

A pair's words: those of the sentence in ones and twos; those between the mentions, before and after, each with a mark of where
they are; types, order and distance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB

from stillhouse.core.files import parse_json, write_json
from stillhouse.knowledge.pairs import Pair
from stillhouse.methods.biomedical_relations.data import Examples

MOST_FEATURES = 60_000
FOREST_FEATURES = 4000
"""The forest sees the most frequent ones: it slows down with every column, and trees of rare words do not generalise."""
TREES = 200
SMOOTHING = 0.3
"""a of naive Bayes."""
INVERSE_PENALTY = 10.0
"""C of the logistic regression."""
_WORD = re.compile(r"\w+|[^\w\s]")


def words_of(pair: Pair) -> list[str]:
    """A pair's features, as words."""
    (a, b), (c, d), text = pair.first, pair.second, pair.sentence.lower()
    before, between, after = (_WORD.findall(part) for part in (text[:a], text[b:c], text[d:]))
    whole = [*before, "@1", *between, "@2", *after]
    apart = int(np.searchsorted([1, 2, 4, 8, 16, 32], len(between)))
    return [
        *whole,
        *_twos(whole),
        *(f"between={w}" for w in (*between, *_twos(between))),
        *(f"before={w}" for w in before[-3:]),
        *(f"after={w}" for w in after[:3]),
        f"types={pair.types[0]}-{pair.types[1]}",
        f"apart={apart}",
    ]


def _twos(words: Sequence[str]) -> list[str]:
    return [f"{one} {two}" for one, two in pairwise(words)]


class Vectors:
    """Words -> columns, and the inverse document frequencies."""

    def __init__(self, vocabulary: dict[str, int], idf: np.ndarray) -> None:
        self.vocabulary, self.idf = vocabulary, idf
        self._counter = CountVectorizer(analyzer=words_of, vocabulary=vocabulary, dtype=np.float32)

    @classmethod
    def fit(cls, pairs: Sequence[Pair], least: int = 2, most: int = MOST_FEATURES) -> Vectors:
        """Columns for words of at least `least` pairs."""
        counter = CountVectorizer(analyzer=words_of, min_df=min(least, len(pairs)), max_features=most, dtype=np.float32)
        counts = counter.fit_transform(pairs)
        df = np.asarray((counts > 0).sum(0)).ravel()
        vocabulary = {str(w): int(i) for w, i in counter.vocabulary_.items()}
        return cls(vocabulary, (np.log((1 + len(pairs)) / (1 + df)) + 1).astype(np.float32))

    def counts(self, pairs: Sequence[Pair]) -> sparse.csr_matrix:
        """[pairs, columns] how often each word is there."""
        return self._counter.transform(pairs)

    def tfidf(self, pairs: Sequence[Pair]) -> sparse.csr_matrix:
        """(1 + log n) idf, rows of length 1."""
        found = self.counts(pairs)
        found.data = (1 + np.log(found.data)) * self.idf[found.indices]
        lengths = np.sqrt(np.asarray(found.multiply(found).sum(1)).ravel())
        return sparse.csr_matrix(sparse.diags(1 / np.maximum(lengths, 1e-9)) @ found)


class Linear:
    """softmax(X W + b): naive Bayes on counts or logistic regression on tf-idf."""

    def __init__(self, kind: str, vectors: Vectors, weights: np.ndarray, bias: np.ndarray) -> None:
        self.kind, self.vectors, self.weights, self.bias = kind, vectors, weights, bias
        self.parameters = weights.size + bias.size

    def predict(self, pairs: Sequence[Pair]) -> np.ndarray:
        """[pairs, relations] probabilities."""
        rows = self.vectors.counts(pairs) if self.kind == "naive_bayes" else self.vectors.tfidf(pairs)
        return softmax(rows @ self.weights + self.bias)

    def save(self, folder: Path) -> None:
        """Write weights and vocabulary."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = {
            "weights": self.weights.astype(np.float32),
            "bias": self.bias.astype(np.float32),
            "idf": self.vectors.idf,
        }
        save_file(parts, folder / "linear.safetensors", {"kind": self.kind})
        write_json(folder / "vocabulary.json", self.vectors.vocabulary)

    @classmethod
    def load(cls, folder: Path, kind: str) -> Linear:
        """What `save` wrote."""
        parts = load_file(folder / "linear.safetensors")
        return cls(kind, Vectors(_vocabulary(folder), parts["idf"]), parts["weights"], parts["bias"])


class Forest:
    """Decision trees as flat arrays, one tree after the other."""

    kind = "random_forest"

    def __init__(self, vectors: Vectors, arrays: dict[str, np.ndarray]) -> None:
        self.vectors, self.arrays = vectors, arrays
        self.parameters = int(sum(a.size for name, a in arrays.items() if name != "roots"))

    def predict(self, pairs: Sequence[Pair], chunk: int = 512) -> np.ndarray:
        """[pairs, relations] probabilities."""
        rows = self.vectors.tfidf(pairs)
        return np.concatenate(
            [self._dense(rows[i : i + chunk].toarray()) for i in range(0, len(pairs), chunk)]
            or [np.zeros((0, self.arrays["values"].shape[1]))]
        )

    def _dense(self, rows: np.ndarray) -> np.ndarray:
        a, index = self.arrays, np.arange(len(rows))[:, None]
        at = np.tile(a["roots"], (len(rows), 1))  # [rows, trees], all trees walked at once
        while True:
            inner = a["left"][at] >= 0
            if not inner.any():
                return a["values"][at].mean(1)
            goes_left = rows[index, a["feature"][at]] <= a["threshold"][at]
            at = np.where(inner, np.where(goes_left, a["left"][at], a["right"][at]), at)

    def save(self, folder: Path) -> None:
        """Write trees and vocabulary."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({**self.arrays, "idf": self.vectors.idf}, folder / "forest.safetensors")
        write_json(folder / "vocabulary.json", self.vectors.vocabulary)

    @classmethod
    def load(cls, folder: Path) -> Forest:
        """What `save` wrote."""
        arrays = load_file(folder / "forest.safetensors")
        idf = arrays.pop("idf")
        return cls(Vectors(_vocabulary(folder), idf), arrays)


def _vocabulary(folder: Path) -> dict[str, int]:
    made: dict[str, int] = parse_json((folder / "vocabulary.json").read_text(encoding="utf-8"))
    return made


def softmax(scores: np.ndarray) -> np.ndarray:
    """Rows of positive numbers with sum 1."""
    shares = np.exp(scores - scores.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def train_naive_bayes(train: Examples, classes: int) -> Linear:
    """Multinomial naive Bayes on counts."""
    vectors = Vectors.fit(train.pairs)
    model = MultinomialNB(alpha=SMOOTHING).fit(vectors.counts(train.pairs), train.labels)
    weights, bias = _whole(model.feature_log_prob_.T, model.class_log_prior_, model.classes_, classes)
    return Linear("naive_bayes", vectors, weights, bias)


def train_logistic(train: Examples, classes: int, seed: int) -> Linear:
    """Multinomial logistic regression on tf-idf."""
    vectors = Vectors.fit(train.pairs)
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=300, random_state=seed)
    model.fit(vectors.tfidf(train.pairs), train.labels)
    weights, bias = model.coef_.T, model.intercept_
    if weights.shape[1] == 1:  # two classes: one column, the second class's
        weights, bias = np.hstack([np.zeros_like(weights), weights]), np.concatenate([np.zeros(1), bias])
    return Linear("linear", vectors, *_whole(weights, bias, model.classes_, classes))


def _whole(weights: np.ndarray, bias: np.ndarray, present: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns for all classes; those that training does not have are never chosen."""
    full, base = np.zeros((len(weights), classes)), np.full(classes, -1e4)
    full[:, present], base[present] = weights, bias
    return full, base


def train_forest(train: Examples, classes: int, seed: int, trees: int = TREES) -> Forest:
    """Random forest on tf-idf, classes weighted by their rareness."""
    vectors = Vectors.fit(train.pairs, most=FOREST_FEATURES)
    model = RandomForestClassifier(trees, class_weight="balanced_subsample", min_samples_leaf=2, random_state=seed)
    model.fit(vectors.tfidf(train.pairs), train.labels)
    return Forest(vectors, _flattened(model, classes))


def _flattened(model: Any, classes: int) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {"left": [], "right": [], "feature": [], "threshold": [], "values": []}
    roots, start = [], 0
    for one in model.estimators_:
        tree = one.tree_
        inner = tree.children_left >= 0
        parts["left"].append(np.where(inner, tree.children_left + start, -1))
        parts["right"].append(np.where(inner, tree.children_right + start, -1))
        parts["feature"].append(np.where(inner, tree.feature, 0))
        parts["threshold"].append(tree.threshold)
        values = np.zeros((tree.node_count, classes), np.float32)
        shares = tree.value[:, 0, :]
        values[:, model.classes_.astype(int)] = shares / shares.sum(1, keepdims=True)
        parts["values"].append(values)
        roots.append(start)
        start += tree.node_count
    made = {name: np.concatenate(found) for name, found in parts.items()}
    small = {name: made[name].astype(np.int32) for name in ("left", "right", "feature")}
    # thresholds lie between two float32 values: rounded to float32 they must not move past the lower one
    return {
        **small,
        "threshold": made["threshold"].astype(np.float64),
        "values": made["values"],
        "roots": np.array(roots, np.int32),
    }

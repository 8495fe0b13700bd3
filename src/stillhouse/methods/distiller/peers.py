"""What a student has to beat: no encoder at all, and the teacher's frozen embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from transformers import PreTrainedModel

from stillhouse.encoders.batches import Items, assemble, ordered_batches
from stillhouse.encoders.data import TextData, Texts
from stillhouse.encoders.models import forward
from stillhouse.encoders.training import score

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Inverse regularisations tried; the best on the select split counts."""


def majority(data: TextData) -> float:
    """Score of always answering the most frequent training class."""
    most = int(np.bincount(data.train.labels).argmax())
    return score(data.metric, data.report.labels, np.full(len(data.report), most))


def tfidf_regression(data: TextData) -> tuple[float, int]:
    """Logistic regression on tf-idf of words and pairs of words (of both texts of a pair); score and parameters."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    vectorizer.fit([*data.train.first, *(data.train.second or ())])

    def features(texts: Texts) -> csr_matrix:
        first = vectorizer.transform(texts.first)
        if texts.second is None:
            return first.tocsr()
        second = vectorizer.transform(texts.second)
        # what the two have in common, beside what each says
        return hstack([first, second, first.multiply(second)]).tocsr()

    return _best_regression(data, features)


def embedding_regression(data: TextData, model: PreTrainedModel, items: Callable[[Texts], Items]) -> tuple[float, int]:
    """Logistic regression on mean-pooled states of a frozen encoder's last layer; score and parameters."""
    kept: dict[int, np.ndarray] = {}

    def features(texts: Texts) -> np.ndarray:
        return kept.setdefault(id(texts), mean_states(model, items(texts)))

    return _best_regression(data, features)


@torch.no_grad()
def mean_states(model: PreTrainedModel, items: Items) -> np.ndarray:
    """[items, width] mean of the last layer's states over real tokens."""
    model.eval()
    found = np.zeros((len(items), model.config.hidden_size), np.float32)
    for index in ordered_batches(items.lengths, 64):
        batch = assemble(items, index, model.config.pad_token_id)
        mask = batch.mask[..., None]
        found[index] = ((forward(model, batch).hidden[-1] * mask).sum(1) / mask.sum(1)).numpy()
    return found


def _best_regression(data: TextData, features: Callable[[Texts], np.ndarray | csr_matrix]) -> tuple[float, int]:
    train, select, report = (features(part) for part in (data.train, data.select, data.report))
    tried = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=2000).fit(train, data.train.labels)
        tried.append((score(data.metric, data.select.labels, model.predict(select)), -strength, model))
    best = max(tried, key=lambda one: one[:2])[2]
    return score(data.metric, data.report.labels, best.predict(report)), int(best.coef_.size + best.intercept_.size)

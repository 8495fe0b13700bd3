"""What AutoDistiller knows of a task before anything is distilled: its texts, its classes, its teacher, the student's size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stillhouse.encoders.data import TextData, Texts
from stillhouse.encoders.models import parameters
from stillhouse.encoders.training import predict, score
from stillhouse.methods.distiller.peers import tfidf_regression
from stillhouse.methods.distiller.task import Task

BINS = 10


def task_features(task: Task) -> dict[str, float]:
    """Numbers that describe the task; nothing of them looks at the report split."""
    data = task.data
    logits = predict(task.teacher.model, task.teacher_items(data.select))
    shares = _softmax(logits)
    ours = parameters(task.fresh_student(0))
    return {
        **text_features(data),
        "teacher score": score(data.metric, data.select.labels, logits.argmax(1)),
        "teacher entropy": float(-(shares * np.log(shares + 1e-12)).sum(1).mean()),
        "teacher calibration error": calibration_error(shares, data.select.labels),
        "log student parameters": float(np.log10(ours)),
        "log teacher over student": float(np.log10(parameters(task.teacher.model) / ours)),
    }


def text_features(data: TextData) -> dict[str, float]:
    """Of the texts and classes alone."""
    train = data.train
    counts = np.bincount(train.labels, minlength=len(data.class_names)) / len(train)
    words = [w.lower() for w in _words(train)]
    known, lengths = set(words), [len(t.split()) for t in train.first]
    held = [w.lower() for w in _words(data.select)]
    return {
        "log texts": float(np.log10(len(train))),
        "classes": float(len(data.class_names)),
        "class entropy": float(-(counts * np.log(np.maximum(counts, 1e-12))).sum()),
        "mean words": float(np.mean(lengths)),
        "90 % words": float(np.quantile(lengths, 0.9)),
        "distinct words": len(known) / max(1, len(words)),
        "unknown words": float(np.mean([w not in known for w in held])) if held else 0.0,
        "pairs": float(data.pairs),
        "tf-idf score": _tfidf_on_select(data),
    }


def _words(texts: Texts) -> list[str]:
    columns = (texts.first, texts.second or ())
    return [word for column in columns for text in column for word in text.split()]


def _tfidf_on_select(data: TextData) -> float:
    """What logistic regression on tf-idf reaches on the select split."""
    as_if = TextData(data.name, data.class_names, data.train, data.select, data.select, data.metric)
    return tfidf_regression(as_if)[0]


def calibration_error(shares: np.ndarray, labels: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over ten bins of confidence, weighted by their size."""
    confidence, right = shares.max(1), shares.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(np.sum(gaps))


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def vector(features: Mapping[str, float], names: tuple[str, ...]) -> np.ndarray:
    """The named features in order."""
    return np.array([features[name] for name in names], float)

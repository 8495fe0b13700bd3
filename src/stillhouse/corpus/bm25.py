"""BM25 over code and words about it: the baseline that needs no training.

s(q, d) = sum_{w in q} ln(1 + (N - n_w + 0.5) / (n_w + 0.5)) f_wd (k + 1) / (f_wd + k (1 - b + b |d| / mean |d|))
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy import sparse

SATURATION, LENGTH = 1.2, 0.75
"""k and b."""
WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


def words(text: str) -> list[str]:
    """Words of a text in lower case; names are cut where their case changes and at underscores."""
    return [word.lower() for word in WORD.findall(text)]


def bm25(queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
    """[queries, documents] scores."""
    vocabulary: dict[str, int] = {}
    counts = _counts([[vocabulary.setdefault(w, len(vocabulary)) for w in words(d)] for d in documents], vocabulary)
    asked = _counts([[vocabulary[w] for w in words(q) if w in vocabulary] for q in queries], vocabulary)
    lengths = np.asarray(counts.sum(1)).ravel()
    seen = np.diff(counts.tocsc().indptr)
    rarity = np.log1p((len(documents) - seen + 0.5) / (seen + 0.5))
    table = counts.tocoo()
    norm = SATURATION * (1 - LENGTH + LENGTH * lengths / max(lengths.mean(), 1e-9))
    weight = rarity[table.col] * table.data * (SATURATION + 1) / (table.data + norm[table.row])
    weighted = sparse.csr_matrix((weight, (table.row, table.col)), counts.shape)
    return np.asarray((asked @ weighted.T).todense())


def _counts(rows: list[list[int]], vocabulary: dict[str, int]) -> sparse.csr_matrix:
    ends = np.cumsum([0, *map(len, rows)])
    flat = np.fromiter((i for row in rows for i in row), np.int64, int(ends[-1]))
    made = sparse.csr_matrix((np.ones(len(flat)), flat, ends), (len(rows), max(1, len(vocabulary))))
    made.sum_duplicates()
    return made
